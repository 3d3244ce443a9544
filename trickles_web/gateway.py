"""TCP in, Trickles out: every TCP connection is one flow, byte for byte; see `client.relay`.

HTTP is never parsed, so whatever speaks HTTP over TCP works unchanged.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
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
from trickles_web.errors import BindError, UsageError
from trickles_web.transport.origin import pack_origin

logger = logging.getLogger("trickles.gateway")

MAX_CONNECTIONS = 10_000
BACKLOG = 2048
ACCEPT_BATCH = 64
"""Connections taken in one wake-up."""
ACCEPT_PAUSE_S = 0.5
"""After the process ran out of descriptors."""
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
        self._loop: asyncio.AbstractEventLoop
        self._relay: Relay
        self._warnings: Warnings
        self._remote: Remote | None = None
        self._listeners: list[socket.socket] = []
        self._retry: asyncio.TimerHandle | None = None
        self._accepting = False
        self._closed = asyncio.Event()
        self._most = config.max_connections

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """(host, port) of every listening socket, with the ports that port 0 became."""
        return [listener.getsockname()[:2] for listener in self._listeners]

    @property
    def connections(self) -> int:
        """TCP connections now open."""
        return len(self._relay.connections)

    async def start(self) -> None:
        """Resolve the server's name and listen. Raises BindError, and UsageError for the name."""
        self._loop = asyncio.get_running_loop()
        self._relay = Relay(self._loop, self._on_forgotten)
        self._warnings = Warnings(logger, self._loop.time)
        try:
            self._remote = await resolve(self.config.host, self.config.port, self.config.client)
        except OSError as error:
            why = error.strerror or error
            raise UsageError(f"cannot resolve {self.config.host!r}: {why}") from None
        try:
            for host, port in self.config.listen:
                self._listeners.extend(await _listen(host, port))
        except BindError:
            _close_all(self._listeners)
            raise
        self._accept_on()

    async def close(self) -> None:
        """Stop at once: flows are cancelled, and the server told; open responses are reset."""
        self._accept_off()
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        _close_all(self._listeners)
        await self._relay.settle(CLOSE_GRACE_S)
        if self._relay.connections:
            self._closed.clear()
            for connection in list(self._relay.connections):
                connection.end()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), CLOSE_GRACE_S)

    def _accept_on(self) -> None:
        self._retry = None
        if not self._accepting and self._listeners:
            self._accepting = True
            for listener in self._listeners:
                self._loop.add_reader(listener.fileno(), self._accept, listener)

    def _accept_off(self) -> None:
        if self._accepting:
            self._accepting = False
            for listener in self._listeners:
                self._loop.remove_reader(listener.fileno())

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(ACCEPT_BATCH):
            if self.connections >= self._most:
                self._accept_off()  # until a connection is forgotten
                return
            try:
                sock, peer = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._pause_accepting(error)
                return
            sock.setblocking(False)
            self._take(sock, peer)

    def _pause_accepting(self, error: OSError) -> None:
        """Out of descriptors or memory: trying again at once would only spin."""
        self._warnings.warn(f"cannot accept: {error.strerror}")
        self._accept_off()
        self._retry = self._loop.call_later(ACCEPT_PAUSE_S, self._accept_on)

    def _take(self, sock: socket.socket, address: SocketAddress) -> None:
        """`address`: from `accept`, not from the socket: who resets at once has none any more, and
        a request that came from nowhere would count as the gateway's own."""
        assert self._remote is not None, "start() comes first"
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
        if not self._accepting and self._retry is None and self.connections < self._most:
            self._accept_on()


async def _listen(host: str, port: int) -> list[socket.socket]:
    """Listening sockets on every address of the host. Raises BindError, one line."""
    loop = asyncio.get_running_loop()
    where = join_authority(host, port)
    listeners: list[socket.socket] = []
    try:
        found = await loop.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        for family, address in dict.fromkeys((entry[0], entry[4]) for entry in found):
            listener = socket.socket(family, socket.SOCK_STREAM)
            listeners.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
            listener.setblocking(False)
    except OSError as error:
        _close_all(listeners)
        busy = error.errno == errno.EADDRINUSE
        hint = "; stop what listens there, or choose another --listen" if busy else ""
        raise BindError(f"cannot listen on TCP {where}: {error.strerror or error}{hint}") from None
    return listeners


def _close_all(listeners: list[socket.socket]) -> None:
    while listeners:
        listeners.pop().close()
