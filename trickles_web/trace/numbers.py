"""The numbers of one generation, as a trace shows them: what came, what is lost, what came late.

By the client's own rule: a number is lost if one 3 above it arrived, or its generation is over and
its burst promised it.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from trickles_web.transport.ranges import Range, RangeSet

REORDERING: Final = 3
"""Packets (RFC 9002 §6.1.1)."""
_REMEMBERED: Final = 4096
"""How far behind a number that was held for lost is still known to have been."""


class Arrival(Enum):
    NEW = "new"
    LATE = "late"
    """It was held for lost before."""
    COPY = "copy"


class Numbers:
    """See the module."""

    def __init__(self) -> None:
        self.arrived = 0
        self.lost = 0
        """Those that came late not counted."""
        self.late = 0
        self.judged = 0
        """Each number below it either arrived or is held for lost."""
        self.ended = -1
        """Above it no number was sent; -1: unknown."""
        self.granted = 0
        """The numbers below it were asked for."""
        self._highest = -1
        self._promised = 0
        self._came = RangeSet()
        self._missing = RangeSet()

    def take(self, number: int, burst_stop: int) -> Arrival:
        """Of the burst that ends before `burst_stop`."""
        self._promised = max(self._promised, burst_stop)
        if self.came(number):
            return Arrival.COPY
        if number < self.judged:
            if next(self._missing.missing(number, number + 1), None) is not None:
                return Arrival.COPY  # or so long ago that nobody knows
            self._came.add(number, number + 1)
            self.lost -= 1
            self.late += 1
            self.arrived += 1
            return Arrival.LATE
        self._came.add(number, number + 1)
        self._highest = max(self._highest, number)
        self.arrived += 1
        return Arrival.NEW

    def came(self, number: int) -> bool:
        """False, too, if that was too long ago to be known."""
        return next(self._came.missing(number, number + 1), None) is None

    def end(self, number: int) -> None:
        """An answer says that the generation ends there; if answers differ, the lowest counts."""
        self.ended = number if self.ended < 0 else min(self.ended, number)

    def lose(self, *, over: bool = False) -> list[Range]:
        """What is lost by now, and was not before. over: nothing more comes of this generation."""
        limit = max(self._promised, self._highest + 1) if over else self._highest - REORDERING + 1
        if self.ended >= 0:
            limit = min(limit, self.ended)
        found = list(self._came.missing(self.judged, limit))
        for start, stop in found:
            self._missing.add(start, stop)
            self.lost += stop - start
        if limit > self.judged:
            self.judged = limit
            self._came.discard_below(limit - _REMEMBERED)
            self._missing.discard_below(limit - _REMEMBERED)
        return found

    @property
    def unanswered(self) -> int:
        """Numbers asked for that no burst promised: they were lost whole, or the request was."""
        limit = self.granted if self.ended < 0 else min(self.granted, self.ended)
        return max(0, limit - max(self._promised, self._highest + 1))
