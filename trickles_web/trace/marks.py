"""What of a trace goes into its plot: points by class, thinned where they are many."""

from __future__ import annotations

from typing import NamedTuple

from trickles_web.trace.thinned import Thinned

MOST_MARKS = 8192
"""Of each class."""


class Mark(NamedTuple):
    """At `at` seconds since 1970, from `low` to `high`: response bytes, packets, or seconds.

    `replica` is that of new response bytes.
    """

    at: float
    low: float
    high: float
    replica: int


class Marks:
    """By class. The classes are those of `plot`."""

    def __init__(self) -> None:
        self.classes: dict[str, Thinned[Mark]] = {}

    def add(
        self, name: str, at: float, low: float, high: float | None = None, replica: int = 0
    ) -> None:
        marks = self.classes.setdefault(name, Thinned(MOST_MARKS))
        marks.add(Mark(at, low, low if high is None else high, replica))
