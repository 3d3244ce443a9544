"""What the client remembers of the requests that it has made on a line."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from trickles_web.transport.continuation import COVER_BYTES, TICKET_BYTES, Continuation
from trickles_web.transport.epochs import Epoch
from trickles_web.transport.wanted import Wanted
from trickles_web.transport.wire import MOST_EARLIER_WANTS, Wants

if TYPE_CHECKING:
    from trickles_web.transport.line import Line


class View:
    """The client's view of an epoch: its numbers, its first loss, and the proof up to there."""

    __slots__ = ("epoch", "lost", "lost_proof")

    def __init__(self, epoch: Epoch) -> None:
        self.epoch = epoch
        self.lost: int | None = None
        self.lost_proof = 0


class Held(NamedTuple):
    """A continuation at hand, since when, the line whose numbers it is about, and the ticket of a
    private flow.
    """

    continuation: Continuation
    blob: bytes
    at: float
    line: Line | None
    ticket: bytes = b""

    @property
    def cover(self) -> int:
        """Bytes that a message which presents it gets on its way."""
        return TICKET_BYTES + COVER_BYTES if self.ticket else 0

    def same_burst(self, other: Held) -> bool:
        """Is what was received of the one what was received of the other?"""
        a, b = self.continuation, other.continuation
        return (a.generation, a.stop) == (b.generation, b.stop)

    @property
    def nothing_proven(self) -> Terms:
        """The terms of an opening by attempt."""
        return Terms(self.continuation.stop, -1, 0)


class Terms(NamedTuple):
    """What a request says about its continuation: where its claim starts, and what was received."""

    start: int
    lost: int
    proof: int


class Claim:
    """Numbers [low, high) asked for, and the bytes they are to bring."""

    __slots__ = (
        "answered",
        "at",
        "held",
        "high",
        "low",
        "repeated",
        "stream_at",
        "terms",
        "view",
        "waiting",
        "want",
        "wants",
    )

    def __init__(
        self,
        low: int,
        high: int,
        wants: Wants,
        at: float,
        held: Held | None,
        terms: Terms,
        view: View,
    ) -> None:
        self.low = low
        self.high = high
        self.wants = wants
        self.at = at
        self.held = held
        self.terms = terms
        self.view = view
        self.answered = False
        self.waiting = False
        self.repeated = False
        self.want = 0
        self.stream_at = wants[0][0] if wants else 0

    @property
    def stop(self) -> int:
        """Where the burst ended whose continuation this claim redeems; 0 for an opening."""
        return 0 if self.held is None else self.held.continuation.stop

    def may_go_with(self, later: Claim) -> bool:
        """Can `later` repeat this one? The proof and the loss that it reports must cover it."""
        if self.answered or self.waiting or self.held is None or self is later:
            return False
        if self.view is not later.view or len(self.wants) > MOST_EARLIER_WANTS:
            return False
        lost = later.terms.lost
        return self.stop <= later.terms.start and (self.terms.lost == lost or self.stop <= lost)

    def account(self, offset: int, length: int, wanted: Wanted) -> None:
        """Bytes at `offset` arrived in the claim's order: those before them did not."""
        if self.stream_at == offset and self.want < len(self.wants):
            self.stream_at += length
            return
        for i in range(self.want, len(self.wants)):
            start, stop = self.wants[i]
            if start <= offset < stop:
                self._lose_until(i, offset, wanted)
                self.want, self.stream_at = i, offset + length
                return

    def close(self, wanted: Wanted) -> None:
        """All its numbers are settled: what did not come by now is lost."""
        if self.want < len(self.wants):
            last = len(self.wants) - 1
            self._lose_until(last, self.wants[last][1], wanted)
            self.want = len(self.wants)

    def _lose_until(self, want: int, offset: int, wanted: Wanted) -> None:
        at = self.stream_at
        for i in range(self.want, want + 1):
            start, stop = self.wants[i]
            wanted.lose(max(at, start), min(offset, stop) if i == want else stop)
            at = 0
