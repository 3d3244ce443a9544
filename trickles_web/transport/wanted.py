"""What the client still wants of the response, and which of it a claim asks for."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from trickles_web.transport.ranges import RangeSet
from trickles_web.transport.reassembly import Reassembly
from trickles_web.transport.wire import MOST_WANTS, OPEN_END, Wants


class Wanted:
    """Bytes to ask for: those that were lost first, then new ones.

    `next_new`: nothing at or above it was asked for yet. `end`: where the response ends, -1 while
    unknown. `limit`: nothing above it may be asked for, for the reader has no room.
    """

    __slots__ = ("_enough", "_lost", "_stream", "end", "limit", "next_new")

    def __init__(self, stream: Reassembly, limit: int) -> None:
        self._stream = stream
        self._lost = RangeSet()
        self.next_new = stream.received
        self.end = -1
        self.limit = limit
        self._enough = limit // 2

    @property
    def bound(self) -> int:
        """New bytes may be asked for up to here."""
        return self.limit if self.end < 0 else min(self.end, self.limit)

    @property
    def not_asked(self) -> int:
        """New bytes that were not asked for yet; endless while the end is unknown."""
        return OPEN_END if self.end < 0 else self.end - self.next_new

    @property
    def any_lost(self) -> bool:
        return any(True for _ in self._still_missing())

    def lose(self, start: int, stop: int) -> None:
        """These bytes were asked for and did not come."""
        self._lost.add(start, stop if self.end < 0 else min(stop, self.end))

    def restart(self) -> None:
        """Begin again from the first byte that is missing, as each opening does."""
        self._lost.clear()
        self.next_new = self._stream.received

    def everything(self) -> Wants:
        """All that is missing and may be asked for: what an opening wants."""
        received, bound = self._stream.received, self.bound
        high = max(received, min(self._stream.highest, bound))
        wants: list[tuple[int, int]] = []
        if high > received:
            wants += islice(self._stream.missing(received, high), MOST_WANTS - 1)
        if len(wants) < MOST_WANTS - 1 and (high < bound or not wants):
            # An end that is known and reached is asked for again: its continuation is missing.
            start = high if self.end < 0 or high < self.end else max(self.end - 1, 0)
            stop = OPEN_END if bound == OPEN_END else max(bound, start + 1)
            wants.append((start, stop))
        return tuple(wants)

    def take(self, rooms: list[int]) -> tuple[Wants, bool]:
        """Wants that fill these packets, and whether they fill them all.

        ((), False) when nothing may be asked for now. The reader's limit holds back new bytes only
        while nothing is lost: a claim made for the sake of lost bytes is made in full.
        """
        wants: list[tuple[int, int]] = []
        lost = list(self._still_missing())
        bound = self.bound
        if not lost:
            if self.next_new >= bound:
                return (), False
            room = bound - self.next_new
            if bound != self.end and room < min(sum(rooms), self._enough):
                return (), False
        elif self.end < 0:
            bound = OPEN_END
        else:
            bound = self.end
        i = self._take_lost(lost, rooms, wants)
        if i < len(rooms) and len(wants) < MOST_WANTS and self.next_new < bound:
            start, most = self.next_new, self.next_new + sum(rooms[i:])
            self.next_new = min(most, bound)
            wants.append((start, self.next_new))
            return tuple(wants), most <= bound
        return tuple(wants), i == len(rooms)

    def _take_lost(
        self, lost: list[tuple[int, int]], rooms: list[int], wants: list[tuple[int, int]]
    ) -> int:
        """Fill packets with lost bytes; returns how many packets were filled."""
        i = 0
        self._lost.clear()
        for start, stop in lost:
            at = start
            while at < stop and i < len(rooms) and len(wants) < MOST_WANTS:
                at = min(at + rooms[i], stop)
                i += 1
            if at > start:
                wants.append((start, at))
            self._lost.add(at, stop)
        return i

    def _still_missing(self) -> Iterable[tuple[int, int]]:
        for start, stop in self._lost:
            yield from self._stream.missing(start, stop)
