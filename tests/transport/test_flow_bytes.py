"""Hostile bytes at both ends, with a flow in progress: nothing raised, nothing grows, time goes on.

The datagrams to be mutated are real ones, recorded from runs of the simulator with loss, reordering
and killed replicas.
"""

from __future__ import annotations

import random
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sim.world import Client, Config, World
from tests.transport.driver import readable
from trickles_web.config import ClientConfig
from trickles_web.testing.cluster import EPOCH_MS
from trickles_web.testing.network import Path
from trickles_web.transport import wire
from trickles_web.transport.epochs import Epoch, after_loss
from trickles_web.transport.flow import Flow
from trickles_web.transport.redeemed import Redeemed
from trickles_web.transport.wire import Kind

SMALL = ClientConfig(receive_buffer_bytes=64 << 10)


class Recorder(World):
    """A world that keeps what passes: (virtual time, datagram), up and down."""

    def __init__(self, seed: int, config: Config) -> None:
        super().__init__(seed, config)
        self.went_up: list[tuple[float, bytes]] = []
        self.came_down: list[tuple[float, bytes]] = []

    def up(self, datagram: bytes, client: Client) -> None:
        self.went_up.append((self.clock.now, datagram))
        super().up(datagram, client)

    def down(self, datagram: bytes, address: tuple[str, int]) -> None:
        self.came_down.append((self.clock.now, datagram))
        super().down(datagram, address)


class Bombarded(World):
    """A world in which mutants of datagrams arrive right before these."""

    def __init__(self, seed: int, config: Config) -> None:
        super().__init__(seed, config)
        self.random = random.Random(seed)

    def down(self, datagram: bytes, address: tuple[str, int]) -> None:
        client = self.clients[address]
        self.down_link.send(datagram, lambda d: self.arrive(d, client))

    def arrive(self, datagram: bytes, client: Client) -> None:
        # Mutants of continuations and numbers, not of bytes: those would be wrong bytes, rightly.
        mutant = mutated(self.random, datagram)
        if wire.kind_of(datagram) != Kind.DATA or self.random.random() < 0.3:
            client.flow.receive(mutant, self.clock.now)
        client.receive(datagram)


EXCHANGES = [(20_000, 0, 0), (300_000, 0, 0), (5000, 4000, 0), (9000, 0, 100), (100, 0, 0)]


@cache
def recorded(seed: int) -> Recorder:
    """One flow of a few exchanges: small, large, with an upload, with a slow application."""
    path = Path(rate=2_000_000, loss=0.03, request_loss=0.03, reorder=0.05, duplicate=0.02)
    config = Config(path=path, replicas=2, wipe_every=2.0, client=SMALL)
    world = Recorder(seed, config)
    world.add(EXCHANGES)
    assert world.run(300.0)
    return world


def of_each_kind(datagrams: list[tuple[float, bytes]]) -> dict[int, list[bytes]]:
    kinds: dict[int, list[bytes]] = {}
    for _, datagram in datagrams:
        kinds.setdefault(wire.kind_of(datagram), []).append(datagram)
    return kinds


def test_the_recordings_hold_the_kinds_that_matter() -> None:
    up = of_each_kind(recorded(1).went_up)
    down = of_each_kind(recorded(1).came_down)
    assert {Kind.HELLO, Kind.REQUEST, Kind.UPLOAD} <= set(up)
    assert {Kind.DATA, Kind.ACK, Kind.WAIT} <= set(down)


def mutated(rng: random.Random, datagram: bytes) -> bytes:
    """One of the ways in which bytes go wrong; the flow id, mostly, is right."""
    damaged = bytearray(datagram)
    way = rng.randrange(6)
    if way == 0:
        return bytes(damaged[: rng.randrange(len(damaged) + 1)])
    if way == 1:
        return bytes(damaged) + rng.randbytes(rng.randrange(40))
    for _ in range(rng.choice([1, 1, 2, 8])):
        # Headers are where meaning is.
        at = rng.randrange(min(len(damaged), rng.choice([9, 60, 220, 2000])))
        if 1 <= at < 9 and rng.random() < 0.9:
            continue
        damaged[at] = rng.choice([0, 0xFF, 0x7F, rng.randrange(256), damaged[at] ^ 1])
    if way == 2:
        at = rng.randrange(9, max(10, min(len(damaged), 70)))
        damaged[at : at + 4] = rng.choice([b"\xff" * 4, bytes(4), rng.randbytes(4)])
    return bytes(damaged)


