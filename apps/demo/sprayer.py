"""A balancer of datagrams that remembers nothing: each one of a client goes to any server.

What nginx or nft do for a service (see `deploy/`), without root. Whether a server lives is not
looked at: what is sent to a dead one is lost. Each client has a socket towards the servers, which
is how replies find their way back; a client that lost it to others gets a new one with its next
datagram.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Address = tuple[str, int]
HOST = "127.0.0.1"
MOST_CLIENTS = 256
LONGEST_DATAGRAM = 65_535
BATCH = 64
"""Datagrams taken in one wake-up."""
BUFFER_BYTES = 4 << 20
"""For the burst of a whole window; the kernel may give less."""


@dataclass(slots=True)
class Count:
    """Of one server, since the beginning."""

    asked: int = 0
    """Datagrams that went to it,"""
    answered: int = 0
    """and those that came from it."""


class Sprayer:
    """Works from its making, in the running event loop, to `close`."""

    def __init__(
        self,
        port: int,
        servers: Sequence[Address],
        choose: Callable[[Sequence[Address]], Address] = random.choice,
    ) -> None:
        """Listens on this port of the loopback; 0: any. Raises OSError."""
        self._loop = asyncio.get_running_loop()
        self._servers = tuple(servers)
        self._choose = choose
        self.counts = {server: Count() for server in self._servers}
        self._to_servers: OrderedDict[Address, socket.socket] = OrderedDict()
        """By client, the one that was longest silent first."""
        self._front = _bound(port)
        self.address: Address = self._front.getsockname()
        self._loop.add_reader(self._front, self._from_clients)

    @property
    def clients(self) -> int:
        """That have a socket."""
        return len(self._to_servers)

    def close(self) -> None:
        while self._to_servers:
            self._forget(next(iter(self._to_servers)))
        self._loop.remove_reader(self._front)
        self._front.close()

    def _from_clients(self) -> None:
        for _ in range(BATCH):
            try:
                datagram, client = self._front.recvfrom(LONGEST_DATAGRAM)
            except OSError:  # nothing more, or a client that is gone
                return
            server = self._choose(self._servers)
            self.counts[server].asked += 1
            with contextlib.suppress(OSError):  # the queue is full: lost, as in any network
                self._towards(client).sendto(datagram, server)

    def _from_servers(self, back: socket.socket, client: Address) -> None:
        for _ in range(BATCH):
            try:
                datagram, server = back.recvfrom(LONGEST_DATAGRAM)
            except OSError:
                return
            if server in self.counts:  # anybody on this machine can write to that port
                self.counts[server].answered += 1
                with contextlib.suppress(OSError):
                    self._front.sendto(datagram, client)

    def _towards(self, client: Address) -> socket.socket:
        """The client's socket. Raises OSError."""
        if client not in self._to_servers:
            if len(self._to_servers) == MOST_CLIENTS:
                self._forget(next(iter(self._to_servers)))
            back = self._to_servers[client] = _bound(0)
            self._loop.add_reader(back, self._from_servers, back, client)
        self._to_servers.move_to_end(client)
        return self._to_servers[client]

    def _forget(self, client: Address) -> None:
        back = self._to_servers.pop(client)
        self._loop.remove_reader(back)
        back.close()


def _bound(port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        for buffer in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            sock.setsockopt(socket.SOL_SOCKET, buffer, BUFFER_BYTES)
        sock.bind((HOST, port))
    except OSError:
        sock.close()
        raise
    return sock
