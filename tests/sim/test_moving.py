"""A client whose address changes in mid-download: how long it is out of touch."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from tests.sim.world import Client, Config, World
from trickles_web.testing.network import Path

pytestmark = pytest.mark.usefixtures("each_kind")

THERE = ("192.0.2.0", 5000)


class Moving:
    """Carries a client's datagrams. Once it has moved, those of its old address are lost, until
    it sends from the new one: at once, if sending has failed, or else with the first probe.
    """

    def __init__(self, world: World, client: Client, noticed: bool) -> None:
        self.world = world
        self.client = client
        self.noticed = noticed
        self.moved = False
        self.arrivals: list[tuple[float, float]] = []
        """When, and the probe timeout then."""
        self._up, self._down, self._take = world.up, world.down, client.take

    def up(self, datagram: bytes, client: Client) -> None:
        if self.moved and client.address != THERE:
            if not self.noticed and not client.flow.silence:
                return
            self.world.clients[THERE] = self.world.clients.pop(client.address)
            client.address = THERE
        self._up(datagram, client)

    def down(self, datagram: bytes, address: tuple[str, int]) -> None:
        if not self.moved or address == THERE:
            self._down(datagram, address)

    def take(self, data: bytes) -> None:
        self.arrivals.append((self.world.clock.now, self.client.flow.stats.probe_timeout))
        self._take(data)


@pytest.mark.parametrize("moment", [0.6, 2.345])
@pytest.mark.parametrize(("noticed", "most"), [(True, 1.0), (False, 1.6)])
def test_a_download_goes_on_from_the_new_address(
    moment: float, noticed: bool, most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(1, Config(path=Path()))
    client = world.add([(30_000_000, 0, 0)])
    moving: Any = Moving(world, client, noticed)
    for name in ("up", "down"):
        monkeypatch.setattr(world, name, getattr(moving, name))
    monkeypatch.setattr(client, "take", moving.take)
    world.run(moment)
    moving.moved = True
    assert world.run()
    assert not client.wrong
    # What was on its way when the client moved still comes.
    around = [arrival for arrival in moving.arrivals if -0.01 < arrival[0] - moment < 0.25]
    assert max((b - a) / patience for (a, patience), (b, _) in itertools.pairwise(around)) <= most
