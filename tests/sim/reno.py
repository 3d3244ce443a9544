"""TCP Reno on the simulated network, to compare with: an endless transfer, as simple as can be.

Selective acknowledgement at its best: each packet has a number of its own and is acknowledged by
it, so a loss is told after three later arrivals, whatever was sent again (RFC 5681, RFC 6675).
"""

from __future__ import annotations

from collections import deque
from functools import partial
from math import inf

from trickles_web.testing.network import OVERHEAD, Clock, Link

SEGMENT = 1448
"""Payload bytes of an IPv4 packet of 1,500 bytes, with timestamps."""
DUPLICATES = 3
SELECTED = 64
"""Numbers that an acknowledgement tells of, for those before may be lost."""
DELAYED = 0.04
"""Seconds for which a single packet's acknowledgement waits for another."""
LEAST_TIMEOUT = 0.2
_PACKET = bytes(1500 - OVERHEAD)
_ACK = bytes(52 - OVERHEAD)


class Reno:
    """The sender and its receiver. `delivered`: payload bytes."""

    def __init__(self, clock: Clock, down: Link, up: Link) -> None:
        self.delivered = 0
        self.window = 10
        self.ssthresh: float = inf
        self._count = 0
        """Packets acknowledged since the window grew; whole numbers, as in kernels."""
        self._clock, self._down, self._up = clock, down, up
        self._flying: dict[int, float] = {}
        """When each number was sent, in order."""
        self._next = self._expected = 0
        self._pending = 0
        """How many arrived, and are not acknowledged yet."""
        self._arrived: deque[int] = deque(maxlen=SELECTED)
        self._recovered = 0
        """Losses below this number belong to a flight that was halved already."""
        self._heard = 0.0
        self._timeout = 1.0

    def start(self) -> None:
        self._heard = self._clock.now
        self._clock.after(self._timeout, self._watch)
        self._fill()

    def _fill(self) -> None:
        while len(self._flying) < self.window:
            number = self._next
            self._next += 1
            self._flying[number] = self._clock.now
            self._down.send(_PACKET, partial(self._arrive, number))

    def _arrive(self, number: int, _: bytes) -> None:
        """At the receiver: every second packet is acknowledged at once, and any behind a gap."""
        self.delivered += SEGMENT
        behind_gap = number != self._expected
        self._expected = number + 1
        self._arrived.append(number)
        self._pending += 1
        if behind_gap or self._pending == 2:
            self._acknowledge()
        else:
            self._clock.after(DELAYED, lambda: self._acknowledge() if self._pending else None)

    def _acknowledge(self) -> None:
        numbers, self._pending = list(self._arrived), 0
        self._up.send(_ACK, lambda _: self._acknowledged(numbers))

    def _acknowledged(self, numbers: list[int]) -> None:
        self._heard = self._clock.now
        for number in numbers:
            self._settle(number)
        self._fill()

    def _settle(self, number: int) -> None:
        sent = self._flying.pop(number, None)
        if sent is not None:
            self._timeout = max(LEAST_TIMEOUT, 2 * (self._clock.now - sent))
            if number >= self._recovered:
                self._grow()
        for lost in [k for k in self._early() if k + DUPLICATES <= number]:
            del self._flying[lost]
            if lost >= self._recovered:
                self.window = self.ssthresh = max(2, self.window // 2)
                self._count = 0
                self._recovered = self._next

    def _grow(self) -> None:
        self._count += 1
        if self.window < self.ssthresh or self._count >= self.window:
            self.window += 1
            self._count = 0

    def _early(self) -> list[int]:
        """The oldest few in flight: those that can be lost."""
        numbers = iter(self._flying)
        return [k for k, _ in zip(numbers, range(2 * DUPLICATES), strict=False)]

    def _watch(self) -> None:
        late = self._clock.now - self._heard
        if late >= self._timeout:
            self.ssthresh, self.window = max(2, self.window // 2), 1
            self._flying.clear()
            self._recovered = self._next
            self._heard, late = self._clock.now, 0.0
            self._fill()
        self._clock.after(max(self._timeout - late, 0.001), self._watch)
