"""TCP in, Trickles out: every TCP connection is one flow, byte for byte; see `client.relay`.

HTTP is never parsed, so whatever speaks HTTP over TCP works unchanged.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field

from trickles_web.client.relay import Relay, Warnings
from trickles_web.client.remote import Remote, SocketAddress, resolve
from trickles_web.client.streams import default_tokens
from trickles_web.client.tokens import TokenStore
from trickles_web.client.transport import connect
from trickles_web.client.url import join_authority
from trickles_web.config import ClientConfig
from trickles_web.errors import UsageError
from trickles_web.listening import MAX_CONNECTIONS, Entrance, listen
from trickles_web.transport.origin import pack_origin

logger = logging.getLogger("trickles.gateway")

CLOSE_GRACE_S = 1.0


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """Where a gateway listens, and for whom."""

    host: str
    """The Trickles server's, a name or an address."""
    port: int
    """Its UDP port."""
    listen: Sequence[tuple[str, int]] = (("127.0.0.1", 8080),)
    """TCP (host, port) pairs; an empty host is every interface, port 0 any free one."""
    max_connections: int = MAX_CONNECTIONS
    """Then accepting pauses, and newcomers wait in the kernel's queue."""
    client: ClientConfig = field(default_factory=ClientConfig)


class Gateway:
    """Listens and relays from `start` to `close`, within one running loop."""

    def __init__(self, config: GatewayConfig, *, tokens: TokenStore | None = None) -> None:
        self.config = config
        self._tokens = tokens or default_tokens()
        self._relay: Relay
        self._warnings: Warnings
        self._remote: Remote
        self._entrance: Entrance
        self._closed = asyncio.Event()

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """(host, port) of every listening socket, with the ports that port 0 became."""
        return self._entrance.addresses

    @property
    def connections(self) -> int:
        """TCP connections now open."""
        return len(self._relay.connections)

    async def start(self) -> None:
        """Resolve the server's name and listen. Raises BindError, and UsageError for the name."""
        loop = asyncio.get_running_loop()
        self._relay = Relay(loop, self._on_forgotten)
        self._warnings = Warnings(logger, loop.time)
        try:
            self._remote = await resolve(self.config.host, self.config.port, self.config.client)
        except OSError as error:
            why = error.strerror or error
            raise UsageError(f"cannot resolve {self.config.host!r}: {why}") from None
        self._entrance = Entrance(
            await listen(self.config.listen),
            self._take,
            taken=lambda: self.connections,
            most=self.config.max_connections,
            warnings=self._warnings,
        )
        self._entrance.open()

    async def close(self) -> None:
        """Stop at once: flows are cancelled, and the server told; open responses are reset."""
        self._entrance.close()
        await self._relay.settle(CLOSE_GRACE_S)
        if self._relay.connections:
            self._closed.clear()
            for connection in list(self._relay.connections):
                connection.end()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), CLOSE_GRACE_S)

    def _take(self, sock: socket.socket, address: SocketAddress) -> None:
        open_flow = functools.partial(
            connect,
            self._remote,
            config=self.config.client,
            tokens=self._tokens,
            origin=pack_origin(address[0], address[1]),
        )
        self._relay.take(sock, open_flow, functools.partial(self._on_failure, address))

    def _on_failure(self, address: SocketAddress, error: Exception) -> None:
        self._warnings.warn(f"{error}; resetting {join_authority(address[0], address[1])}")

    def _on_forgotten(self) -> None:
        if not self.connections:
            self._closed.set()
        self._entrance.left()
