"""Flows and replicas on the simulated network: the real transport, a tiny application.

The application: a request is 16 bytes (seed, response length, body length, pause) and a body; the
response to it is a byte string that follows from the seed, so any replica can produce any part of
it, and a test can check every byte. Its soft state is what a server's is: spooled request bytes,
parked requests, the replay filter. `wipe` forgets all of it.
"""

from __future__ import annotations

import hashlib
import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import pytest

from trickles_web.config import ClientConfig, TransportConfig
from trickles_web.testing.cluster import EPOCH_MS, IDENTITY, repeatable_hash, stranger
from trickles_web.testing.network import Clock, Link, Path
from trickles_web.transport.flow import Flow
from trickles_web.transport.keys import Keyring
from trickles_web.transport.note import Note
from trickles_web.transport.private.channel import Privacy
from trickles_web.transport.private.exchange import Exchange
from trickles_web.transport.private.flow import PrivateFlow, ServerKeys
from trickles_web.transport.ranges import RangeSet
from trickles_web.transport.redeemed import Redeemed, Refusal
from trickles_web.transport.replay import ReplayFilter
from trickles_web.transport.server import Server
from trickles_web.transport.wire import Kind

_REQUEST = struct.Struct(">IIII")
_PROGRESS = struct.Struct(">IQQQII")
_BLOCK = hashlib.shake_256(b"what a response is made of").digest(1 << 16)
_ENDLESS = _BLOCK * 3


def content(seed: int, start: int, stop: int) -> bytes:
    """Bytes [start, stop) of the response that a seed stands for."""
    pieces = []
    while start < stop:
        at = (start + seed * 7919) % len(_BLOCK)
        n = min(stop - start, 2 * len(_BLOCK))
        pieces.append(_ENDLESS[at : at + n])
        start += n
    return b"".join(pieces)


def request_for(seed: int, length: int, body: int = 0, pause_ms: int = 0) -> bytes:
    return _REQUEST.pack(seed, length, body, pause_ms) + content(seed ^ 1, 0, body)


class Progress(NamedTuple):
    """The application part: which request, where its response starts, when it was ready."""

    seed: int
    request_start: int
    request_end: int
    response_start: int
    length: int
    pause_ms: int


class Answerable:
    """A transport.Response: bytes follow from the progress alone."""

    open = closes = False
    authorised_at = 0

    def __init__(self, progress: Progress, available: int, sealed_bytes: int) -> None:
        self.sealed = progress
        self.progress = _PROGRESS.pack(*progress).ljust(sealed_bytes, b"\0")
        self.start = progress.response_start
        self.available = progress.response_start + available
        self.end: int | None = progress.response_start + progress.length
        self.edition = progress.seed + 1
        self.request_wanted = progress.request_end

    @property
    def joins(self) -> int:
        return self.start

    def noted(self, stop: int) -> Note | None:
        return None

    def read(self, start: int, stop: int) -> bytes:
        return content(self.sealed.seed, start - self.start, stop - self.start)


class Spool:
    def __init__(self) -> None:
        self.held = RangeSet()
        self.bytes: dict[int, bytes] = {}
        self.head = b""


@dataclass
class Config:
    path: Path = field(default_factory=Path)
    replicas: int = 1
    wipe_every: float = 0.0
    """Mean seconds between wipes of a replica's soft state, in exchanges' time; 0: never."""
    kill_every: float = 0.0
    dead_for: float = 0.3
    longest_delay: float = 0.0
    """Seconds that a datagram waits at a replica, at most: for the processor, or on its own way."""
    delayed: float = 1.0
    """Share of those that wait."""
    sealed_bytes: int = 0
    """Of the application part, at least: that of a file under trickles-serve has about 106."""
    transport: TransportConfig = field(
        default_factory=lambda: TransportConfig(replay_capacity=1 << 14)
    )
    client: ClientConfig = field(default_factory=ClientConfig)
    private: ClassVar[bool] = False
    """Are the flows private? Of all worlds: see `conftest`."""
    exchange: Exchange = Exchange.X25519


