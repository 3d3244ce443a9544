"""Beside TCP Reno on the same link: goodput under loss, and the share of a bottleneck."""

from __future__ import annotations

import statistics

import pytest

from tests.sim.reno import Reno
from tests.sim.world import Config, World
from trickles_web.testing.network import Clock, Link, Path

SEALED_BYTES = 106
WARM_UP = 3.0
"""Seconds left out: slow start."""


def reno_goodput(path: Path, seconds: float) -> float:
    """Payload bytes per second."""
    clock = Clock(1)
    reno = Reno(clock, Link(clock, path, path.loss), Link(clock, path, 0.0))
    reno.start()
    clock.run(lambda: False, WARM_UP)
    before = reno.delivered
    clock.run(lambda: False, WARM_UP + seconds)
    return (reno.delivered - before) / seconds


def trickles_goodput(path: Path, seconds: float) -> float:
    world = World(1, Config(path=path, sealed_bytes=SEALED_BYTES))
    world.add([(2_000_000_000, 0, 0)])
    world.run(WARM_UP)
    before = world.delivered
    world.run(WARM_UP + seconds)
    return (world.delivered - before) / seconds


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("loss", "seconds"), [(0.0, 3), (0.001, 25), (0.01, 40), (0.02, 40)])
def test_goodput_is_within_15_percent_of_reno(loss: float, seconds: float) -> None:
    """Continuations included: they were in every packet of a small window once."""
    path = Path(loss=loss)
    ratio = trickles_goodput(path, seconds) / reno_goodput(path, seconds)
    assert (0.95 if not loss else 0.85) <= ratio <= 1.15


def share(others: int, seed: int) -> float:
    """Of a flow among so many of Reno, to the fair share; a queue of one bandwidth-delay product.

    Each packet is late by up to its own length, or drop-tail would favour whoever is in phase with
    it (Floyd and Jacobson, 1992); and paths are of several lengths, as some lengths do, too.
    """
    delay = 0.008 + 0.0007 * seed
    queue = 2 * delay * 2_500_000.0
    path = Path(rate=2_500_000.0, delay=delay, queue=queue, reorder=1.0, jitter=0.0006)
    world = World(seed, Config(path=path, sealed_bytes=SEALED_BYTES))
    renos = [Reno(world.clock, world.down_link, world.up_link) for _ in range(others)]
    for reno in renos:
        world.clock.after(world.clock.random.random(), reno.start)
    world.add([(2_000_000_000, 0, 0)], at=0.05)
    world.run(WARM_UP)
    before = world.delivered, sum(reno.delivered for reno in renos)
    world.run(WARM_UP + 12)
    mine = world.delivered - before[0]
    theirs = sum(reno.delivered for reno in renos) - before[1]
    return mine * (others + 1) / (mine + theirs)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("others", [1, 4])
def test_a_bottleneck_is_shared_fairly_with_reno(others: int) -> None:
    assert 0.8 <= statistics.mean(share(others, seed) for seed in range(6)) <= 1.25
