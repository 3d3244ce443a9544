"""A server and its clients in one process: real ones, but for the socket between them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import selectors
import socket
import struct
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from loadtest.bench.meter import UNMEASURED, Meter
from trickles_web.config import ClientConfig, HttpConfig, TransportConfig
from trickles_web.http.names import NAME_KEY_BYTES, Names
from trickles_web.http.runner import KeptResponse
from trickles_web.http.scope import ASGIApp
from trickles_web.http.service import Service
from trickles_web.net.endpoint import Endpoint
from trickles_web.net.udp import UdpSocket
from trickles_web.state import DirectoryStore
from trickles_web.trains import LARGEST_TRAIN, UDP_SEGMENT
from trickles_web.transport.flow import Flow
from trickles_web.transport.keys import Keyring
from trickles_web.transport.replay import ReplayFilter
from trickles_web.transport.server import Server

SERVER_ADDRESS = ("10.0.0.1", 8000)
DRAINED = 64
"""Datagrams that a client's socket has when its driver looks."""
START_MS = 1_800_000_000_000
ROUND_TRIP_S = 0.02
SHORTLY_S = 0.05
"""Timers due within this are waited for: pacing, WAIT; those that watch over silence are not."""
BATCH = 16
"""Datagrams that wait at the server when it wakes up, as under load."""

Address = tuple[str, int]


class Parcel(NamedTuple):
    """A datagram on its way, and the client's address."""

    datagram: bytes
    address: Address


