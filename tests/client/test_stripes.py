"""Handing out a file: each byte comes once, whatever readers do, and the end is reached."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trickles_web.client import stripes
from trickles_web.client.stripes import LATE_S, LEAST_BYTES, SILENT_S, Stripe, Stripes

MEGABYTE = 1 << 20


class Reading:
    """Readers that do as they are told, and a consumer that takes what is in order."""

    def __init__(self, start: int, size: int, readers: int, window: int) -> None:
        self.start, self.stop = start, start + size
        self.window = window
        self.stripes = Stripes(start, self.stop, readers, window)
        self.now = 0.0
        self.held: dict[int, Stripe] = {}
        self.ready: dict[int, int] = {}

    def take(self, reader: int) -> Stripe | None:
        stripe = self.stripes.take(reader, self.now)
        if stripe is not None:
            assert stripe.stop - self.stripes.floor <= max(self.window, 1)
            self.held[reader] = stripe
        return stripe

    def arrives(self, reader: int, size: int) -> None:
        """These many bytes; its stripe is released if it is over."""
        stripe = self.held[reader]
        at = stripe.at
        counted = self.stripes.arrived(reader, size, self.now)
        if counted:
            assert at not in self.ready
            self.ready[at] = counted
        while (size := self.ready.pop(self.stripes.floor, 0)) > 0:
            self.stripes.floor += size
        if not stripe.left:
            self.release(reader)

    def release(self, reader: int) -> None:
        del self.held[reader]
        self.stripes.release(reader)

    @property
    def over(self) -> bool:
        return self.stripes.floor == self.stop


steps = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from(["work", "work", "fail", "wait", "burst"]),
        st.integers(1, 3 * MEGABYTE),
        st.floats(0.0, 2 * SILENT_S),
    ),
    max_size=120,
)


@given(
    start=st.integers(0, 10 * MEGABYTE),
    size=st.integers(1, 40 * MEGABYTE),
    readers=st.integers(1, 4),
    window=st.sampled_from([1, 1000, LEAST_BYTES, MEGABYTE, 16 * MEGABYTE, stripes.WINDOW_BYTES]),
    told=steps,
)
def test_each_byte_comes_once_and_it_ends(
    start: int,
    size: int,
    readers: int,
    window: int,
    told: list[tuple[int, str, int, float]],
) -> None:
    if window < MEGABYTE:
        size = size % (200 * window) + 1
    reading = Reading(start, size, readers, window)
    for reader, what, count, seconds in told:
        reader %= readers
        reading.now += seconds
        if reader not in reading.held:
            reading.take(reader)
        elif what == "fail":
            reading.release(reader)
        elif what != "wait":
            reading.arrives(reader, count if what == "burst" else count % LEAST_BYTES + 1)
    # From here on one reader is left that works; the others hold what they hold, and are silent.
    last = 0
    for _ in range(10_000):
        if reading.over:
            break
        reading.now += 0.1
        if last in reading.held or reading.take(last):
            reading.arrives(last, MEGABYTE)
    assert reading.over
    # Tiled exactly: `arrives` has seen no offset twice, and the floor moved over each byte.
    assert reading.stripes.floor == start + size and not reading.ready


@pytest.mark.parametrize(
    ("rate", "expected"),
    [(MEGABYTE, 2 * MEGABYTE), (100 * MEGABYTE, stripes.LARGEST_BYTES), (1000, LEAST_BYTES)],
)
def test_a_stripe_is_what_its_reader_fetches_in_two_seconds(rate: int, expected: int) -> None:
    reading = Reading(0, 500 * MEGABYTE, 2, stripes.WINDOW_BYTES)
    first = reading.take(0)
    assert first is not None and first.left == stripes.FIRST_BYTES
    reading.now += first.left / rate
    reading.arrives(0, first.left)
    following = reading.take(0)
    assert following is not None and abs(following.left - expected) < 10


def test_a_reader_that_failed_gets_little() -> None:
    reading = Reading(0, 500 * MEGABYTE, 2, stripes.WINDOW_BYTES)
    reading.take(0)
    reading.release(0)
    following = reading.take(0)
    assert following is not None and following.left == LEAST_BYTES
    reading.now = LATE_S
    other = reading.take(1)
    assert other is not None and other.at == LEAST_BYTES, "what was given back comes first"
    reading.arrives(1, other.left)
    other = reading.take(1)
    assert other is not None and other.at == 0 and following.left == 0, "then what is doubtful"


def test_half_of_the_latest_is_taken_over() -> None:
    reading = Reading(0, 2 * MEGABYTE, 2, stripes.WINDOW_BYTES)
    slow, fast = reading.take(0), reading.take(1)
    assert slow is not None and fast is not None
    assert (slow.stop, fast.at, fast.stop) == (MEGABYTE, MEGABYTE, 2 * MEGABYTE)
    reading.now = LATE_S / 2
    reading.arrives(1, MEGABYTE)
    assert reading.take(1) is None, "the other one has only begun"
    reading.now = 1.0
    reading.arrives(0, MEGABYTE // 4)
    half = reading.take(1)
    assert half is not None
    assert (slow.at, slow.stop, half.at, half.stop) == (
        MEGABYTE // 4,
        MEGABYTE * 5 // 8,
        MEGABYTE * 5 // 8,
        MEGABYTE,
    )


def test_all_is_taken_over_from_a_silent_reader() -> None:
    reading = Reading(0, 20 * MEGABYTE, 2, stripes.WINDOW_BYTES)
    silent = reading.take(0)
    assert silent is not None
    reading.arrives(0, 5)
    reading.now = SILENT_S + 0.1
    first = reading.take(1)
    assert first is not None and first.at == 5 and silent.left == 0
    assert reading.stripes.arrived(0, 1000, reading.now) == 0, "too late: another one has it"
