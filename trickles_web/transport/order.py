"""In what order packets come, and so what tells of a lost one."""

from __future__ import annotations

from typing import Final

from trickles_web.transport.rtt import RoundTrip

REORDERING: Final = 3
"""Packets (RFC 9002 §6.1.1)."""
LATELY: Final = 8
"""Bursts."""


class Order:
    """One replica answers one request after the other. The bursts of several come in no order, by
    as much apart as round trips vary; to take that for losses would halve the window each time.
    """

    __slots__ = ("_in_a_row", "_replica", "_round_trip", "_several")

    def __init__(self, round_trip: RoundTrip) -> None:
        self._round_trip = round_trip
        self._replica = -1
        self._in_a_row = 0
        self._several = False

    def heard(self, replica: int) -> None:
        """Of whom a burst is that reaches further than those before."""
        if replica != self._replica:
            self._several = self._replica >= 0
            self._replica, self._in_a_row = replica, 0
        self._in_a_row += 1

    @property
    def one_lately(self) -> bool:
        """Did the last bursts come from one replica?"""
        return self._in_a_row >= LATELY

    @property
    def several_lately(self) -> bool:
        return self._several and self._in_a_row < LATELY

    def is_passed(self, k: int, highest: int) -> bool:
        """Does it tell of the loss of k that `highest` has arrived?"""
        return highest - k >= REORDERING and not self.several_lately

    @property
    def patience(self) -> float:
        """Seconds after its request that a packet may come after one that was sent later."""
        trip = self._round_trip
        return max(trip.reordering, trip.spread) if self.several_lately else trip.reordering
