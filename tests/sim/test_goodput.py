"""The golden table: what a bulk flow gets of a link, over loss and queue.

`python -m tests.sim.test_goodput` prints the table as the tests expect it. A change of the
congestion rules shows here, and in review.
"""

from __future__ import annotations

from math import sqrt
from typing import NamedTuple

import pytest

from tests.sim.world import Config, World, lose_one
from trickles_web.config import BASE_DATAGRAM, ClientConfig
from trickles_web.testing.network import OVERHEAD, Path

RTT = 0.020
RATE = 8000
"""Packets per second of BASE_DATAGRAM bytes."""
PACKET = BASE_DATAGRAM + OVERHEAD
WARM_UP = 10.0
"""Seconds left out: slow start, and the first halvings."""


class Measured(NamedTuple):
    packets_per_second: float
    used: float
    """Share of the link's rate that packets took, and"""
    payload: float
    """that response bytes took."""


def measure(loss: float, queue_packets: int, seconds: float, seed: int = 1) -> Measured:
    path = Path(rate=RATE * PACKET, delay=RTT / 2, queue=queue_packets * PACKET, loss=loss)
    client = ClientConfig(max_datagram_bytes=BASE_DATAGRAM)
    world = World(seed, Config(path=path, client=client))
    world.add([(2_000_000_000, 0, 0)])
    marks: list[tuple[int, int, int]] = []

    def mark() -> None:
        marks.append((world.down_link.carried, world.down_link.carried_bytes, world.delivered))

    world.clock.after(WARM_UP, mark)
    world.run(WARM_UP + seconds)
    mark()
    packets, carried, delivered = (b - a for a, b in zip(*marks, strict=True))
    line = RATE * PACKET * seconds
    return Measured(packets / seconds, carried / line, delivered / line)


def reno_law(loss: float) -> float:
    """Packets per second: Mathis et al., CCR 1997."""
    return sqrt(3 / 2 / loss) / RTT


GOLDEN: dict[tuple[float, int], tuple[float, float]] = {
    # (loss, queue in packets): (share of the link used, share of the Reno law; 0 = no loss)
    # The bandwidth-delay product is 160 packets: with a queue of 40 a halved window leaves the
    # link idle for a while, as Reno's does. With losses the queue is never full.
    (0.0, 40): (0.84, 0.0),
    (0.0, 160): (1.0, 0.0),
    (0.01, 40): (0.07, 0.93),
    (0.02, 40): (0.05, 0.92),
    (0.05, 40): (0.03, 0.94),
}


def row(loss: float, queue: int) -> tuple[float, float]:
    measured = measure(loss, queue, 60 if loss else 20)
    law = measured.packets_per_second / reno_law(loss) if loss else 0.0
    return round(measured.used, 2), round(law, 2)


@pytest.mark.timeout(300)  # much arithmetic, on machines that do other things too
@pytest.mark.parametrize(("loss", "queue"), GOLDEN)
def test_golden_table(loss: float, queue: int) -> None:
    used, law = row(loss, queue)
    expected_used, expected_law = GOLDEN[loss, queue]
    assert used == pytest.approx(expected_used, abs=0.011)
    assert law == pytest.approx(expected_law, abs=0.021)
    if loss:
        assert 0.85 <= law <= 1.15
    elif queue >= RATE * RTT:
        assert used >= 0.93


@pytest.mark.parametrize("length", [1500, 2094])
def test_a_short_answer_whose_only_carrier_is_lost(
    length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two packets, of which the second may be full: it ended the line, and nothing was at hand to
    open the next one from.
    """
    world = World(1, Config())
    client = world.add([(length, 0, 0)])
    lost = lose_one(world, monkeypatch)
    assert world.run(0.2), "ten round trips"
    assert lost
    assert client.wrong == 0
    assert client.flow.stats.timeouts == 0


def test_a_full_queue_halves_the_window_once() -> None:
    """What leaves with the last numbers of the full window may overflow the queue once more."""
    packets = 170  # one bandwidth-delay product in flight, and one queued
    path = Path(queue=packets * 1480.0)
    world = World(0, Config(path=path, sealed_bytes=106))
    client = world.add([(2_000_000_000, 0, 0)])
    world.run(2.0)  # behind the overshoot of slow start
    line = client.flow._download.line
    assert line is not None
    before = len(line.views)
    world.run(12.0)
    windows = [view.epoch.cwnd0 for view in line.views[before:]]
    assert windows, "the queue never overflowed"
    assert min(windows) > packets * 0.9, "a quarter of the full window, not half"


if __name__ == "__main__":
    for loss, queue in GOLDEN:
        used, law = row(loss, queue)
        print(f"    ({loss}, {queue}): ({used:.2f}, {law:.2f}),", flush=True)
