"""One client, honest or not, at real servers, behind a bottleneck in virtual time.

What is measured is what the servers send: a client that gets more out of them than an honest one,
on the same link with the same seed, has talked them into it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Protocol

from trickles_web.config import ClientConfig, TransportConfig
from trickles_web.testing.cluster import EPOCH_MS, repeatable_hash
from trickles_web.testing.network import OVERHEAD, Clock, Link, Path
from trickles_web.transport import wire
from trickles_web.transport.flow import Flow
from trickles_web.transport.keys import Keyring
from trickles_web.transport.note import Note
from trickles_web.transport.path_size import PathSize
from trickles_web.transport.redeemed import Redeemed, Refusal
from trickles_web.transport.replay import ReplayFilter
from trickles_web.transport.server import Server
from trickles_web.transport.wire import Kind

LINK: Final = Path(rate=1_250_000.0, delay=0.020, queue=50_000.0)
"""10 Mbit/s, 40 ms, and a queue of one bandwidth-delay product."""
WIDE: Final = Path(rate=12_500_000.0, delay=0.020, queue=1_000_000.0)
"""Ten times that, which random losses alone do not let a client fill."""
FEW: Final = 0.01
"""Losses that are rarer than this come at even distances."""
FAST: Final = Path(rate=1e9, delay=0.020, queue=1e9)
"""Which nobody fills: what is sent in a round trip is the window."""
_ZEROS: Final = memoryview(bytes(1 << 20))
_TRANSPORT: Final = TransportConfig(replay_capacity=1 << 17)


class Endless:
    """A transport.Response that never ends; its application part is as long as a file's."""

    progress = bytes(106)
    start = joins = 0
    available = wire.OPEN_END - 1
    end = None
    edition = 1
    request_wanted = 1
    open = closes = False
    authorised_at = 0

    def noted(self, stop: int) -> Note | None:
        return None

    def read(self, start: int, stop: int) -> memoryview:
        return _ZEROS[: stop - start]


@dataclass(slots=True)
class Score:
    """What the servers sent in the given time, and what that took them."""

    packets: int = 0
    bytes: int = 0
    """With IP and UDP headers."""
    peak: int = 0
    """The most bytes in any one round trip of the idle link."""
    requests: int = 0
    """Datagrams that came from the client,"""
    cpu: float = 0.0
    """and the processor time that they took the servers, in seconds."""


class EvenLosses(Link):
    """One datagram in so many is lost, at even distances: so few losses, drawn at random, would
    make what a flow gets a matter of luck.
    """

    def __init__(self, clock: Clock, path: Path) -> None:
        super().__init__(clock, path, 0.0)
        self._distance = round(1 / path.loss)
        self._passed = clock.random.randrange(self._distance)

    def _loses(self) -> bool:
        self._passed += 1
        return self._passed % self._distance == 0


class Client(Protocol):
    """Who sits at the other end."""

    def start(self) -> None: ...

    def receive(self, datagram: bytes) -> None: ...


