"""An ASGI application on the simulated network: endpoints, services and stores as they are, on an
event loop in virtual time. Only sockets are left out.

The processes share a run directory, and each datagram reaches one of them at random.
"""

from __future__ import annotations

import asyncio
import hashlib
import selectors
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path as Directory
from typing import ClassVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from trickles_web.client.identities import Identities
from trickles_web.client.tokens import TokenStore
from trickles_web.config import MILLISECONDS, ClientConfig, HttpConfig, TransportConfig, Trust
from trickles_web.credentials import Identity
from trickles_web.http.names import NAME_KEY_BYTES, Names
from trickles_web.http.runner import KeptResponse
from trickles_web.http.scope import ASGIApp
from trickles_web.http.service import Service
from trickles_web.net.endpoint import Endpoint
from trickles_web.net.pacing import Pace
from trickles_web.net.udp import Peer, host_and_port
from trickles_web.state import DirectoryStore, Limits
from trickles_web.testing.network import Clock, Link, Path
from trickles_web.transport.flow import Flow
from trickles_web.transport.keys import Keyring
from trickles_web.transport.private.channel import Privacy
from trickles_web.transport.private.exchange import Exchange
from trickles_web.transport.private.flow import PrivateFlow, ServerKeys
from trickles_web.transport.private.introduction import MOST_BYTES
from trickles_web.transport.redeemed import Train
from trickles_web.transport.replay import ReplayFilter
from trickles_web.transport.server import Server

EPOCH_MS = 1_800_000_000_000
"""The wall clock when virtual time begins, unless told."""
DRAIN_S = 0.001
"""What arrives within it is one drain of a socket."""
OPEN = HttpConfig(lifespan="off", access_log=False, request_buffering=False)
Deliver = Callable[[bytes, Peer], None]


