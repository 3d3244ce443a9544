"""A proxy within the test's loop, and clients of it that say exactly what they are told."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from trickles_web.client.tokens import TokenStore
from trickles_web.listening import listen
from trickles_web.proxy.proxy import Proxy, ProxyConfig

HOST = "127.0.0.1"
CREDENTIAL = b"trickles:open sesame"
PASS = b"Proxy-Authorization: Basic " + base64.b64encode(CREDENTIAL) + b"\r\n"


@contextlib.asynccontextmanager
async def a_proxy(**settings: Any) -> AsyncIterator[Proxy]:
    proxy = Proxy(ProxyConfig(CREDENTIAL, **settings), tokens=TokenStore())
    proxy.start(await listen([(HOST, 0)]))
    try:
        yield proxy
    finally:
        await proxy.close()
        assert proxy.connections == 0


class Client:
    """A connection to a proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def says(self, *parts: bytes) -> None:
        self.writer.write(b"".join(parts))

    def asks(self, url: str, *fields: bytes, method: str = "GET", body: bytes = b"") -> None:
        """A whole request."""
        lines = b"".join(field + b"\r\n" for field in fields)
        if body:
            lines += b"Content-Length: %d\r\n" % len(body)
        self.says(f"{method} {url} HTTP/1.1\r\nHost: test\r\n".encode(), PASS, lines, b"\r\n", body)

    async def head(self) -> bytes:
        """Of the next response, with the empty line."""
        return await self.reader.readuntil(b"\r\n\r\n")

    async def hears(self) -> tuple[int, bytes]:
        """The next response, which has a Content-Length."""
        head = (await self.head()).lower()
        length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0])
        return int(head.split()[1]), await self.reader.readexactly(length)


@contextlib.asynccontextmanager
async def client_of(proxy: Proxy) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection(*proxy.addresses[0])
    try:
        yield Client(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def until_alone(proxy: Proxy) -> None:
    """No client is there any more."""
    while proxy.connections:
        await asyncio.sleep(0.01)