class Virtual:
    """Servers that share a secret and no filter, a client, and the link between them."""

    def __init__(self, seed: int, path: Path, replicas: int = 1, host: str = "10.0.0.1") -> None:
        self.clock = Clock(seed)
        self.path = path
        self.score = Score()
        self._address = (host, 5000)
        self.client: Client | None = None
        self.counters: Counter[str] = Counter()
        self.servers = [self._server(number + 1) for number in range(replicas)]
        few = 0 < path.loss < FEW
        self._down = EvenLosses(self.clock, path) if few else Link(self.clock, path, path.loss)
        self._up = Link(self.clock, path, path.request_loss)
        self._sent: list[tuple[float, int]] = []

    @property
    def rtt(self) -> float:
        """Of the idle link, in seconds."""
        return 2 * self.path.delay

    def _server(self, replica: int) -> Server:
        random = self.clock.bytes
        keyring = Keyring((b"k" * 32,), "virtual", _TRANSPORT.rotation_ms, random)
        span = _TRANSPORT.replay_horizon_ms + 2 * _TRANSPORT.clock_skew_ms
        replay = ReplayFilter(_TRANSPORT.replay_capacity, span, repeatable_hash)
        return Server(_TRANSPORT, keyring, replay, replica, random, replica)

    def up(self, datagram: bytes, replica: int = 0) -> None:
        """From the client to one of the servers."""
        server = self.servers[replica]

        def arrive(_: bytes) -> None:
            began = time.process_time()
            replies = self._serve(server, datagram)
            self.score.cpu += time.process_time() - began
            self.score.requests += 1
            for reply in replies:
                self._send(reply)

        self._up.send(datagram, arrive)

    def _serve(self, server: Server, datagram: bytes) -> list[bytes]:
        now = EPOCH_MS + int(self.clock.now * 1000)
        redeemed = server.redeem(datagram, self._address, now)
        if isinstance(redeemed, Refusal):
            self.counters[redeemed.reason] += 1
            return [] if redeemed.reply is None else [redeemed.reply]
        return _answer(server, redeemed, now)

    def _send(self, datagram: bytes) -> None:
        assert self.client is not None
        if wire.kind_of(datagram) == Kind.DATA:
            size = len(datagram) + OVERHEAD
            self.score.packets += 1
            self.score.bytes += size
            self._sent.append((self.clock.now, size))
        self._down.send(datagram, self.client.receive)

    def run(self, client: Client, seconds: float) -> Score:
        """Let the client do what it does for so long."""
        self.client = client
        client.start()
        self.clock.run(lambda: False, seconds)
        self.score.peak = self._peak()
        return self.score

    def bytes_sent(self, start: float, stop: float) -> int:
        """Between these times."""
        return sum(size for at, size in self._sent if start <= at < stop)

    def _peak(self) -> int:
        most = inside = first = 0
        for at, size in self._sent:
            inside += size
            while self._sent[first][0] <= at - self.rtt:
                inside -= self._sent[first][1]
                first += 1
            most = max(most, inside)
        return most


def _answer(server: Server, redeemed: Redeemed, now: int) -> list[bytes]:
    """As servers do it: a stranger is told to come back, an UPLOAD is acknowledged."""
    reply: bytes | None = None
    if redeemed.kind is Kind.REQUEST:
        trains = server.burst(redeemed, Endless(), now)
        if trains or not redeemed.starved:
            return [datagram for train in trains for datagram in train.datagrams()]
        reply = server.come_back(redeemed, now)
    elif redeemed.kind is Kind.HELLO:
        reply = server.acknowledge(redeemed, 0, b"", now)
    elif redeemed.kind is Kind.UPLOAD:
        reply = server.acknowledge(redeemed, 1, redeemed.progress, now)
    return [] if reply is None else [reply]


class Honest:
    """The client as it is: a flow that reads without end, and knows what its path carries."""

    def __init__(self, world: Virtual) -> None:
        size = ClientConfig().max_datagram_bytes
        path = PathSize(size, size)
        self.flow = Flow(world.clock.bytes(8), ClientConfig(), 0.0, path=path)
        self._world = world
        self._wake_at: float | None = None

    def start(self) -> None:
        self.flow.write(b"x")
        self._pump()

    def receive(self, datagram: bytes) -> None:
        self.flow.receive(datagram, self._world.clock.now)
        self._pump()

    def _pump(self) -> None:
        world = self._world
        self.flow.read()
        for datagram in self.flow.transmit(world.clock.now):
            world.up(datagram, world.clock.random.randrange(len(world.servers)))
        at = self.flow.timeout()
        if at is None or (self._wake_at is not None and self._wake_at <= at):
            return
        self._wake_at = at

        def wake() -> None:
            if self._wake_at == at:
                self._wake_at = None
                self._pump()

        world.clock.after(max(0.0, at - world.clock.now), wake)


def play(
    make: Callable[[Virtual], Client],
    seed: int,
    loss: float,
    seconds: float,
    replicas: int = 1,
    path: Path = LINK,
) -> Score:
    """What servers send to such a client on a path with such a loss."""
    world = Virtual(seed, replace(path, loss=loss), replicas)
    return world.run(make(world), seconds)
