"""Requests that nothing can answer yet: bounded soft state, and the WAITs they are due.

One request per incarnation, the newest, because an older one asks for what the newer asks for too.
A request that is still here after 10 ms gets WAIT(T), so its client repeats it after T instead of
probing; T is as long as it has waited already, so a slow application costs a client few datagrams.
All entries are soft: a parked request that is forgotten is repeated by its client.
"""

from __future__ import annotations

from typing import Final

from trickles_web.http.run import Run
from trickles_web.net.udp import Peer
from trickles_web.state.prefixes import PerPrefix, Prefix, prefix_of
from trickles_web.transport.server import Redeemed

WAIT_AFTER_S: Final = 0.010
"""Most applications answer sooner, and then a WAIT would be a datagram for nothing."""
SHORTEST_WAIT_MS: Final = 250
LONGEST_WAIT_MS: Final = 8_000
FORGET_AFTER_S: Final = 20.0
"""A client that still waits repeats its request within the longest WAIT."""
MOST_PARKED: Final = 20_000
MOST_BYTES: Final = 64 << 20
"""On loopback a request may have 16 KiB."""
ENTRY_BYTES: Final = 2_000
"""What an entry takes beside its datagram."""
MOST_PER_PREFIX: Final = 10_000
"""No one network gets more than half."""


class Parked:
    """One parked request. `since` and `seen` are monotonic seconds: first and latest of its
    repeats.
    """

    __slots__ = ("due", "incomplete", "peer", "prefix", "redeemed", "run", "seen", "since", "size")

    def __init__(
        self, redeemed: Redeemed, peer: Peer, prefix: Prefix, now: float, run: Run | None
    ) -> None:
        self.redeemed = redeemed
        self.run = run
        """The call that was begun for it."""
        self.peer = peer
        self.prefix = prefix
        self.size = len(redeemed.datagram) + len(redeemed.request_bytes) + ENTRY_BYTES
        self.since = self.seen = now
        self.due = 0.0
        """When WAIT is."""
        self.incomplete = False
        """Its HTTP request is not whole yet: acknowledged as far as it is, so it needs no WAIT."""

    def wait_ms(self, now: float) -> int:
        parked_ms = int((now - self.since) * 1000)
        return max(SHORTEST_WAIT_MS, min(LONGEST_WAIT_MS, parked_ms))


class Parking:
    """All parked requests of a server, by incarnation."""

    def __init__(
        self,
        most: int = MOST_PARKED,
        most_per_prefix: int = MOST_PER_PREFIX,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._entries: dict[int, Parked] = {}
        self._per_prefix = PerPrefix(most_per_prefix)
        self._most = most
        self._most_bytes = most_bytes
        self._bytes = 0
        # Sorted without sorting, because both delays are constants: the entries by when they were
        # parked (each parking inserts anew), and those that are due a WAIT by when that is.
        self._waits: dict[int, Parked] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, incarnation: int) -> Parked | None:
        return self._entries.get(incarnation)

    def park(
        self,
        redeemed: Redeemed,
        peer: Peer,
        now: float,
        *,
        incomplete: bool = False,
        run: Run | None = None,
    ) -> bool:
        """Keeps the newest request of its incarnation; False when there is no room."""
        entry = Parked(redeemed, peer, prefix_of(redeemed.address[0]), now, run)
        entry.incomplete = incomplete
        earlier = self.remove(redeemed.incarnation)
        if earlier is not None and earlier.incomplete == incomplete:
            entry.since = earlier.since
        if not self._has_room(entry):
            return False
        self._entries[redeemed.incarnation] = entry
        self._bytes += entry.size
        self._per_prefix.add(entry.prefix)
        if not incomplete:
            self._wait(entry, now)
        return True

    def _has_room(self, entry: Parked) -> bool:
        return (
            len(self._entries) < self._most
            and self._bytes + entry.size <= self._most_bytes
            and not self._per_prefix.full(entry.prefix)
        )

    def completed(self, entry: Parked, now: float) -> None:
        """Its HTTP request is whole now, and the application runs."""
        if entry.incomplete:
            entry.incomplete = False
            entry.since = now
            self._wait(entry, now)

    def _wait(self, entry: Parked, now: float) -> None:
        entry.due = now + WAIT_AFTER_S
        self._waits[entry.redeemed.incarnation] = entry

    def remove(self, incarnation: int) -> Parked | None:
        entry = self._entries.pop(incarnation, None)
        if entry is None:
            return None
        self._waits.pop(incarnation, None)
        self._bytes -= entry.size
        self._per_prefix.remove(entry.prefix)
        return entry

    def take_waits(self, now: float, most: int) -> list[Parked]:
        """Up to `most` entries that are due a WAIT, each given out once. Forgets the expired."""
        due: list[Parked] = []
        while (first := self._first(self._waits)) is not None and first.due <= now:
            if len(due) == most:
                break
            del self._waits[first.redeemed.incarnation]
            if first.run is not None and not first.run.begun:
                self._wait(first, now)
            else:
                due.append(first)
        while (oldest := self._first(self._entries)) is not None:
            if oldest.seen + FORGET_AFTER_S > now:
                break
            self.remove(oldest.redeemed.incarnation)
        return due

    def next_due(self) -> float | None:
        """When `take_waits` has something to do; None while nothing is parked."""
        oldest, first = self._first(self._entries), self._first(self._waits)
        if oldest is None:
            return None
        expiry = oldest.seen + FORGET_AFTER_S
        return expiry if first is None else min(first.due, expiry)

    @staticmethod
    def _first(entries: dict[int, Parked]) -> Parked | None:
        return next(iter(entries.values()), None)
