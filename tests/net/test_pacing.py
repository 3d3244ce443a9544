"""When datagrams of large answers leave, by a clock that the test turns."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any, cast

import pytest

from trickles_web.net import pacing
from trickles_web.net.pacing import Pacer
from trickles_web.transport.redeemed import Train

SIZE = 10
PEER = "client"


class Loop:
    """One timer, as much as a Pacer needs of a loop."""

    def __init__(self) -> None:
        self.now = 100.0
        self._due: tuple[float, Callable[[], None]] | None = None

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, action: Callable[[], None]) -> Any:
        assert self._due is None, "two timers at a time"
        self._due = self.now + delay, action

    @property
    def idle(self) -> bool:
        return self._due is None

    def turn(self, late: float = 0.0) -> None:
        """Let the timer run out, and the time that it is late."""
        assert self._due is not None
        at, action = self._due
        self._due, self.now = None, at + late
        action()


class Sent:
    """What a Pacer has sent: datagrams by number, and in what trains."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.numbers: dict[str, list[int]] = {}
        self.pacer = Pacer[str](cast(asyncio.AbstractEventLoop, self.loop), self._take)
        self._next: dict[str, int] = {}

    def _take(self, train: Train, to: str) -> None:
        datagrams = train.datagrams()
        assert len(datagrams) == train.count
        assert all(len(datagram) == SIZE for datagram in datagrams)
        got = self.numbers.setdefault(to, [])
        got += [int.from_bytes(datagram, "big") for datagram in datagrams]

    def answer(self, count: int, pace: int, to: str = PEER, train: int = 46) -> None:
        """An answer of so many datagrams, in trains of `train`, their buffers cut anywhere."""
        trains, first = [], self._next.get(to, 0)
        self._next[to] = first + count
        for start in range(first, first + count, train):
            numbers = range(start, min(start + train, first + count))
            whole = b"".join(k.to_bytes(SIZE, "big") for k in numbers)
            cut = len(whole) // 3
            buffers: list[bytes | memoryview] = [whole[:cut], memoryview(whole)[cut:]]
            trains.append(Train(SIZE, len(numbers), buffers))
        self.pacer.add(trains, to, to, lambda waited: pace)

    def count(self, to: str = PEER) -> int:
        got = self.numbers.get(to, [])
        assert got == list(range(len(got)))
        return len(got)


def test_an_answer_within_the_pace_leaves_at_once() -> None:
    sent = Sent()
    sent.answer(64, 64)
    assert sent.count() == 64
    assert sent.loop.idle


@pytest.mark.parametrize("train", [1, 7, 46, 64])
@pytest.mark.parametrize("pace", [4, 27, 36, 64, 90])
def test_each_millisecond_brings_the_pace_whatever_the_trains(pace: int, train: int) -> None:
    """Trains were sent whole: at a pace of 27, one of 46 took two turns for each 23."""
    sent = Sent()
    sent.answer(500, pace, train=train)
    turns = 1
    while not sent.loop.idle:
        assert sent.count() == turns * pace
        sent.loop.turn()
        turns += 1
    assert sent.count() == 500
    assert turns == -(-500 // pace)
    assert sent.pacer.bytes == 0


def test_a_late_timer_makes_up_for_it_within_bounds() -> None:
    sent = Sent()
    sent.answer(1000, 10)
    sent.loop.turn(late=0.00149)
    assert sent.count() == 10 + 24
    sent.loop.turn(late=0.00011)  # parts of a datagram are not forgotten
    assert sent.count() == 10 + 36
    sent.loop.turn(late=5.0)
    assert sent.count() == 10 + 36 + 10 * pacing.LATEST_PACE


def test_nothing_overtakes_and_others_do_not_wait() -> None:
    sent = Sent()
    draw = random.Random(1)
    for _ in range(50):
        sent.answer(draw.randrange(1, 200), draw.randrange(4, 100))
        sent.answer(3, 4, to="another")
        assert sent.count("another") % 3 == 0
        if not sent.loop.idle:
            sent.loop.turn(late=draw.random() / 500)
            sent.count()
    assert sent.count("another") == 150
    while not sent.loop.idle:
        sent.loop.turn()
    assert sent.count() == sent._next[PEER]


def test_beyond_the_bound_what_waits_leaves_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "PACED_BYTES", 1000)
    sent = Sent()
    sent.answer(90, 10)
    assert sent.count() == 10
    sent.answer(90, 10)
    assert sent.count() == 180
    assert sent.pacer.bytes == 0


def test_the_pace_is_told_how_long_answers_waited_here() -> None:
    sent = Sent()
    told: list[int] = []

    def pace(waited: int) -> int:
        told.append(waited)
        return 10

    for _ in range(2):
        sent.pacer.add([Train(SIZE, 45, [bytes(45 * SIZE)])], PEER, PEER, pace)
        for _ in range(3):
            sent.loop.turn(late=1e-6)
    assert told[0] == 0
    assert told[-1] == 3
