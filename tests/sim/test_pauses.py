"""A process that is ready may have to wait for its core: such a pause is no loss."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sim.world import Config, World
from trickles_web.config import ClientConfig
from trickles_web.testing.network import Path

pytestmark = pytest.mark.usefixtures("each_kind")

ROOM = 200_000
"""Of the reader: so the queue never overflows."""


@pytest.mark.parametrize("pause", [0.006, 0.012, 0.02])
def test_a_server_that_pauses_in_the_middle_of_its_bursts(
    pause: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A promised packet counted as lost after a silence of RTT/4: each pause halved the window."""
    world = World(1, Config(path=Path(), client=ClientConfig(receive_buffer_bytes=ROOM)))
    client = world.add([(2_000_000_000, 0, 0)])
    send = world.down_link.send
    held: list[tuple[Any, ...]] = []

    sent = 0

    def pausing(*what: Any) -> None:
        """After every so many datagrams nothing leaves for a while; then all that waited."""
        nonlocal sent
        sent += 1
        if sent % 1009 == 0 and not held:
            world.clock.after(pause, release)
        elif not held:
            send(*what)
            return
        held.append(what)

    def release() -> None:
        waiting, held[:] = held[:], []
        for what in waiting:
            send(*what)

    monkeypatch.setattr(world.down_link, "send", pausing)
    world.run(3.0)
    line = client.flow._download.line
    assert line is not None
    assert world.down_link.dropped == 0
    assert line.losses == client.flow.stats.losses == 0
    assert client.flow.stats.timeouts == client.flow.stats.duplicates == 0
