"""One generation of a flow, as a trace shows it: its claims, bursts and epochs."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass

from trickles_web.trace.numbers import Arrival, Numbers
from trickles_web.trace.words import replica, span
from trickles_web.transport import wire
from trickles_web.transport.epochs import Epoch, frontier, window

MOST_CLAIMS = 1024
"""That wait for an answer, continuations that wait for their claim, and bursts for their end."""


@dataclass
class Burst:
    """`took`: seconds since the claim that its first packet answers first, below 0 if none is."""

    start: int
    stop: int
    replica: int
    offset: int
    took: float
    count: int = 0
    fresh: int = 0
    again: int = 0

    def __str__(self) -> str:
        whole = self.stop - self.start
        again = f" ({self.again:,} again)" if self.again else ""
        took = f"  {self.took * 1000:.1f} ms" if self.took >= 0 else ""
        return (
            f"{span(self.start, self.stop):<18} {self.count:>2} of {whole:>2}  "
            f"{self.fresh + self.again:>7,} bytes at {self.offset:>13,}{again}  "
            f"replica {replica(self.replica)}{took}"
        )


class Generation:
    """See the module. Made of the first packet of it that is seen."""

    def __init__(self, data: wire.Data) -> None:
        self.name = (data.ordinal, data.generation)
        self.attempt = data.attempt
        self.epoch = _epoch(data)
        self.numbers = Numbers()
        self.numbers.granted = max(data.burst + data.burst_length, frontier(self.epoch, 0))
        self.reported: set[int] = set()
        self.bursts: dict[int, Burst] = {}
        self._claims: deque[tuple[int, int, int, float]] = deque(maxlen=MOST_CLAIMS)
        self._carriers: OrderedDict[int, float] = OrderedDict()

    @property
    def window(self) -> int:
        return window(self.epoch, self.numbers.judged)

    @property
    def in_flight(self) -> int:
        """Numbers that were asked for, and of which nothing is known yet."""
        numbers = self.numbers
        return max(0, numbers.granted - numbers.arrived - numbers.lost)

    # What the client asks for

    def claim(self, low: int, high: int, stop: int, at: float) -> None:
        """It asks for [low, high), with the continuation of the burst that ends at `stop`."""
        self.numbers.granted = max(self.numbers.granted, high)
        if high > low:
            self._claims.append((low, high, stop, at))

    def wait(self, stop: int) -> None:
        """The claim that presents that burst is put off: it tells no round trip."""
        kept = [claim for claim in self._claims if claim[2] != stop]
        self._claims = deque(kept, maxlen=MOST_CLAIMS)

    def returned(self, stop: int, at: float) -> float | None:
        """Seconds since the continuation of the burst that ends there was seen."""
        since = self._carriers.pop(stop, None)
        return None if since is None else at - since

    # What comes

    def follow(self, data: wire.Data) -> bool:
        """Does the packet begin another epoch?"""
        epoch = _epoch(data)
        if data.base <= self.epoch.base:
            return False
        self.epoch = epoch
        return True

    def take(self, data: wire.Data, fresh: int, at: float) -> tuple[Arrival, Burst | None]:
        """fresh: how many of its bytes are new. Returns the burst if it is complete with it."""
        start, stop = data.burst, data.burst + data.burst_length
        number = start + data.place
        if data.short:
            self.numbers.end(start + data.short)
        if data.continuation and stop not in self._carriers:
            self._carriers[stop] = at
            if len(self._carriers) > MOST_CLAIMS:
                self._carriers.popitem(last=False)
        arrival = self.numbers.take(number, stop)
        burst = self.bursts.get(start)
        if burst is None:
            burst = Burst(start, stop, data.replica, data.offset, self._answers(number, at))
        if arrival is not Arrival.COPY:
            burst.count += 1
        burst.fresh += fresh
        burst.again += len(data.payload) - fresh
        burst.offset = min(burst.offset, data.offset)
        if burst.count >= stop - start:
            self.bursts.pop(start, None)
            return arrival, burst
        if arrival is Arrival.NEW and len(self.bursts) < MOST_CLAIMS:
            self.bursts[start] = burst
        return arrival, None

    def _answers(self, number: int, at: float) -> float:
        """Seconds since the claim that this number answers first; -1.0 if it is no such number."""
        for claim in self._claims:
            low, high, _, asked = claim
            if low <= number < high:
                self._claims.remove(claim)
                return at - asked
        return -1.0

    def given_up(self, *, over: bool = False) -> list[Burst]:
        """Bursts of which nothing more is expected, in order."""
        judged = self.numbers.judged
        found = sorted(start for start, one in self.bursts.items() if over or one.stop <= judged)
        return [self.bursts.pop(start) for start in found]


def _epoch(data: wire.Data) -> Epoch:
    return Epoch(0, data.start, data.base, data.cwnd0, data.ssthresh)