def held_by(flow: Flow) -> int:
    """Bytes that a flow holds of the response: what is ready, and what lies beyond a hole."""
    return flow.readable()


def advance_at_timeouts(flow: Flow, now: float, times: int) -> float:
    """Call transmit at timeout(): time must advance, or there must be no timeout any more.

    A deadline may be met a few times at the same instant (several timers due), never without end.
    """
    stuck = 0
    for _ in range(times):
        at = flow.timeout()
        if at is None:
            break
        stuck = stuck + 1 if at <= now else 0
        assert stuck < 5, "transmit does not meet the deadline that timeout names"
        now = max(now, at)
        sent = flow.transmit(now)
        assert len(sent) < 2000
        assert all(len(datagram) <= wire.LARGEST_DATAGRAM for datagram in sent)
    return now


@pytest.mark.parametrize("seed", range(12))
def test_a_flow_survives_mutated_datagrams(seed: int) -> None:
    """A recorded flow is replayed, its datagrams with mutants among them, for its own flow id.

    The very same client is made again (same seed), so what is replayed fits until a mutant bites.
    """
    world = recorded(seed % 3)
    rng = random.Random(seed)
    flow = Flow(world.clients["10.0.0.0", 5000].flow.id, SMALL, 0.0)
    flow.write(bytes(16))
    flow.transmit(0.0)
    now = 0.0
    for at, datagram in world.came_down[:1500]:
        now = max(now, at)
        for _ in range(rng.choice([0, 1, 1, 3])):
            flow.receive(mutated(rng, datagram), now)
        if rng.random() < 0.9:
            flow.receive(datagram, now)
        if rng.random() < 0.5:
            flow.read(rng.choice([1, 5000, 1 << 30]))
        if flow.idle and flow.error is None:
            flow.write(bytes(rng.choice([16, 3000])))
        assert len(flow.transmit(now)) < 2000
        assert held_by(flow) <= 3 * SMALL.receive_buffer_bytes
        if rng.random() < 0.02:
            now = advance_at_timeouts(flow, now, 3)
        if flow.error is not None:
            break
    advance_at_timeouts(flow, now, 1000)


@pytest.mark.parametrize("seed", range(12))
def test_a_live_flow_survives_mutants_of_its_own_datagrams(seed: int) -> None:
    """In the simulator, each arriving datagram has mutants: the flow may fail, not break."""
    path = Path(rate=2_000_000, loss=0.01, request_loss=0.01, reorder=0.05)
    world = Bombarded(seed, Config(path=path, replicas=2, client=SMALL))
    client = world.add(EXCHANGES[:4])
    flow = client.flow
    world.clock.run(lambda: client.done or flow.error is not None, 60.0)
    advance_at_timeouts(flow, world.clock.now, 1000)


@given(st.lists(st.binary(max_size=200), max_size=30), st.booleans())
def test_a_flow_survives_arbitrary_bytes(pieces: list[bytes], begun: bool) -> None:
    flow = Flow(b"flow-id.", SMALL, 0.0)
    if begun:
        flow.write(b"request")
        flow.transmit(0.0)
    for i, piece in enumerate(pieces):
        flow.receive(piece, 0.1)
        kind = (*Kind,)[i % len(Kind)]
        flow.receive(bytes([wire.VERSION << 4 | kind]) + b"flow-id." + piece, 0.1)
        flow.transmit(0.1)
    advance_at_timeouts(flow, 0.1, 200)


EDGES = [0, 1, 2, 3, 9, 10, 46, 1000, 0x7FFF_FFFF, 0xFFFF_FFFE, 0xFFFF_FFFF]
OFFSETS = [0, 0, 100, 5000, 60_000, 1 << 20, (1 << 64) - 1]


