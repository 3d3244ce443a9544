"""Clocks of servers, wrong by more than the protocol allows: a bounded end, no wrong byte."""

from __future__ import annotations

import pytest

from tests.sim.world import Config, World
from trickles_web.config import ClientConfig
from trickles_web.errors import FlowTimeout
from trickles_web.testing.cluster import EPOCH_MS

HOUR_MS = 3_600_000


@pytest.mark.parametrize("replicas", [1, 3])
def test_all_clocks_are_set_back_in_mid_flow(
    replicas: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that the client holds was minted in an hour: refused, but no server says for good."""
    world = World(1, Config(replicas=replicas))
    stepped_at = 0.5

    def wall() -> int:
        back = HOUR_MS if world.clock.now >= stepped_at else 0
        return EPOCH_MS + int(world.clock.now * 1000) - back

    monkeypatch.setattr(world, "wall", wall)
    client = world.add([(200_000_000, 0, 0)])
    world.clock.run(lambda: client.flow.error is not None, 600)
    assert client.got > 0 and client.wrong == 0
    assert isinstance(client.flow.error, FlowTimeout)
    assert world.clock.now < stepped_at + 2 * ClientConfig().silence_timeout_s


def test_all_clocks_are_set_back_and_set_right_again(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(1, Config(replicas=3))
    wrong = (0.5, 8.0)

    def wall() -> int:
        back = HOUR_MS if wrong[0] <= world.clock.now < wrong[1] else 0
        return EPOCH_MS + int(world.clock.now * 1000) - back

    monkeypatch.setattr(world, "wall", wall)
    client = world.add([(20_000_000, 0, 0)])
    assert world.run(60)
    assert (client.flow.error, client.wrong) == (None, 0)
