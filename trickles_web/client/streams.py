"""The asyncio front door: `open_transport` and `open_connection`, used as asyncio's own are.

    reader, writer = await open_connection("127.0.0.1", 8000)
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    print(await reader.readuntil(b"\r\n\r\n"))
    writer.close()

Opening returns as soon as the name is resolved, for a flow begins with its first request bytes:
that no server answers shows as ConnectError when the reader is read or the writer drained.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import TypeVar

from trickles_web.client.remote import resolve
from trickles_web.client.tokens import TokenStore, default_directory
from trickles_web.client.transport import FlowTransport, connect
from trickles_web.config import ClientConfig

STREAM_LIMIT_BYTES = 64 * 1024
"""asyncio's own default: longest line, and half of what is buffered before reading pauses."""

ProtocolT = TypeVar("ProtocolT", bound=asyncio.Protocol)


@functools.cache
def default_tokens() -> TokenStore:
    """The process's store: in the user's cache directory; in memory with TRICKLES_TOKENS=off."""
    return TokenStore(default_directory())


async def open_transport(
    protocol_factory: Callable[[], ProtocolT],
    host: str,
    port: int,
    *,
    config: ClientConfig | None = None,
    family: int = 0,
    local_addr: tuple[str, int] | None = None,
    tokens: TokenStore | None = None,
) -> tuple[FlowTransport, ProtocolT]:
    """As loop.create_connection: a flow to `host:port`, and a protocol that speaks on it.

    Of several addresses the first that answers is taken; this is found out with the first request.
    Raises socket.gaierror if the name has no address, ConnectError if none of them has a route.
    """
    config = config or ClientConfig()
    remote = await resolve(host, port, config, family=family)
    protocol = protocol_factory()
    transport = connect(
        remote,
        protocol,
        config=config,
        tokens=tokens if tokens is not None else default_tokens(),
        local_addr=local_addr,
    )
    return transport, protocol


async def open_connection(
    host: str,
    port: int,
    *,
    limit: int = STREAM_LIMIT_BYTES,
    config: ClientConfig | None = None,
    family: int = 0,
    local_addr: tuple[str, int] | None = None,
    tokens: TokenStore | None = None,
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """As asyncio.open_connection, over Trickles. Errors of the flow are FlowError, an OSError."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=limit, loop=loop)
    transport, protocol = await open_transport(
        lambda: asyncio.StreamReaderProtocol(reader, loop=loop),
        host,
        port,
        config=config,
        family=family,
        local_addr=local_addr,
        tokens=tokens,
    )
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)
