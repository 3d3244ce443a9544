"""The local end of a flow: a connected UDP socket that can be replaced under it.

Replaced by one on a fresh port, when the network seems to have forgotten the old one (a stale NAT
entry); and, before the first answer, by one towards the server's next address.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable

from trickles_web.client.sockets import Remote, open_socket
from trickles_web.errors import ConnectError

QUEUE_DATAGRAMS = 1024
"""Waiting for a full socket buffer to drain; more are dropped, as the network would do."""


class Port:
    """Reports through two callbacks: `on_readable`, and `on_refused` for ICMP port unreachable.

    Raises ConnectError when made, if no address of the server has a route.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        remote: Remote,
        local: tuple[str, int] | None,
        on_readable: Callable[[], None],
        on_refused: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._remote = remote
        self._local = local
        self._on_readable = on_readable
        self._on_refused = on_refused
        self._queue: deque[bytes] = deque()
        self.socket, self._address = open_socket(remote, 0, local)
        loop.add_reader(self.socket.fileno(), on_readable)

    def send(self, datagrams: Iterable[bytes]) -> None:
        """Send, in order. Failures other than a full buffer are lost datagrams."""
        for datagram in datagrams:
            if self._queue:
                if len(self._queue) < QUEUE_DATAGRAMS:
                    self._queue.append(datagram)
            elif not self._try_send(datagram):
                self._queue.append(datagram)
                self._loop.add_writer(self.socket.fileno(), self._on_writable)

    def _try_send(self, datagram: bytes) -> bool:
        """False if the socket's buffer is full."""
        # Linux reports an earlier datagram's ICMP error instead of sending this one: try again.
        for _ in range(2):
            try:
                self.socket.send(datagram)
            except BlockingIOError:
                return False
            except ConnectionRefusedError:
                self._on_refused()
                continue
            except OSError:
                pass
            break
        return True

    def _on_writable(self) -> None:
        sock = self.socket
        while self._queue and self._try_send(self._queue[0]):
            if self.socket is not sock:  # replaced because of a refusal, the queue with it
                return
            self._queue.popleft()
        if not self._queue:
            self._loop.remove_writer(sock.fileno())

    def reopen(self, *, next_address: bool = False) -> None:
        """A fresh socket; the old one stays if there is no route or no descriptor."""
        local = None if self._local is None else (self._local[0], 0)
        try:
            sock, address = open_socket(self._remote, self._address + next_address, local)
        except ConnectError:
            return
        self.close()
        self.socket, self._address = sock, address
        self._loop.add_reader(sock.fileno(), self._on_readable)

    def listen_again(self) -> None:
        """libuv stops watching a socket that an ICMP error has marked."""
        self._loop.remove_reader(self.socket.fileno())
        self._loop.add_reader(self.socket.fileno(), self._on_readable)

    def close(self) -> None:
        """What still waits to be sent is lost."""
        self._loop.remove_reader(self.socket.fileno())
        if self._queue:
            self._loop.remove_writer(self.socket.fileno())
            self._queue.clear()
        self.socket.close()
