"""Sets of integers kept as sorted, disjoint, half-open ranges."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator

Range = tuple[int, int]


class RangeSet:
    """Integers as sorted half-open ranges; adding in order costs O(1)."""

    __slots__ = ("_starts", "_stops")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []

    def __iter__(self) -> Iterator[Range]:
        return zip(self._starts, self._stops, strict=True)

    @property
    def stop(self) -> int:
        """Above all of the integers, which are not negative; 0 if there are none."""
        return self._stops[-1] if self._stops else 0

    def __len__(self) -> int:
        """Number of ranges, not of integers."""
        return len(self._starts)

    def add(self, start: int, stop: int) -> None:
        """Add [start, stop); touching ranges merge."""
        if start >= stop:
            return
        starts, stops = self._starts, self._stops
        if not starts or start > stops[-1]:
            starts.append(start)
            stops.append(stop)
            return
        if start >= starts[-1]:
            if stop > stops[-1]:
                stops[-1] = stop
            return
        i = bisect_left(stops, start)
        j = bisect_right(starts, stop)
        if i < j:
            start = min(start, starts[i])
            stop = max(stop, stops[j - 1])
        starts[i:j] = [start]
        stops[i:j] = [stop]

    def discard_below(self, limit: int) -> None:
        """Forget everything below `limit`."""
        i = bisect_right(self._stops, limit)
        del self._starts[:i], self._stops[:i]
        if self._starts and self._starts[0] < limit:
            self._starts[0] = limit

    def missing(self, start: int, stop: int) -> Iterator[Range]:
        """The parts of [start, stop) that are not in the set, ascending."""
        i = bisect_right(self._stops, start)
        while start < stop:
            if i == len(self._starts) or self._starts[i] >= stop:
                yield start, stop
                return
            if self._starts[i] > start:
                yield start, self._starts[i]
            start = self._stops[i]
            i += 1

    def clear(self) -> None:
        self._starts.clear()
        self._stops.clear()
