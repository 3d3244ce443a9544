"""Who fetches which bytes of one file: the rules of a striped download, without clocks or flows.

Bytes are handed out from the front, in stripes of about two seconds each, and never further ahead
of the first missing byte than a window: so what waits for its turn is bounded, and what was handed
on is a prefix at every moment. Who has nothing left to do takes over half of the stripe that would
be ready last, or all of it from a reader that is silent (as aria2 does, but in a window): neither
the window nor the end waits for one slow replica.

Every byte is held by one reader at a time, and arrives once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

WINDOW_BYTES = 64 << 20
"""Held in memory at most, of what arrived before bytes in front of it."""
STRIPE_S = 2.0
"""A stripe is what its reader fetches in this long: a round trip between two is little then."""
FIRST_BYTES = 1 << 20
"""For a reader whose rate is not known yet."""
LARGEST_BYTES = 8 << 20
LEAST_BYTES = 64 << 10
"""Less is not worth a request: not handed out, nor split, unless it is all there is."""
LATE_S = 0.5
"""Nobody takes over from a reader that will be ready within this."""
SILENT_S = 1.5
"""A reader from which nothing came for so long loses all of its stripe, if another one is free."""


@dataclass(slots=True)
class Stripe:
    """Bytes [at, stop), still to come; `stop` moves down when another reader takes over."""

    at: int
    stop: int
    began: int
    taken_at: float
    moved_at: float

    @property
    def left(self) -> int:
        return self.stop - self.at

    def rate(self, now: float) -> float:
        """Bytes per second up to now."""
        return (self.at - self.began) / max(now - self.taken_at, 1e-3)


class Stripes:
    """Hands out [start, stop) to readers, which are small numbers. Times are monotonic seconds."""

    def __init__(self, start: int, stop: int, readers: int, window: int = WINDOW_BYTES) -> None:
        self.floor = start
        """All before it was handed on: whoever reads in order moves it."""
        self._stop = stop
        self._readers = readers
        self._window = window
        self._largest = max(1, min(LARGEST_BYTES, window // (2 * readers)))
        self._next = start
        self._returned: list[tuple[int, int]] = []
        """Given back by readers that failed, in front of `_next`."""
        self._held: dict[int, Stripe] = {}
        self._rates: dict[int, float] = {}

    def take(self, reader: int, now: float) -> Stripe | None:
        """A stripe for a reader that has none. None: there is nothing for it, but may be later."""
        assert reader not in self._held
        size = self._size(reader)
        part = (
            self._from_returned(size)
            or self._take_over(now, math.inf)
            or self._from_front(size)
            or self._take_over(now, LATE_S)
        )
        if part is None:
            return None
        stripe = self._held[reader] = Stripe(part[0], part[1], part[0], now, now)
        return stripe

    def _from_returned(self, size: int) -> tuple[int, int] | None:
        if not self._returned:
            return None
        start, stop = part = min(self._returned)
        self._returned.remove(part)
        if stop - start > size + LEAST_BYTES:
            self._returned.append((start + size, stop))
            stop = start + size
        return start, stop

    def _from_front(self, size: int) -> tuple[int, int] | None:
        edge = min(self.floor + self._window, self._stop)
        stop = min(self._next + size, edge)
        if self._stop - stop < LEAST_BYTES and edge == self._stop:
            stop = edge
        if stop - self._next < min(LEAST_BYTES, self._largest, self._stop - self._next):
            return None
        start, self._next = self._next, stop
        return (start, stop) if start < stop else None

    def _size(self, reader: int) -> int:
        """Smaller towards the end, so that all are ready at about the same time."""
        rate = self._rates.get(reader)
        size = FIRST_BYTES if rate is None else max(LEAST_BYTES, int(rate * STRIPE_S))
        share = (self._stop - self._next) // self._readers
        return min(size, self._largest, max(share, FIRST_BYTES))

    def _take_over(self, now: float, least_wait: float) -> tuple[int, int] | None:
        """Of the stripe that would be ready last, if that takes so long."""
        waits = {reader: self._wait(reader, now) for reader in self._held}
        latest = max(waits, key=waits.__getitem__, default=None)
        if latest is None or waits[latest] < least_wait:
            return None
        late, wait = self._held[latest], waits[latest]
        # What is too little to share is its reader's, unless that has stopped, or crawls.
        whole = wait == math.inf or late.left < 2 * LEAST_BYTES
        start = late.at + (0 if whole else late.left // 2)
        stop, late.stop = late.stop, start
        return start, stop

    def _wait(self, reader: int, now: float) -> float:
        """Seconds until its stripe is there, as it looks now."""
        stripe = self._held[reader]
        if not stripe.left or now - stripe.taken_at < LATE_S:
            return 0.0  # what was asked for just now may not be answered yet
        failed_before = stripe.at == stripe.began and self._rates.get(reader) == 0.0
        if failed_before or now - stripe.moved_at > SILENT_S:
            return math.inf
        rate = stripe.rate(now)
        return stripe.left / rate if rate else SILENT_S

    def arrived(self, reader: int, size: int, now: float) -> int:
        """The next bytes of its stripe: how many of them count. Fewer if others took over."""
        stripe = self._held[reader]
        counted = min(size, stripe.left)
        stripe.at += counted
        stripe.moved_at = now
        self._rates[reader] = stripe.rate(now)
        return counted

    def release(self, reader: int) -> None:
        """It is ready, or fails: what has not come of its stripe is handed out anew."""
        stripe = self._held.pop(reader)
        if stripe.at == stripe.began:
            self._rates[reader] = 0.0
        if stripe.left:
            self._returned.append((stripe.at, stripe.stop))
