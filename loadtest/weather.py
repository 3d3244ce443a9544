"""A path that misbehaves: a relay between UDP clients and replicas, in a thread.

    client -> relay's port -> a socket for each client -> any of the replicas, at random
                                  ^ answers of whichever replica

To the servers, a client's address is that of its socket here: `move` gives all of them others, as a
change of network or a NAT that was restarted does. What is set counts from the next datagram on.
"""

from __future__ import annotations

import heapq
import random
import selectors
import socket
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from trickles_web.errors import WireError
from trickles_web.transport import wire

HOST = "127.0.0.1"
LARGEST = 65_535
MOST_CLIENTS = 512
"""Sockets at a time; the one longest unused goes first."""
DRAIN = 64
"""Datagrams of one socket before the others have their turn."""
BUFFER_BYTES = 4 << 20

Address = tuple[str, int]


@dataclass(slots=True)
class Weather:
    """Shares are probabilities for each datagram."""

    loss: float = 0.01
    corrupt: float = 0.0
    """Lost, as UDP's checksum has it; but a server gets what has another bit in its seal."""
    late: float = 0.0
    late_s: float = 1.0
    """The latest that such a one comes."""
    repeated: float = 0.0
    copies: int = 10
    """What comes of a repeated one."""
    largest: int = LARGEST
    """Bytes of payload that pass; anything larger vanishes."""


@dataclass(slots=True, order=True)
class _Late:
    due: float
    sock: socket.socket = field(compare=False)
    datagram: bytes = field(compare=False)
    address: Address = field(compare=False)


class Path(threading.Thread):
    """See the module. A context manager; `port` is where clients find it."""

    def __init__(self, replicas: Sequence[Address], seed: int) -> None:
        super().__init__(daemon=True)
        self.weather = Weather()
        self.counters: Counter[str] = Counter()
        self._replicas = list(replicas)
        self._chance = random.Random(seed)
        self._selector = selectors.DefaultSelector()
        self._outer = self._bound(HOST)
        self.port: int = self._outer.getsockname()[1]
        self._inner: dict[Address, socket.socket] = {}
        self._late: list[_Late] = []
        self._host, self._move, self._ended = 1, False, False

    def __enter__(self) -> Path:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended = True
        self.join()
        for sock in (self._outer, *self._inner.values()):
            sock.close()
        self._selector.close()

    def move(self) -> None:
        """All clients have another address from now on."""
        self._move = True

    def run(self) -> None:
        while not self._ended:
            due = self._late[0].due - time.monotonic() if self._late else 0.05
            for key, _ in self._selector.select(max(0.0, min(due, 0.05))):
                self._drain(key.fileobj, key.data)
            if self._move:
                self._move = False
                self._rebind()
            while self._late and self._late[0].due <= time.monotonic():
                late = heapq.heappop(self._late)
                self._send(late.sock, late.datagram, late.address)

    def _bound(self, host: str, client: Address | None = None) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
        sock.bind((host, 0))
        sock.setblocking(False)
        self._selector.register(sock, selectors.EVENT_READ, client)
        return sock

    def _close(self, sock: socket.socket) -> None:
        self._selector.unregister(sock)
        sock.close()

    def _rebind(self) -> None:
        self._host = self._host % 250 + 1
        for client, sock in self._inner.items():
            self._close(sock)
            self._inner[client] = self._bound(f"127.0.1.{self._host}", client)

    def _of(self, client: Address) -> socket.socket:
        """The socket that speaks for a client; the one used last is at the end."""
        sock = self._inner.pop(client, None)
        if sock is None:
            if len(self._inner) >= MOST_CLIENTS:
                self._close(self._inner.pop(next(iter(self._inner))))
            host = HOST if self._host == 1 else f"127.0.1.{self._host}"
            sock = self._bound(host, client)
        self._inner[client] = sock
        return sock

    def _drain(self, sock: object, client: Address | None) -> None:
        assert isinstance(sock, socket.socket)
        for _ in range(DRAIN):
            try:
                datagram, source = sock.recvfrom(LARGEST)
            except BlockingIOError:
                return
            except OSError:  # a replica is away, or this socket has just been closed
                continue
            if client is None:
                target = self._chance.choice(self._replicas)
                self._carry(self._of(source), datagram, target)
            else:
                self._carry(self._outer, datagram, client)

    def _carry(self, sock: socket.socket, datagram: bytes, address: Address) -> None:
        weather, draw = self.weather, self._chance.random
        self.counters["datagrams"] += 1
        if len(datagram) > weather.largest:
            self.counters["too large"] += 1
        elif draw() < weather.loss:
            self.counters["lost"] += 1
        elif draw() < weather.corrupt:
            self.counters["corrupted"] += 1
            if sock is not self._outer:
                self._send(sock, self._damaged(datagram), address)
        else:
            copies = 1
            if draw() < weather.repeated:
                self.counters["repeated"] += 1
                copies = weather.copies
            for _ in range(copies):
                self._post(sock, datagram, address)

    def _post(self, sock: socket.socket, datagram: bytes, address: Address) -> None:
        weather = self.weather
        if self._chance.random() < weather.late:
            self.counters["late"] += 1
            due = time.monotonic() + self._chance.random() * weather.late_s
            heapq.heappush(self._late, _Late(due, sock, datagram, address))
        else:
            self._send(sock, datagram, address)

    def _damaged(self, datagram: bytes) -> bytes:
        """One bit of the continuation is another; of a datagram without one, its kind."""
        at, length = 0, 1
        try:
            if datagram[0] & 15 == wire.Kind.REQUEST:
                sealed = wire.decode_request(datagram).continuation
                at, length = datagram.index(sealed), len(sealed)
        except WireError:
            pass
        changed = bytearray(datagram)
        changed[at + self._chance.randrange(length)] ^= 1 << self._chance.randrange(8)
        return bytes(changed)

    def _send(self, sock: socket.socket, datagram: bytes, address: Address) -> None:
        try:
            sock.sendto(datagram, address)
        except OSError:  # no room, nobody there, or the client has another socket by now
            self.counters["not sent"] += 1
