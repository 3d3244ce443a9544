"""RangeSet against a plain set of integers."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from trickles_web.transport.ranges import RangeSet

positions = st.integers(0, 60)
operations = st.lists(st.tuples(st.sampled_from(["add", "below"]), positions, positions))


@given(operations)
def test_it_behaves_like_a_set(steps: list[tuple[str, int, int]]) -> None:
    ranges, model = RangeSet(), set[int]()
    for name, a, b in steps:
        if name == "add":
            ranges.add(a, b)
            model |= set(range(a, b))
        else:
            ranges.discard_below(a)
            model = {k for k in model if k >= a}
        assert {k for x, y in ranges for k in range(x, y)} == model
        assert all(x < y for x, y in ranges)
        # Sorted, and neighbours that touch have merged.
        assert all(y < x for (_, y), (x, _) in pairwise(ranges))
        assert len(ranges) == len(list(ranges))


@given(operations, positions, positions)
def test_missing_is_the_complement(
    steps: list[tuple[str, int, int]], start: int, stop: int
) -> None:
    ranges, model = RangeSet(), set[int]()
    for _, a, b in steps:
        ranges.add(a, b)
        model |= set(range(a, b))
    missing = list(ranges.missing(start, stop))
    assert all(x < y for x, y in missing)
    assert [k for x, y in missing for k in range(x, y)] == sorted(set(range(start, stop)) - model)


def test_clear() -> None:
    ranges = RangeSet()
    ranges.add(3, 9)
    ranges.clear()
    assert list(ranges) == []
    assert list(ranges.missing(0, 5)) == [(0, 5)]