class Nonsense:
    """DATA that decodes, of any numbers; epochs, where they follow each other, are plausible."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        pick = rng.choice
        base = pick([0, 0, 0, *EDGES])
        self.epoch = Epoch(
            0, pick([0, base]), base, pick([0, 1, 2, 10, 300, 65_535]), pick([2, 10])
        )
        self.wild = rng.random() < 0.3

    def datagram(self, known: bool) -> bytes:
        rng, e = self.rng, self.epoch
        if rng.random() < 0.3:
            # What would follow, if this number were the first that was lost.
            self.epoch = e = after_loss(e, e.base + rng.randrange(12))
        first = rng.choice(EDGES) if self.wild else max(0, e.base + rng.randrange(-8, 40))
        length = rng.choice([1, 1, 2, 5, 46, 255])
        numbers = [min(x, 0xFFFF_FFFF) for x in e.numbers]
        first = min(first, 0xFFFF_FFFF)
        place = rng.randrange(length)
        short = rng.choice([0, 0, 0, 1, length, 0xFFFF])
        prefix = wire.data_prefix(
            b"flow-id.", 0, 1, *numbers[:2], *(x & 0xFFFF for x in numbers[2:]), 0, 0,
            rng.choice([1, 1, 1, 2]), rng.choice([5, 5, 5, 6]), first, length, short,
        )  # fmt: skip
        blob = b""
        if known or rng.random() < 0.7:
            blob = readable(
                epoch=Epoch(0, *numbers), burst=first, stop=first + length, edition=5,
                response_end=rng.choice([-1, -1, 0, 3000, 1 << 40]),
            )  # fmt: skip
        own = wire.DATA_PACKET.pack(place, 7, rng.choice(OFFSETS), len(blob))
        return prefix + own + blob + bytes(rng.choice([0, 1, 100, 1000]))


@pytest.mark.parametrize("seed", range(4))
def test_a_flow_survives_data_that_makes_no_sense(seed: int) -> None:
    for part in range(100):
        rng = random.Random(100 * seed + part)
        flow = Flow(b"flow-id.", SMALL, 0.0)
        flow.write(b"request")
        flow.transmit(0.0)
        nonsense, now = Nonsense(rng), 0.1
        for i in range(60):
            flow.receive(nonsense.datagram(known=not i), now)
            assert len(flow.transmit(now)) < 20_000
            if rng.random() < 0.2:
                flow.read()
            if rng.random() < 0.2:
                now = advance_at_timeouts(flow, now, 1)
        advance_at_timeouts(flow, now, 300)


@pytest.mark.parametrize("seed", range(3))
def test_a_clean_flow_never_spins(seed: int) -> None:
    """Every deadline that an undisturbed client names is met when its time comes."""
    world = recorded(seed)
    flow = Flow(b"flow-id.", SMALL, 0.0)
    flow.write(b"request")
    flow.transmit(0.0)
    advance_at_timeouts(flow, 0.0, 1000)
    assert flow.error is not None
    assert all(client.flow.error is None for client in world.clients.values())


# ---- the server


@pytest.mark.parametrize("seed", range(6))
def test_a_server_survives_mutants_of_what_its_clients_sent(seed: int) -> None:
    world = recorded(seed % 3)
    rng = random.Random(seed)
    replica = world.replicas[0]
    counted = sum(replica.server.counters.values())
    served = mutants = 0
    for at, datagram in world.went_up[:600]:
        for _ in range(4):
            mutant = mutated(rng, datagram)
            mutants += 1
            now = EPOCH_MS + int(at * 1000) + rng.choice([0, 10, 100_000])
            result = replica.server.redeem(mutant, ("10.0.0.0", rng.choice([5000, 1])), now)
            if isinstance(result, Redeemed):
                served += 1
                assert len(result.wants) <= wire.MOST_WANTS
                assert len(result.answers) <= 1 + wire.MOST_EARLIER
                assert all(answer.high < 1 << 32 for answer in result.answers)
            elif result.reply is not None:
                assert len(result.reply) <= max(len(mutant), 20)
    # Most were refused, each for a reason that is counted; padding, wants and the like may change.
    assert 0 < served < mutants
    assert sum(replica.server.counters.values()) - counted >= mutants - served


@given(st.lists(st.binary(max_size=1500), max_size=10), st.integers(0, 15))
def test_a_server_survives_arbitrary_bytes(pieces: list[bytes], kind: int) -> None:
    server = recorded(0).replicas[0].server
    for piece in pieces:
        server.redeem(piece, ("192.0.2.1", 1), EPOCH_MS)
        server.redeem(bytes([wire.VERSION << 4 | kind]) + piece, ("192.0.2.1", 1), EPOCH_MS)
