"""Streams that outlive the processes which make them: one consistent byte string, whatever dies."""

from __future__ import annotations

import random

import pytest

from tests.sim.resuming import RECORD_BYTES, Reader, Resuming
from tests.sim.world import Config, World
from trickles_web.testing import network

pytestmark = pytest.mark.usefixtures("each_kind")


def resuming_world(config: Config, seed: int, spacing: int = 1) -> World:
    world = World(seed, config)
    world.replicas = [Resuming(world, i) for i in range(config.replicas)]
    for replica in world.replicas:
        assert isinstance(replica, Resuming)
        replica.spacing = spacing
    return world


def reading(world: World, exchanges: list[tuple[int, int, int]]) -> Reader:
    reader = Reader(world, len(world.clients), exchanges)
    world.clients[reader.address] = reader
    world.clock.after(0.0, reader.start)
    return reader


def test_events_come_at_once() -> None:
    """A note rides with its event: half a round trip after it was made, the reader has it."""
    world = resuming_world(Config(path=network.Path(delay=0.02)), 1)
    reader = reading(world, [(RECORD_BYTES * 50, 0, 100)])
    introduction = 0.04 if Config.private else 0
    for k in range(50):

        def look(k: int = k) -> None:
            assert reader.total == k + 1

        # The run begins after one and a half round trips; half a one more for the event.
        world.clock.after(introduction + 0.06 + k * 0.1 + 0.022, look)
    assert world.run(20)
    assert (reader.wrong, reader.total, len(reader.runs)) == (0, 50, 1)


@pytest.mark.parametrize("block", range(6))
def test_processes_that_die(block: int) -> None:
    runs = 0
    for seed in range(block * 20 + Config.private, block * 20 + 20, 2):
        draw = random.Random(seed * 7919)
        loss = draw.choice((0, 0, 0.01, 0.1))
        path = network.Path(
            loss=loss,
            request_loss=draw.choice((0, 0, 0.05)),
            reorder=draw.choice((0, 0.02, 0.2)),
            duplicate=draw.choice((0, 0.05)),
            corrupt=draw.choice((0, 0.02)),
            rate=draw.choice((5e5, 8e6, 8e7)),
            delay=draw.choice((0.0002, 0.01, 0.05)),
            queue=draw.choice((6_000, 40_000, 240_000)),
        )
        replicas = draw.choice((1, 2, 3))
        config = Config(path=path, replicas=replicas, kill_every=draw.choice((0.2, 0.5)) / replicas)
        config.dead_for = draw.choice((0.0, 0.05, 0.3))
        pause = draw.choice((0, 1, 20))
        spacing = draw.choice((1, 1, 7) if pause else (1, 7, 100))
        world = resuming_world(config, seed, spacing)
        count = draw.randrange(1, 4000 if not pause else 400)
        reader = reading(world, [(RECORD_BYTES * count, 0, pause)] * draw.choice((1, 2)))
        assert world.run(600), f"seed {seed}: hangs at {world.clock.now:.1f} s"
        assert reader.flow.error is None, f"seed {seed}: {reader.flow.error}"
        assert reader.wrong == 0, f"seed {seed}"
        runs = max(runs, len(reader.runs))
    assert runs > 3


def test_owners_that_were_only_taken_for_dead() -> None:
    """Each replica makes a response of its own, and all of them answer: the reader follows one."""
    draw = random.Random(3)
    for seed in range(20):
        path = network.Path(loss=0.02, reorder=0.1, duplicate=0.05, delay=0.01)
        world = resuming_world(Config(path=path, replicas=2, wipe_every=0.3), seed)
        reader = reading(world, [(RECORD_BYTES * draw.randrange(1, 2000), 0, draw.choice((0, 2)))])
        assert world.run(600), f"seed {seed}"
        assert (reader.flow.error, reader.wrong) == (None, 0), f"seed {seed}"


def test_the_layout_with_notes_is_foreseen() -> None:
    """No packet is asked for twice, though the states are of many lengths; datagrams are 1,200.

    Where less fits an answer than was foreseen, the rest is asked for once more, in a packet that
    is filled.
    """
    world = resuming_world(Config(path=network.Path(delay=0.01)), 7)
    reader = reading(world, [(RECORD_BYTES * 20_000, 0, 0)])
    sizes: set[int] = set()
    receive = reader.receive

    def measured(datagram: bytes) -> None:
        sizes.add(len(datagram))
        receive(datagram)

    reader.receive = measured  # type: ignore[method-assign]
    assert world.run(60)
    assert (reader.wrong, reader.total, reader.flow.error) == (0, 20_000, None)
    stats = reader.flow.stats
    assert (stats.losses, stats.duplicates) == (0, 0)
    assert RECORD_BYTES * 20_000 <= stats.bytes_in < 1.02 * RECORD_BYTES * 20_000
    assert max(sizes) <= 1472
