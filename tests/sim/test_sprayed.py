"""A window that any of several replicas answer for: their bursts come in no order."""

from __future__ import annotations

import pytest

from tests.sim.world import Config, World
from trickles_web.testing.network import Path

pytestmark = pytest.mark.usefixtures("each_kind")

LENGTH = 20_000_000
PATH = Path(queue=500_000)
LEAST_S = LENGTH / PATH.rate


def seconds(replicas: int, longest_delay: float, path: Path = PATH, delayed: float = 1.0) -> float:
    """What a download takes."""
    config = Config(path=path, replicas=replicas, longest_delay=longest_delay, delayed=delayed)
    world = World(1, config)
    client = world.add([(LENGTH, 0, 0)])
    assert world.run(120.0)
    assert client.wrong == 0
    return world.clock.now


@pytest.mark.parametrize("longest_delay", [0.001, 0.004, 0.015])
def test_bursts_that_overtake_each_other_are_not_taken_for_losses(longest_delay: float) -> None:
    assert seconds(3, longest_delay) < 4 * LEAST_S


@pytest.mark.parametrize("longest_delay", [0.01, 0.02])
def test_a_few_that_are_late_do_not_halve_the_window_each_time(longest_delay: float) -> None:
    """By more than round trips vary otherwise: as when a replica waits for the processor."""
    assert seconds(3, longest_delay, delayed=0.05) < 4 * LEAST_S


def test_losses_are_found_as_soon_as_with_one_replica() -> None:
    lossy = Path(loss=0.01)
    assert seconds(3, 0.002, lossy) < 1.25 * seconds(1, 0.0, lossy)