IDENTITY = Identity(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
"""Of all servers, in private flows."""


def stranger(wall: Callable[[], int], exchange: Exchange = Exchange.X25519) -> ServerKeys:
    """The servers, as a client knows them that has only their pin. wall: ms."""
    identities = Identities(TokenStore(most_bytes=MOST_BYTES), clock=lambda: wall() / MILLISECONDS)
    return identities.of("server.test", 8000, Trust(pin=IDENTITY.pin), exchange)


def repeatable_hash(key: bytes) -> int:
    """The same false positives in every run; `hash(bytes)` differs from process to process."""
    return int.from_bytes(hashlib.blake2b(key, digest_size=16).digest(), "big", signed=True)


class _Selector(selectors.SelectSelector):
    """Nothing is ever ready to be read; the time that a loop would wait passes at once."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "the loop waits for what nobody will do"
        if timeout > 0:
            self._clock.step(self._clock.now + timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is the clock's: what is called later happens in its turn."""

    def __init__(self, clock: Clock, selector: selectors.BaseSelector | None = None) -> None:
        """selector: what lets time pass, if that is to be another way than at once."""
        super().__init__(_Selector(clock) if selector is None else selector)
        self._virtual = clock

    def time(self) -> float:
        return self._virtual.now


class _Socket:
    """Sends into the simulated network."""

    def __init__(self, cluster: Cluster, number: int) -> None:
        self.counters: Counter[str] = Counter()
        self._cluster = cluster
        self._number = number

    def start(self, deliver: Deliver, drained: Callable[[bool], None]) -> None:
        self.deliver, self.drained = deliver, drained

    def close(self) -> None:
        self.deliver = lambda datagram, peer: None

    @property
    def filled(self) -> float:
        return 0.0

    def send(self, datagram: bytes, peer: Peer) -> None:
        self._cluster.down(datagram, host_and_port(peer.sockaddr), self._number)

    def send_trains(self, trains: list[Train], peer: Peer, pace: Pace) -> None:
        for train in trains:
            for datagram in train.datagrams():
                self.send(datagram, peer)


class _Relay:
    """From process to process."""

    def __init__(self, cluster: Cluster) -> None:
        self.counters: Counter[str] = Counter()
        self._cluster = cluster

    def start(self, deliver: Deliver, send: Deliver) -> None:
        self.deliver = deliver

    def forward(self, owner: int, datagram: bytes, peer: Peer) -> None:
        process = self._cluster.owners.get(owner)
        if process is not None:
            further = replace(peer, hops=peer.hops + 1)
            self._cluster.clock.after(1e-5, lambda: process.relay.deliver(datagram, further))

    def close(self) -> None:
        self.deliver = lambda datagram, peer: None


class Process:
    """One server process."""

    def __init__(self, cluster: Cluster, number: int = 0) -> None:
        """number: its place in the cluster, which it may have from one that was killed."""
        clock, transport, http = cluster.clock, cluster.transport, cluster.config
        keyring = Keyring((b"k" * 32,), "simulation", transport.rotation_ms, clock.bytes)
        span = transport.replay_horizon_ms + 2 * transport.clock_skew_ms
        replay = ReplayFilter(transport.replay_capacity, span, repeatable_hash)
        self.store: DirectoryStore[KeptResponse] = DirectoryStore(
            cluster.directory, clock.bytes(8), Limits(most_bytes=http.store_bytes)
        )
        replica = int.from_bytes(clock.bytes(4), "big")
        privacy = Privacy(keyring, IDENTITY.credentials, clock.bytes)
        server = Server(transport, keyring, replay, replica, clock.bytes, self.store.id, privacy)
        self.service = Service(
            cluster.app_of(number),
            http,
            self.store,
            on_ready=lambda incarnation: self.endpoint.on_ready(incarnation),
            clock=cluster.wall,
            random=clock.bytes,
            names=Names((b"k" * NAME_KEY_BYTES,)),
        )
        self.number = number
        self.socket, self.relay = _Socket(cluster, number), _Relay(cluster)
        self._cluster, self._drains = cluster, False
        self.endpoint = Endpoint(
            server, self.service, self.socket, cluster.loop, cluster.wall, forwarding=self.relay
        )
        self.endpoint.start()
        cluster.owners[self.store.owner] = self

    def receive(self, datagram: bytes, address: tuple[str, int]) -> None:
        self.socket.deliver(datagram, Peer(address, []))
        if not self._drains:
            self._drains = True
            self._cluster.clock.after(DRAIN_S, self._drained)

    def _drained(self) -> None:
        self._drains = False
        self.socket.drained(False)

    def kill(self) -> None:
        """As SIGKILL does: calls go no further, and nobody cleans up."""
        self.endpoint.close()
        for run in list(self.service.runner.calls.runs):
            run.stopping = True
            if run.task is not None:
                run.task.cancel()
        self.store._life.forget()


@dataclass
class Cluster:
    """Processes that serve `app`, clients, and the network between them."""

    seed: int
    app: ASGIApp
    directory: Directory
    path: Path = field(default_factory=Path)
    count: int = 1
    config: HttpConfig = OPEN
    client: ClientConfig = field(default_factory=ClientConfig)
    transport: TransportConfig = field(
        default_factory=lambda: TransportConfig(replay_capacity=1 << 14)
    )
    epoch_ms: int = EPOCH_MS
    private: ClassVar[bool] = False
    """Are the clients' flows private? Tests set it, to run all they have once more."""

    def __post_init__(self) -> None:
        self.clock = Clock(self.seed)
        self.loop = self.new_loop()
        self.owners: dict[int, Process] = {}
        self.clients: dict[tuple[str, int], Client] = {}
        self.down_link = Link(self.clock, self.path, self.path.loss)
        self.up_link = Link(self.clock, self.path, self.path.request_loss)
        self.processes = [Process(self, number) for number in range(self.count)]

    def new_loop(self) -> VirtualLoop:
        return VirtualLoop(self.clock)

    def new_flow(self) -> Flow:
        name, now = self.clock.bytes(8), self.clock.now
        if not self.private:
            return Flow(name, self.client, now)
        return PrivateFlow(name, self.client, now, stranger(self.wall), self.clock.bytes)

    def app_of(self, number: int) -> ASGIApp:
        """What the process of this number serves."""
        return self.app

    def saw(self, datagram: bytes, number: int, client: Client, *, up: bool, carried: bool) -> None:
        """A datagram between a client and the process of this number; `up`: to the process."""

    def wall(self) -> int:
        return self.epoch_ms + int(self.clock.now * 1000)

    def up(self, datagram: bytes, client: Client) -> None:
        process = self.clock.random.choice(self.processes)
        carried = self.up_link.send(datagram, lambda d: process.receive(d, client.address))
        self.saw(datagram, process.number, client, up=True, carried=carried)

    def down(self, datagram: bytes, address: tuple[str, int], number: int) -> None:
        client = self.clients[address]
        carried = self.down_link.send(datagram, client.receive)
        self.saw(datagram, number, client, up=False, carried=carried)

    def owner(self) -> Process:
        """The process that has a call running."""
        return next(p for p in self.processes if p.service.runner.calls.runs)

    def run(self, limit: float = 600.0) -> None:
        """Until every client is through. Raises TimeoutError when that takes `limit` seconds."""

        async def all_of_them() -> None:
            async with asyncio.timeout(limit):
                await asyncio.gather(*(client.play() for client in self.clients.values()))

        try:
            self.loop.run_until_complete(all_of_them())
            for process in self.processes:
                assert process.endpoint.counters()["internal error"] == 0
        finally:
            self.close()

    def close(self) -> None:
        for process in self.processes:
            process.kill()
        tasks = asyncio.all_tasks(self.loop)
        if tasks:
            self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self.loop.close()


class Client:
    """One flow, driven by whoever overrides `play`."""

    def __init__(self, cluster: Cluster) -> None:
        name = self.number = len(cluster.clients)
        self.cluster = cluster
        self.address = (f"10.0.{name >> 8}.{name & 255}", 5000)
        self.flow = cluster.new_flow()
        self.moved = asyncio.Event()
        """Set whenever there may be something new to read or room to write."""
        self.most_kept = 0
        self._timer: asyncio.TimerHandle | None = None
        cluster.clients[self.address] = self

    async def play(self) -> None:
        raise NotImplementedError

    def write(self, data: bytes) -> None:
        self.flow.write(data)
        self.pump()

    def read(self) -> bytes:
        data = self.flow.read()
        self.pump()
        return data

    def receive(self, datagram: bytes) -> None:
        self.flow.receive(datagram, self.cluster.clock.now)
        self.pump()

    def pump(self, due: float = 0.0) -> None:
        """Send what is due, and see when that is so again.

        due: for when the loop was asked to call. It may do so by its clock's resolution earlier,
        and in virtual time would go on to, for ever.
        """
        now = max(self.cluster.clock.now, due)
        for datagram in self.flow.transmit(now):
            self.cluster.up(datagram, self)
        self.most_kept = max(self.most_kept, self.flow.unacknowledged())
        self.moved.set()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        at = self.flow.timeout()
        if at is not None:
            self._timer = self.cluster.loop.call_at(at, self.pump, at)

    async def wait(self) -> None:
        """Until something may have changed."""
        self.moved.clear()
        await self.moved.wait()