def _trains(datagrams: list[bytes]) -> Iterator[tuple[bytes, int]]:
    """As UDP_GRO gives them: those of one length at once, and perhaps a shorter one at the end."""
    at = 0
    while at < len(datagrams):
        size, stop = len(datagrams[at]), at + 1
        most = min(len(datagrams), at + LARGEST_TRAIN // size)
        while stop < most and len(datagrams[stop - 1]) == size >= len(datagrams[stop]):
            stop += 1
        yield b"".join(datagrams[at:stop]), size
        at = stop


class Clock:
    """Seconds since the start, moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def wall_ms(self) -> int:
        return START_MS + int(self.now * 1000)


class MemorySocket(socket.socket):
    """Takes datagrams from `inbox`, and keeps what is sent: no system call, no loss."""

    def __init__(self) -> None:
        super().__init__(socket.AF_INET, socket.SOCK_DGRAM)
        self.inbox: deque[Parcel] = deque()
        self.sent: list[tuple[bytes, int, Address]] = []
        """Bytes, the size of a segment of them, and to whom."""

    def getsockname(self) -> Address:
        return SERVER_ADDRESS

    def recvmsg(self, *_: Any) -> tuple[bytes, list[Any], int, Address]:
        if not self.inbox:
            raise BlockingIOError
        datagram, address = self.inbox.popleft()
        return datagram, [], 0, address

    def sendto(self, data: Any, address: Any) -> int:  # type: ignore[override]
        self.sent.append((bytes(data), len(data), address))
        return len(data)

    def sendmsg(
        self,
        buffers: Iterable[Any],
        ancillary: Iterable[tuple[int, int, Any]] = (),
        flags: int = 0,
        address: Any = None,
    ) -> int:
        data = b"".join(buffers)
        segment = len(data)
        for _, kind, value in ancillary:
            if kind == UDP_SEGMENT:
                (segment,) = struct.unpack("=H", value)
        self.sent.append((data, segment, address))
        return len(data)

    def take(self) -> list[Parcel]:
        """What was sent, datagram by datagram."""
        sent, self.sent = self.sent, []
        return [
            Parcel(data[start : start + segment], address)
            for data, segment, address in sent
            for start in range(0, len(data), segment)
        ]


class _Selector(selectors.SelectSelector):
    """No descriptor is ever ready. The time that a loop would wait passes at once."""

    idle: Callable[[], None]
    """Called when the loop would wait for long."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout > SHORTLY_S:
            self.idle()
        elif timeout > 0:
            self._clock.now += timeout
        return []


class MemoryLoop(asyncio.SelectorEventLoop):
    """asyncio's loop by another clock, which runs until there is nothing left to do."""

    wake: Callable[[], None]
    """What is called when the socket has something to be read."""

    def __init__(self, clock: Clock) -> None:
        selector = _Selector(clock)
        selector.idle = self.stop
        super().__init__(selector)
        self._seconds = clock

    def time(self) -> float:
        return self._seconds.now

    def add_reader(self, fd: Any, callback: Any, *args: Any) -> None:  # type: ignore[override]
        self.wake = lambda: callback(*args)

    def remove_reader(self, fd: Any) -> bool:
        return False


class ServerEnd:
    """A server as `trickles-serve` makes it, with the store in a run directory of its own."""

    def __init__(self, app: ASGIApp, directory: Path, clock: Clock, http: HttpConfig) -> None:
        draw = random.Random(1).randbytes
        transport = TransportConfig()
        self.clock = clock
        self.loop = MemoryLoop(clock)
        self.socket = MemorySocket()
        store: DirectoryStore[KeptResponse] = DirectoryStore(directory, draw(8))
        replay = ReplayFilter(
            transport.replay_capacity, transport.replay_horizon_ms + 2 * transport.clock_skew_ms
        )
        keyring = Keyring((bytes(32),), "bench", transport.rotation_ms, draw)
        self._service = Service(
            app,
            http,
            store,
            on_ready=lambda incarnation: self.endpoint.on_ready(incarnation),
            clock=clock.wall_ms,
            names=Names((bytes(NAME_KEY_BYTES),)),
            random=draw,
            server=SERVER_ADDRESS,
        )
        self.endpoint = Endpoint(
            Server(transport, keyring, replay, 1, draw, store.id),
            self._service,
            UdpSocket(self.socket, self.loop),
            self.loop,
            clock.wall_ms,
        )
        self.endpoint.start()

    def serve(self, arrivals: list[Parcel]) -> None:
        """Hand these over, and let the server do all that it does of itself then."""
        for start in range(0, len(arrivals), BATCH):
            self.socket.inbox.extend(arrivals[start : start + BATCH])
            while self.socket.inbox:
                self.loop.call_soon(self.loop.wake)
                self.loop.run_forever()

    def close(self) -> None:
        self.endpoint.close()
        self.loop.run_until_complete(self._service.shutdown())
        self.loop.close()
        self.socket.close()


class World:
    """A server, and clients that have a round trip of 20 ms to it."""

    def __init__(self, app: ASGIApp, directory: Path, http: HttpConfig) -> None:
        self.clock = Clock()
        self.server = ServerEnd(app, directory, self.clock, http)
        self._draw = random.Random(2).randbytes
        self._number = itertools.count()
        self._flows: dict[Address, Flow] = {}
        self.carried = 0
        """Datagrams to the clients."""

    def flows(self, count: int, *, token: bytes = b"") -> dict[Address, Flow]:
        """So many new ones, none from the loopback: there datagrams would be larger."""
        made = {}
        for _ in range(count):
            number = next(self._number)
            address = (f"10.1.{number >> 8}.{number & 255}", 40_000)
            flow = Flow(self._draw(8), ClientConfig(), self.clock.now, token=token)
            made[address] = self._flows[address] = flow
        return made

    def sent_by(self, flows: dict[Address, Flow]) -> list[Parcel]:
        """What these clients send now."""
        now = self.clock.now
        return [
            Parcel(datagram, address)
            for address, flow in flows.items()
            for datagram in flow.transmit(now)
        ]

    def round(
        self, arrivals: list[Parcel], *, server: Meter = UNMEASURED, client: Meter = UNMEASURED
    ) -> list[Parcel]:
        """One round trip; what the clients send then. `server`, `client`: around what each does."""
        with server:
            self.server.serve(arrivals)
        self.clock.now += ROUND_TRIP_S
        answers = self.server.socket.take()
        self.carried += len(answers)
        with client:
            return self._take(answers)

    def _take(self, answers: list[Parcel]) -> list[Parcel]:
        """What the clients send when they get these, as a driver has them do it."""
        now = self.clock.now
        follow: list[Parcel] = []
        for start in range(0, len(answers), DRAINED):
            drained = {}
            for address, sent in itertools.groupby(answers[start : start + DRAINED], itemgetter(1)):
                drained[address] = flow = self._flows[address]
                for train, segment in _trains([parcel.datagram for parcel in sent]):
                    flow.receive_train(train, segment, now)
            for address, flow in drained.items():
                flow.read()
                follow += [Parcel(datagram, address) for datagram in flow.transmit(now)]
                flow.timeout()
        return follow

    def ask(self, flows: dict[Address, Flow], request: bytes) -> None:
        """An exchange of each, to its end. Raises RuntimeError if that takes long."""
        for flow in flows.values():
            flow.write(request)
        arrivals = self.sent_by(flows)
        while arrivals:
            arrivals = self.round(arrivals)
        if not all(flow.idle for flow in flows.values()):
            raise RuntimeError(f"not through: {dict(self.server.endpoint.counters())}")


@contextlib.contextmanager
def world(app: ASGIApp, *, parser: str = "httptools") -> Iterator[World]:
    http = HttpConfig(http=parser, lifespan="off", access_log=False)
    with tempfile.TemporaryDirectory(prefix="trickles-bench-") as directory:
        made = World(app, Path(directory), http)
        try:
            yield made
        finally:
            made.server.close()
