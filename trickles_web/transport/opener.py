"""Small parts of the download: the request that opens a generation, timers, the path's size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from trickles_web.config import BASE_DATAGRAM, ClientConfig
from trickles_web.transport.claim import Claim, Held, Terms
from trickles_web.transport.wire import Wants

GROWS_OLD: Final = 45.0
"""Seconds: a continuation older than this is about to leave the replay horizon of 60."""
WANTS_WITH_NOTE: Final = 4
"""A note and a beginning of the request must find room beside them."""
_WORTH_GROWING: Final = 1_000_000
"""Bytes still to be asked for that make larger datagrams worth waiting for."""
KEEP_ALIVE_S: Final = 20.0
"""A third of the silence after which servers take a client to be gone."""
_MOST_PROBES: Final = 3
"""Times that a flow asks whether its path carries larger datagrams, and asks again in doubt."""


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

    def clear(self) -> None:
        self.probe_at = self.again_at = self.again = self.alive_at = None

    def rest(self, now: float) -> None:
        """Nothing is on its way, because the reader has no room."""
        self.probe_at = None
        if self.alive_at is None:
            self.alive_at = now + KEEP_ALIVE_S


class PathSize:
    """The largest datagram that the path is known to carry, in bytes (RFC 8899 in small)."""

    __slots__ = ("_most", "_probes", "_used", "bytes")

    def __init__(self, config: ClientConfig, loopback: bool) -> None:
        self.bytes = config.max_loopback_datagram_bytes if loopback else BASE_DATAGRAM
        self._used = BASE_DATAGRAM
        """What some opening has asked for."""
        self._most = self.bytes if loopback else config.max_datagram_bytes
        self._probes = _MOST_PROBES

    def carried(self, size: int) -> None:
        """A datagram of this size has come through."""
        self.bytes = max(self.bytes, min(size, self._most))

    def probe(self) -> int:
        """A larger size to be shown with the next answer, if the path may carry it; or 0."""
        if self.bytes > BASE_DATAGRAM or not self._probes:
            return 0
        self._probes -= 1
        return self._most

    def opens(self) -> None:
        """An opening asks for the size that is known now."""
        self._used = max(self._used, self.bytes)

    def outgrown(self, size: int, not_asked: int) -> bool:
        """Is it worth a round trip to open anew with larger datagrams than `size`, for the rest?"""
        return self.bytes > max(size, self._used) and size > 0 and not_asked > _WORTH_GROWING

    def doubt(self) -> None:
        """Perhaps the path swallows what is larger than any path must carry; or it was the server
        that was gone, so the path is asked again.
        """
        if self.bytes > BASE_DATAGRAM:
            self.bytes = self._used = BASE_DATAGRAM
            self._probes = _MOST_PROBES