class Replica:
    """One server process: it can be killed, and comes back with empty memory."""

    def __init__(self, world: World, name: int) -> None:
        self.world = world
        self.name = name
        self.alive = True
        self.secrets: tuple[bytes, ...] = (b"k" * 32,)
        """It has these from its next start on."""
        self.totals: Counter[str] = Counter()
        self.start()

    def start(self) -> None:
        clock, config = self.world.clock, self.world.config.transport
        keyring = Keyring(self.secrets, "simulation", config.rotation_ms, clock.bytes)
        span = config.replay_horizon_ms + 2 * config.clock_skew_ms
        self.replay = ReplayFilter(config.replay_capacity, span, repeatable_hash)
        number = int.from_bytes(clock.bytes(4), "big")
        privacy = Privacy(keyring, IDENTITY.credentials, clock.bytes, [self.world.config.exchange])
        self.server = Server(config, keyring, self.replay, number, clock.bytes, number, privacy)
        self.spools: dict[tuple[int, int], Spool] = {}
        self.parked: dict[int, Redeemed] = {}

    def wipe(self) -> None:
        self.replay.wipe()
        self.spools.clear()
        self.parked.clear()

    def kill(self) -> None:
        self.totals += self.server.counters
        self.alive = False

    def receive(self, datagram: bytes, address: tuple[str, int]) -> None:
        if not self.alive:
            return
        now = self.world.wall()
        redeemed = self.server.redeem(datagram, address, now)
        if isinstance(redeemed, Refusal):
            if redeemed.reply is not None:
                self.world.down(redeemed.reply, address)
            return
        self.serve(redeemed)

    def inspect(self, datagram: bytes, address: tuple[str, int]) -> None:
        """What a damaged datagram does: it must not raise."""
        self.server.redeem(datagram, address, self.world.wall())

    def serve(self, redeemed: Redeemed) -> None:
        now, server = self.world.wall(), self.server
        if redeemed.kind is Kind.CANCEL:
            self.parked.pop(redeemed.incarnation, None)
            return
        progress = self.understand(redeemed)
        if isinstance(progress, int):
            reply = server.acknowledge(redeemed, progress, redeemed.progress, now)
            if reply is not None:
                self.world.down(reply, redeemed.address)
            return
        if progress is None:
            return
        if redeemed.kind is Kind.UPLOAD:
            packed = _PROGRESS.pack(*progress)
            reply = server.acknowledge(redeemed, progress.request_end, packed, now, complete=True)
            if reply is not None:
                self.world.down(reply, redeemed.address)
            parked = self.parked.pop(redeemed.incarnation, None)
            if parked is not None:
                self.serve(parked)
            return
        available, next_at = self.available(progress)
        response = Answerable(progress, available, self.world.config.sealed_bytes)
        trains = server.burst(redeemed, response, now)
        for train in trains:
            for datagram in train.datagrams():
                self.world.down(datagram, redeemed.address)
        if not trains and redeemed.starved:
            reply = server.come_back(redeemed, now)
            if reply is not None:
                self.world.down(reply, redeemed.address)
        elif not trains and redeemed.answers and next_at is not None:
            self.park(redeemed, next_at)

    def available(self, progress: Progress) -> tuple[int, float | None]:
        """A response with a pause comes in ten pieces, by the clock that all replicas share."""
        if not progress.pause_ms:
            return progress.length, None
        world, piece = self.world, max(1, progress.length // 10)
        begun = world.begun.setdefault((progress.seed, progress.response_start), world.clock.now)
        pieces = int((world.clock.now - begun) * 1000 / progress.pause_ms)
        ready = progress.length if pieces >= 10 else min(progress.length, pieces * piece)
        if ready == progress.length:
            return ready, None
        return ready, begun + (pieces + 1) * progress.pause_ms / 1000 + 1e-6

    def park(self, redeemed: Redeemed, until: float) -> None:
        world = self.world
        self.parked[redeemed.incarnation] = redeemed
        reply = self.server.wait(redeemed, 250, world.wall())
        if reply is not None:
            world.down(reply, redeemed.address)

        def wake() -> None:
            if self.alive and self.parked.get(redeemed.incarnation) is redeemed:
                del self.parked[redeemed.incarnation]
                self.serve(redeemed)

        world.clock.after(max(0.0, until - world.clock.now), wake)

    def understand(self, redeemed: Redeemed) -> Progress | int | None:
        """The exchange a datagram is about; an int: request bytes held so far; None: answered."""
        sealed = redeemed.progress[: _PROGRESS.size]
        progress = Progress(*_PROGRESS.unpack(sealed)) if sealed else None
        start = progress.request_end if progress else 0
        response_start = progress.response_start + progress.length if progress else 0
        fresh_bytes = redeemed.request_bytes and redeemed.request_offset >= start
        if progress and not fresh_bytes:
            return progress
        if redeemed.kind is Kind.HELLO and not redeemed.may_run:
            return 0
        if redeemed.kind is not Kind.HELLO and not redeemed.validated:
            return start
        data = redeemed.request_bytes
        if redeemed.request_offset == start and len(data) >= _REQUEST.size:
            seed, length, body, pause = _REQUEST.unpack_from(data)
            whole = _REQUEST.size + body
            if len(data) >= whole:
                end = start + whole
                return Progress(seed, start, end, response_start, length, pause)
        return self.spool(redeemed, start, response_start)

    def spool(self, redeemed: Redeemed, start: int, response_start: int) -> Progress | int | None:
        if redeemed.kind is Kind.HELLO:
            return start
        spool = self.spools.setdefault((redeemed.incarnation, start), Spool())
        if redeemed.kind is Kind.REQUEST:
            self.parked[redeemed.incarnation] = redeemed
        at = redeemed.request_offset
        spool.bytes[at] = redeemed.request_bytes
        spool.held.add(at, at + len(redeemed.request_bytes))
        missing = list(spool.held.missing(start, at))
        if missing:
            need = self.server.need(redeemed, missing)
            if need is not None:
                self.world.down(need, redeemed.address)
            return None
        held = next(iter(spool.held))[1]
        data = b"".join(spool.bytes[k] for k in sorted(spool.bytes))
        seed, length, body, pause = _REQUEST.unpack_from(data)
        end = start + _REQUEST.size + body
        if held < end:
            return held
        self.world.uploads.append((seed, body))
        if redeemed.request_digest is not None and held == end:
            whole = request_for(seed, length, body, pause)
            assert redeemed.request_digest == hashlib.blake2b(whole, digest_size=8).digest()
        return Progress(seed, start, end, response_start, length, pause)


class Client:
    """One flow that makes its exchanges one after the other, and checks every byte."""

    def __init__(self, world: World, name: int, exchanges: Sequence[tuple[int, int, int]]) -> None:
        self.world = world
        self.address = (f"10.0.{name >> 8}.{name & 255}", 5000)
        self.exchanges = list(exchanges)
        self.done = False
        self.wrong = 0
        self.got = 0
        self.current = -1
        self.flow = self.new_flow()
        self.wake_at: float | None = None

    def new_flow(self, token: bytes = b"", server: ServerKeys | None = None) -> Flow:
        """server: as it is known already."""
        world, config = self.world, self.world.config
        name, now = world.clock.bytes(8), world.clock.now
        if not config.private:
            return Flow(name, config.client, now, token=token)
        return PrivateFlow(
            name,
            config.client,
            now,
            server or stranger(world.wall, config.exchange),
            world.clock.bytes,
            exchange=config.exchange,
            token=token,
        )

    def start(self) -> None:
        self.following()
        self.pump()

    def following(self) -> None:
        self.current += 1
        self.got = 0
        if self.current == len(self.exchanges):
            self.done = True
            self.world.finished += 1
            return
        length, body, pause = self.exchanges[self.current]
        self.flow.write(request_for(self.seed, length, body, pause))

    @property
    def seed(self) -> int:
        return self.current + 1000 * (int(self.address[0].rsplit(".", 1)[1]) + 1)

    def receive(self, datagram: bytes) -> None:
        if not self.done:
            self.flow.receive(datagram, self.world.clock.now)
            self.pump()

    def pump(self) -> None:
        while True:
            data = self.flow.read()
            if data:
                self.world.delivered += len(data)
                self.take(data)
                self.got += len(data)
            if not self.done and self.current >= 0:
                whole = self.got == self.exchanges[self.current][0]
                if whole and self.flow.idle:
                    self.following()
                    continue
            break
        for datagram in self.flow.transmit(self.world.clock.now):
            self.world.up(datagram, self)
        self.arm()

    def take(self, data: bytes) -> None:
        if data != content(self.seed, self.got, self.got + len(data)):
            self.wrong += 1

    def arm(self) -> None:
        at = self.flow.timeout()
        if self.done or at is None or (self.wake_at is not None and self.wake_at <= at):
            return
        self.wake_at = at

        def wake() -> None:
            if self.wake_at == at:
                self.wake_at = None
                if not self.done:
                    self.pump()

        self.world.clock.after(max(0.0, at - self.world.clock.now), wake)


class World:
    """Clients, replicas, and the network between them."""

    def __init__(self, seed: int, config: Config) -> None:
        self.seed = seed
        self.config = config
        self.clock = Clock(seed)
        self.clients: dict[tuple[str, int], Client] = {}
        self.begun: dict[tuple[int, int], float] = {}
        self.uploads: list[tuple[int, int]] = []
        self.finished = 0
        self.delivered = 0
        self.down_link = Link(self.clock, config.path, config.path.loss)
        self.up_link = Link(self.clock, config.path, config.path.request_loss)
        self.replicas = [Replica(self, i) for i in range(config.replicas)]
        if config.wipe_every:
            self._later(config.wipe_every, self._wipe)
        if config.kill_every:
            self._later(config.kill_every, self._kill)

    def wall(self) -> int:
        return EPOCH_MS + int(self.clock.now * 1000)

    def add(self, exchanges: Sequence[tuple[int, int, int]], at: float = 0.0) -> Client:
        client = Client(self, len(self.clients), exchanges)
        self.clients[client.address] = client
        self.clock.after(at, client.start)
        return client

    def up(self, datagram: bytes, client: Client) -> None:
        replica = self.clock.random.choice(self.replicas)

        def arrive(datagram: bytes) -> None:
            if self.config.longest_delay and self.clock.random.random() < self.config.delayed:
                wait = self.clock.random.uniform(0, self.config.longest_delay)
                self.clock.after(wait, lambda: replica.receive(datagram, client.address))
            else:
                replica.receive(datagram, client.address)

        self.up_link.send(
            datagram,
            arrive,
            lambda d: replica.inspect(d, client.address),
        )

    def down(self, datagram: bytes, address: tuple[str, int]) -> None:
        client = self.clients[address]
        self.down_link.send(datagram, client.receive)

    def run(self, limit: float = 600.0) -> bool:
        """Until every client is done, or has failed."""
        return self.clock.run(self._over, limit)

    def _over(self) -> bool:
        return self.finished == len(self.clients)

    def _later(self, mean: float, action: object) -> None:
        assert callable(action)
        self.clock.after(self.clock.random.expovariate(1 / mean), action)

    def _wipe(self) -> None:
        self.clock.random.choice(self.replicas).wipe()
        self._later(self.config.wipe_every, self._wipe)

    def _kill(self) -> None:
        replica = self.clock.random.choice(self.replicas)
        if replica.alive:
            replica.kill()

            def revive() -> None:
                replica.alive = True
                replica.start()

            self.clock.after(self.config.dead_for, revive)
        self._later(self.config.kill_every, self._kill)


def lose_one(world: World, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The next DATA that leaves is lost; it is in the list then."""
    deliver = world.down_link.send
    lost: list[bytes] = []

    def send(datagram: bytes, *receivers: Any) -> None:
        if datagram[0] & 0xF == Kind.DATA and not lost:
            lost.append(datagram)
        else:
            deliver(datagram, *receivers)

    monkeypatch.setattr(world.down_link, "send", send)
    return lost
