"""The secret is replaced while flows go on; and a replica that has another one."""

from __future__ import annotations

from functools import partial

import pytest

from tests.sim.world import Config, Replica, World
from trickles_web.testing import network

pytestmark = pytest.mark.usefixtures("each_kind")

OLD, NEW = b"k" * 32, b"n" * 32
STAGES = ((OLD, NEW), (NEW, OLD), (NEW,))
"""Each replica is told each, in this order, but not all at the same time."""
STAGE_S = 2.0
"""Between two: flows that are not idle hold nothing any more that the old secret has sealed."""
PATH = network.Path(rate=1_000_000, loss=0.01, request_loss=0.01)


def restart(replica: Replica, *secrets: bytes) -> None:
    replica.totals += replica.server.counters
    replica.secrets = secrets
    replica.start()


@pytest.mark.parametrize("seed", range(3))
def test_flows_go_on_while_the_secret_is_replaced(seed: int) -> None:
    world = World(seed, Config(path=PATH, replicas=3))
    for stage, secrets in enumerate(STAGES, 1):
        for number, replica in enumerate(world.replicas):
            told = stage * STAGE_S + 0.2 * number
            world.clock.after(told, partial(restart, replica, *secrets))
    ends = (len(STAGES) + 1) * STAGE_S
    clients = [world.add([(10_000, 300, 0)] * 3, at=n * ends / 60) for n in range(60)]
    long = world.add([(8_000_000, 0, 0)])
    assert world.run(10 * ends)
    assert world.clock.now > ends
    assert [client.flow.error for client in (long, *clients)] == [None] * 61
    assert sum(client.wrong for client in (long, *clients)) == 0
    assert (
        sum((replica.totals + replica.server.counters)["secret"] for replica in world.replicas) == 0
    )


def test_a_replica_with_another_secret_is_told_from_a_forger() -> None:
    world = World(1, Config(replicas=3))
    restart(world.replicas[2], b"wrong".ljust(32))
    clients = [world.add([(50_000, 300, 0)] * 3, at=n / 10) for n in range(30)]
    assert world.run(300)
    assert [client.flow.error for client in clients] == [None] * 30
    assert sum(client.wrong for client in clients) == 0
    counted = [replica.server.counters for replica in world.replicas]
    assert all(c["secret"] > 0 for c in counted)  # each is a stranger to another
    assert sum(c["forged"] for c in counted) == 0
