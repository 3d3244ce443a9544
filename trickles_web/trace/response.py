"""Which bytes of the response stream a trace has shown."""

from __future__ import annotations

from trickles_web.transport.ranges import RangeSet

_MOST_GAPS = 4096


class Response:
    """See the module."""

    def __init__(self) -> None:
        self.received = 0
        """All bytes below it are here."""
        self._start = 0
        """Of the exchange in progress."""
        self._end = -1
        self._edition = 0
        self._here = RangeSet()

    def skip(self, received: int) -> int:
        """The client says that it has all bytes below. Returns how many of them are not in the
        trace: it may have begun later, or have missed some.
        """
        return self.add(self.received, received)

    def add(self, start: int, stop: int) -> int:
        """How many of these bytes are new."""
        low = max(start, self.received)
        fresh = sum(y - x for x, y in self._here.missing(low, stop)) if low < stop else 0
        self._here.add(low, stop)
        if len(self._here) > _MOST_GAPS:
            self.received = next(iter(self._here))[0]  # nothing of ours leaves so many
        first = next(iter(self._here), None)
        if first is not None and first[0] <= self.received:
            self.received = max(self.received, first[1])
            self._here.discard_below(self.received)
        return fresh

    def edition(self, number: int, offset: int) -> bool:
        """Bytes from `offset` on are of this edition. Does it take the place of bytes seen?"""
        if number == self._edition:
            return False
        self._edition = number
        again = offset < self.received and offset >= self._start and self.received > self._start
        if again:
            self.received = offset
        again |= next(iter(self._here), None) is not None
        self._here = RangeSet()
        return again

    def seal(self, end: int) -> None:
        """The exchange's response ends there; -1: not known. Of the one before: ignored."""
        if end > self._start:
            self._end = end

    def done(self) -> tuple[int, int] | None:
        """The response that has just become whole."""
        if not 0 <= self._end <= self.received:
            return None
        whole = self._start, self._end
        self._start, self._end = self._end, -1
        return whole
