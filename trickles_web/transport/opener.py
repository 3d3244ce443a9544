"""Small parts of the download: the request that opens a generation, and timers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from trickles_web.transport.claim import Claim, Held, Terms
from trickles_web.transport.wire import Wants

GROWS_OLD: Final = 45.0
"""Seconds: a continuation older than this is about to leave the replay horizon of 60."""
WANTS_WITH_NOTE: Final = 4
"""A note and a beginning of the request must find room beside them."""
KEEP_ALIVE_S: Final = 20.0
"""A third of the silence after which servers take a client to be gone."""


@dataclass(slots=True)
class FlowStats:
    """Counters, for eyes and tests. `srtt` and `probe_timeout` in seconds."""

    datagrams_in: int = 0
    datagrams_out: int = 0
    bytes_in: int = 0
    losses: int = 0
    timeouts: int = 0
    openings: int = 0
    exchanges: int = 0
    duplicates: int = 0
    srtt: float = 0.0
    probe_timeout: float = 0.0


@dataclass(slots=True)
class Opener:
    """The request that is to open a generation. `held` is None for HELLO."""

    held: Held | None
    terms: Terms
    wants: Wants
    attempt: int
    at: float
    repeats: int = 0
    """How often an ACK sent it back."""
    partial: bool = False
    """It has not all of the request with it: its answer waits for the upload of the rest."""

    def renew(self, fresh: Held | None) -> bool:
        """Present a younger continuation of the same burst from now on, if this is one."""
        held = self.held
        if held is None or fresh is None or fresh is held or fresh.at < held.at:
            return False
        if not fresh.same_burst(held):
            return False
        self.held = fresh
        return True

    def rejuvenate(self, fresh: Held | None, now: float) -> bool:
        """Present this one, if it is younger than one that has grown old."""
        held = self.held
        if held is None or now - held.at <= GROWS_OLD:
            return False
        fresh = newest(held, fresh)
        if fresh is None or fresh.at <= held.at:
            return False
        if not held.same_burst(fresh):
            self.terms = fresh.nothing_proven
        self.held = fresh
        return True


def newest(best: Held | None, fresh: Held | None) -> Held | None:
    """Which of a line's continuation and a refreshed one says more of the flow.

    A refreshed one is of what was presented, perhaps of a generation that is long over.
    """
    if best is None or fresh is None:
        return best or fresh
    return fresh if fresh.continuation.ordinal >= best.continuation.ordinal else best


@dataclass(slots=True)
class Timers:
    """When something is due, in monotonic seconds; None: never."""

    attempt: int = 0
    """Probes in a row that nothing answered."""
    probe_at: float | None = None
    """Then silence means that what was sent is lost."""
    again_at: float | None = None
    """Then the request that a WAIT put off is repeated:"""
    again: Claim | None = None
    """this one, or the opener."""
    alive_at: float | None = None
    """Then the server hears of a reader that has no room: it would take silence for absence."""

    @property
    def due(self) -> bool:
        """Is an answer due?"""
        return self.probe_at is not None or self.again_at is not None

    @property
    def put_off(self) -> bool:
        """Is it the opener that a WAIT put off?"""
        return self.again_at is not None and self.again is None

    def clear(self) -> None:
        self.probe_at = self.again_at = self.again = self.alive_at = None

    def rest(self, now: float) -> None:
        """Nothing is on its way, because the reader has no room."""
        self.probe_at = None
        if self.alive_at is None:
            self.alive_at = now + KEEP_ALIVE_S
