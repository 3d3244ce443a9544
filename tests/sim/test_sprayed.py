"""A window that any of several replicas answer for: their bursts come in no order."""

from __future__ import annotations

import pytest

from tests.sim.world import Config, World
from trickles_web.testing.network import Path

LENGTH = 20_000_000
PATH = Path(queue=500_000)
"""1.6 s at its rate."""


def seconds(replicas: int, longest_delay: float, path: Path = PATH, delayed: float = 1.0) -> float:
    """What a download takes."""
    waits = {"longest_delay": longest_delay, "delayed": delayed}
    world = World(1, Config(path=path, replicas=replicas, **waits))
    client = world.add([(LENGTH, 0, 0)])
    assert world.run(120.0)
    assert client.wrong == 0
    return world.clock.now


@pytest.mark.parametrize(("longest_delay", "most"), [(0.001, 2.5), (0.004, 2.5), (0.015, 5.0)])
def test_bursts_that_overtake_each_other_are_not_taken_for_losses(
    longest_delay: float, most: float
) -> None:
    assert seconds(3, longest_delay) < most


@pytest.mark.parametrize("longest_delay", [0.01, 0.02])
def test_a_few_that_are_late_do_not_halve_the_window_each_time(longest_delay: float) -> None:
    """By more than round trips vary otherwise: as when a replica waits for the processor."""
    assert seconds(3, longest_delay, delayed=0.05) < 6


def test_losses_are_found_as_soon_as_with_one_replica() -> None:
    lossy = Path(loss=0.01)
    assert seconds(3, 0.002, lossy) < 1.25 * seconds(1, 0.0, lossy)
