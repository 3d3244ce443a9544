"""How large a flow's datagrams are: as the path carries them, small in doubt, but not for good."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.sim.world import Client, Config, World
from trickles_web.config import ClientConfig, TransportConfig
from trickles_web.testing.network import Path
from trickles_web.transport.line import Line
from trickles_web.transport.path_size import MOST_TRIES


def line_of(client: Client) -> Line:
    line = client.flow._download.line
    assert line is not None
    return line


def test_datagrams_are_large_again_after_a_server_was_gone() -> None:
    world = World(1, Config(path=Path(), client=ClientConfig(receive_buffer_bytes=200_000)))
    client = world.add([(2_000_000_000, 0, 0)])
    world.run(2.0)
    full = client.world.config.client.max_datagram_bytes
    assert line_of(client).size == full
    replica = world.replicas[0]
    replica.kill()
    world.run(4.0)
    replica.alive = True
    replica.start()
    world.clock.run(lambda: client.flow.stats.openings > 1, 6.0)
    world.run(6.0)
    assert client.flow.stats.timeouts > 2  # the path was in doubt
    before = world.delivered
    world.run(9.0)
    assert line_of(client).size == full
    assert world.delivered - before > 0.9 * 3.0 * 9_000_000


def narrow(world: World, largest: int, up: int = 1 << 16) -> list[int]:
    """From now on nothing longer comes through. The list is of the lengths that did not."""
    swallowed: list[int] = []
    for link, limit in ((world.down_link, largest), (world.up_link, up)):
        link.send = narrowed(link.send, limit, swallowed)  # type: ignore[method-assign]
    return swallowed


def narrowed(send: Callable[..., bool], limit: int, swallowed: list[int]) -> Callable[..., bool]:
    def pass_on(datagram: bytes, *receivers: object) -> bool:
        if len(datagram) <= limit:
            return send(datagram, *receivers)
        swallowed.append(len(datagram))
        return False

    return pass_on


@pytest.mark.parametrize("loss", [0.0, 0.02])
@pytest.mark.parametrize("largest", [1200, 1201, 1272, 1300, 1452, 1464, 1471, 1472])
def test_the_largest_size_that_passes_is_found(largest: int, loss: float) -> None:
    slow = Path(rate=1_250_000.0, queue=50_000.0, loss=loss)
    world = World(1, Config(path=slow, client=ClientConfig(receive_buffer_bytes=200_000)))
    client = world.add([(2_000_000_000, 0, 0)])
    swallowed = narrow(world, largest)
    world.run(6.0)
    assert line_of(client).size == largest
    assert client.flow.stats.timeouts < 3  # the search does not hold the flow up
    assert len(swallowed) <= 9 * MOST_TRIES
    before = len(swallowed)
    world.run(12.0)
    assert len(swallowed) == before  # it has an end


def test_a_path_that_becomes_narrower_gets_what_passes() -> None:
    world = World(1, Config(path=Path(), client=ClientConfig(receive_buffer_bytes=200_000)))
    client = world.add([(2_000_000_000, 0, 0)])
    world.run(2.0)
    assert line_of(client).size == 1472
    narrow(world, 1300)
    world.run(8.0)
    before = world.delivered
    world.run(11.0)
    assert line_of(client).size == 1300
    assert world.delivered - before > 0.85 * 3.0 * 9_000_000


def test_a_server_that_sends_less_than_the_path_carries_is_not_asked_for_ever() -> None:
    server = TransportConfig(max_datagram_bytes=1400, replay_capacity=1 << 14)
    world = World(1, Config(path=Path(), transport=server))
    client = world.add([(20_000_000, 0, 0)])
    assert world.run()
    assert client.flow._download.path.bytes == 1400
    assert not client.flow._download.path.searching


def test_uploads_pass_where_only_the_way_up_is_narrow() -> None:
    world = World(1, Config(path=Path()))
    client = world.add(
        [(5_000_000, 0, 0), (1000, 500_000, 0), (5_000_000, 0, 0), (1000, 500_000, 0)]
    )
    swallowed = narrow(world, 1 << 16, up=1300)
    assert world.run(30.0)
    assert not client.wrong
    assert client.flow._download.path.bytes == 1472
    assert len(swallowed) < 100
