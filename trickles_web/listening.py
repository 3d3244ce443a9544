"""Taking TCP connections, and not more than there is room for."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Iterable

from trickles_web.client.relay import Warnings
from trickles_web.client.remote import SocketAddress
from trickles_web.client.url import join_authority
from trickles_web.errors import BindError

MAX_CONNECTIONS = 10_000
BACKLOG = 2048
ACCEPT_BATCH = 64
"""Connections taken in one wake-up."""
ACCEPT_PAUSE_S = 0.5
"""After the process ran out of descriptors."""

Take = Callable[[socket.socket, SocketAddress], None]
"""Has a connection from now on, a non-blocking socket; its peer is from `accept`, not from the
socket: who resets at once has none any more, and what came from nowhere would count as our own."""


class Entrance:
    """Accepts from `open` to `close`, unless there are `most` connections; `taken` counts them.

    Whoever takes them calls `left` when one of them is over.
    """

    def __init__(
        self,
        listeners: list[socket.socket],
        take: Take,
        *,
        taken: Callable[[], int],
        most: int,
        warnings: Warnings,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._listeners = listeners
        self._take = take
        self._taken = taken
        self._most = most
        self._warnings = warnings
        self._retry: asyncio.TimerHandle | None = None
        self._accepting = False

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """(host, port) of every listening socket, with the ports that port 0 became."""
        return [listener.getsockname()[:2] for listener in self._listeners]

    def open(self) -> None:
        """Accept, now or again."""
        self._retry = None
        if not self._accepting and self._listeners:
            self._accepting = True
            for listener in self._listeners:
                self._loop.add_reader(listener.fileno(), self.accept, listener)

    def close(self) -> None:
        """Stop listening; what was taken stays."""
        self._pause()
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        close_all(self._listeners)

    def left(self) -> None:
        """A connection is over: there is room for another."""
        if not self._accepting and self._retry is None and self._taken() < self._most:
            self.open()

    def accept(self, listener: socket.socket) -> None:
        """Take what waits there."""
        for _ in range(ACCEPT_BATCH):
            if self._taken() >= self._most:
                self._pause()  # until a connection has left
                return
            try:
                sock, peer = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._rest(error)
                return
            sock.setblocking(False)
            self._take(sock, peer)

    def _pause(self) -> None:
        if self._accepting:
            self._accepting = False
            for listener in self._listeners:
                self._loop.remove_reader(listener.fileno())

    def _rest(self, error: OSError) -> None:
        """Out of descriptors or memory: trying again at once would only spin."""
        self._warnings.warn(f"cannot accept: {error.strerror}")
        self._pause()
        self._retry = self._loop.call_later(ACCEPT_PAUSE_S, self.open)


async def listen(places: Iterable[tuple[str, int]]) -> list[socket.socket]:
    """Listening sockets on every address of these hosts. Raises BindError, one line."""
    listeners: list[socket.socket] = []
    try:
        for host, port in places:
            listeners.extend(await _listen(host, port))
    except BindError:
        close_all(listeners)
        raise
    return listeners


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
        close_all(listeners)
        busy = error.errno == errno.EADDRINUSE
        hint = "; stop what listens there, or choose another --listen" if busy else ""
        raise BindError(f"cannot listen on TCP {where}: {error.strerror or error}{hint}") from None
    return listeners


def close_all(listeners: list[socket.socket]) -> None:
    """And forget them."""
    while listeners:
        listeners.pop().close()
