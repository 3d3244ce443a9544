"""What was claimed is found with few look-ups, wherever it lies."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from trickles_web.transport.claimed import CLAIM_BLOCK, marks_of, unclaimed
from trickles_web.transport.claims import MOST_TESTS, initial_epoch
from trickles_web.transport.epochs import LONGEST_REACH
from trickles_web.transport.redeemed import Answer
from trickles_web.transport.replay import ReplayFilter

GENERATION = 1 << 40


class Counted:
    """A filter, and how many look-ups and marks there were."""

    def __init__(self) -> None:
        self.count = 0
        self.filter = ReplayFilter(10_000, 70_000, self._hash)
        self.filter.turn(1)

    def _hash(self, key: bytes) -> int:
        self.count += 1
        return int.from_bytes(hashlib.blake2b(key, digest_size=16).digest(), "big", signed=True)

    def claim(self, start: int, burst: int, stop: int) -> None:
        for mark in marks_of(answer(start, burst, stop)):
            self.filter.add(mark)
        self.count = 0


def answer(start: int, burst: int, stop: int) -> Answer:
    """What buys it is a claim of [start, stop) whose burst begins at `burst`."""
    none: tuple[bytes, ...] = ()
    numbers = (0, 0, (), 1200, 0, 0, stop)
    return Answer(
        0, GENERATION, initial_epoch(10), None, *numbers, none, none, reached=(start, burst)
    )


numbers = st.integers(0, 300)
lengths = st.integers(1, 80)


@given(
    st.lists(st.tuples(numbers, st.integers(0, 100), lengths), max_size=8),
    numbers,
    st.integers(0, LONGEST_REACH),
)
def test_overlaps_are_found_and_nothing_else(
    claims: list[tuple[int, int, int]], start: int, length: int
) -> None:
    counted, claimed = Counted(), set[int]()
    for low, reach, burst in claims:
        counted.claim(low, low + reach, low + reach + burst)
        claimed |= {*range(low, low + reach), low + reach + burst - 1}
    absent = unclaimed(GENERATION, start, start + length, counted.filter)
    assert (absent is None) == bool(claimed & set(range(start, start + length)))
    if absent is not None:
        assert not counted.filter.has_any(absent)


@given(st.integers(1, 300), st.integers(1, LONGEST_REACH), numbers, lengths)
def test_absent_keys_tell_of_every_later_claim(
    start: int, length: int, at: int, burst: int
) -> None:
    """So what was judged before it is judged again."""
    counted = Counted()
    absent = unclaimed(GENERATION, start, start + length, counted.filter)
    assert absent is not None
    counted.claim(at, at, at + burst)
    if start <= at + burst - 1 < start + length:
        assert counted.filter.has_any(absent)


def test_a_long_stretch_costs_few_look_ups() -> None:
    """The worst there is: others have claimed right before it and right behind."""
    counted, start = Counted(), CLAIM_BLOCK
    for length, most in ((LONGEST_REACH, 71), (MOST_TESTS, 127)):
        counted.claim(start, start, start + 1)
        counted.claim(start, start, start + length + 2)
        absent = unclaimed(GENERATION, start + 1, start + 1 + length, counted.filter)
        assert absent is not None
        assert counted.count <= 2 * most  # there are two filters
        start += 2 * MOST_TESTS
