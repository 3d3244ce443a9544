"""A balancer of datagrams that knows no connections: each one of a client goes to any server.

What nginx or nft do for a service (see `deploy/`), without root. As with nginx, a server whose port
is closed rests for a while; what it was sent is lost. Each client has a socket towards the servers,
which is how replies find their way back, and a line of its own, which they come over; one that lost
these to others gets new ones with its next datagram.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from apps.demo.line import Line

Address = tuple[str, int]
HOST = "127.0.0.1"
MOST_CLIENTS = 256
READ_BYTES = 65_535
REST_S = 1.0
IP_RECVERR = 11
"""linux/in.h: errors of a socket that is not connected are told, too, and whom they are of."""
ERROR_BYTES = 512
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


@dataclass(frozen=True, slots=True)
class Client:
    """What is kept for one."""

    to_servers: socket.socket
    line: Line


class Sprayer:
    """Works from its making, in the running event loop, to `close`."""

    def __init__(
        self,
        port: int,
        servers: Sequence[Address],
        rate: int,
        choose: Callable[[Sequence[Address]], Address] = random.choice,
    ) -> None:
        """Listens on this port of the loopback; 0: any. Raises OSError.

        rate: of a client's line, in bytes a second.
        """
        self._loop = asyncio.get_running_loop()
        self._servers = tuple(servers)
        self._rate = rate
        self._choose = choose
        self.counts = {server: Count() for server in self._servers}
        self._rests_until = dict.fromkeys(self._servers, 0.0)
        """In the loop's seconds."""
        self._clients: OrderedDict[Address, Client] = OrderedDict()
        """By address, the one that was silent for longest first."""
        self._front = _bound(port)
        self.address: Address = self._front.getsockname()
        self._loop.add_reader(self._front, self._from_clients)

    @property
    def clients(self) -> int:
        """How many are known."""
        return len(self._clients)

    def close(self) -> None:
        while self._clients:
            self._forget_one()
        self._loop.remove_reader(self._front)
        self._front.close()

    def _from_clients(self) -> None:
        for _ in range(BATCH):
            try:
                datagram, address = self._front.recvfrom(READ_BYTES)
            except OSError:  # nothing more
                return
            server = self._choose(self._working())
            self.counts[server].asked += 1
            with contextlib.suppress(OSError):  # the queue is full: lost, as in any network
                self._send(self._client(address).to_servers, datagram, server)

    def _send(self, to_servers: socket.socket, datagram: bytes, server: Address) -> None:
        """Raises OSError."""
        try:
            to_servers.sendto(datagram, server)
        except ConnectionRefusedError:  # what was sent before, not this
            self._refused(to_servers)
            to_servers.sendto(datagram, server)

    def _working(self) -> Sequence[Address]:
        """Those that do not rest; all, if all do."""
        now = self._loop.time()
        return [one for one in self._servers if self._rests_until[one] <= now] or self._servers

    def _from_servers(self, client: Client) -> None:
        for _ in range(BATCH):
            try:
                datagram, server = client.to_servers.recvfrom(READ_BYTES)
            except OSError:  # nothing more, or a server that is dead
                self._refused(client.to_servers)
                return
            if server in self.counts:  # anybody on this machine can write to that port
                self.counts[server].answered += 1
                client.line.put(datagram)

    def _refused(self, to_servers: socket.socket) -> None:
        """The kernel has kept, with each error, where that datagram had been sent."""
        with contextlib.suppress(OSError):
            while True:
                *_, server = to_servers.recvmsg(0, ERROR_BYTES, socket.MSG_ERRQUEUE)
                if server in self._rests_until:
                    self._rests_until[server] = self._loop.time() + REST_S

    def _client(self, address: Address) -> Client:
        """Raises OSError if there is no socket for it."""
        if address not in self._clients:
            if len(self._clients) == MOST_CLIENTS:
                self._forget_one()
            to_servers = _bound(0)
            to_servers.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
            line = Line(self._rate, lambda reply: self._reply(reply, address))
            client = self._clients[address] = Client(to_servers, line)
            self._loop.add_reader(client.to_servers, self._from_servers, client)
        self._clients.move_to_end(address)
        return self._clients[address]

    def _reply(self, datagram: bytes, address: Address) -> None:
        with contextlib.suppress(OSError):
            self._front.sendto(datagram, address)

    def _forget_one(self) -> None:
        _, client = self._clients.popitem(last=False)
        self._loop.remove_reader(client.to_servers)
        client.to_servers.close()
        client.line.close()


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
