"""A window that the reader's limit holds back: it must not grow on what it does not use."""

from __future__ import annotations

import pytest

from tests.sim.world import Client, Config, World, lose_one
from trickles_web.config import ClientConfig, TransportConfig
from trickles_web.transport.epochs import window
from trickles_web.transport.line import Line

ROOM = 400_000
"""Of the reader: 1.6 times what the link and its delay hold; the queue takes the rest."""


def line_of(client: Client) -> Line:
    line = client.flow._download.line
    assert line is not None
    return line


def held_back() -> tuple[World, Client]:
    world = World(
        1, Config(client=ClientConfig(receive_buffer_bytes=ROOM), transport=TransportConfig())
    )
    client = world.add([(2_000_000_000, 0, 0)])
    world.run(5.0)
    return world, client


def test_slow_start_ends_where_the_reader_holds_it_back() -> None:
    _, client = held_back()
    line = line_of(client)
    most = ROOM // line.size
    grown = window(line.views[-1].epoch, line._accounted)
    assert most * 0.9 <= grown <= 2 * most
    assert client.flow.stats.losses == line.losses == 0


def test_a_loss_then_overflows_no_queue_with_all_that_was_settled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At most half a buffer, in a round trip: servers pace it, these ones here do not."""
    world, client = held_back()
    lost = lose_one(world, monkeypatch)
    world.run(7.0)
    assert lost
    assert world.down_link.dropped < ROOM // line_of(client).size // 2
    assert client.flow.stats.timeouts == 0
