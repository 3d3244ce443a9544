"""Datagrams of a flow whose server was gone for a while: small in doubt, but not for good."""

from __future__ import annotations

from tests.sim.world import Client, Config, World
from trickles_web.config import BASE_DATAGRAM, ClientConfig
from trickles_web.testing.network import Path
from trickles_web.transport.line import Line


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


def test_a_path_that_swallows_large_datagrams_gets_small_ones() -> None:
    world = World(1, Config(path=Path(), client=ClientConfig(receive_buffer_bytes=200_000)))
    client = world.add([(2_000_000_000, 0, 0)])
    world.run(2.0)
    send = world.down_link.send

    def narrow(datagram: bytes, *receivers: object) -> None:
        if len(datagram) <= BASE_DATAGRAM:
            send(datagram, *receivers)  # type: ignore[arg-type]

    world.down_link.send = narrow  # type: ignore[assignment, method-assign]
    world.run(6.0)
    before = world.delivered
    world.run(9.0)
    assert line_of(client).size == BASE_DATAGRAM
    assert world.delivered - before > 0.8 * 3.0 * 9_000_000
