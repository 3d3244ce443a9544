"""What of a line is at hand to go on from: continuations, and what was received up to them."""

from __future__ import annotations

from typing import Final

from trickles_web.transport.claim import Held, View

_REMEMBERED: Final = 600
"""Proofs and continuations this far behind are still at hand for an opening,"""
_MOST_KEPT: Final = 2000
"""and older ones are forgotten when there are so many."""


class Holding:
    """`bursts`: continuations by the ends of their bursts, with their epochs. `proofs`: the running
    proof by the number up to which it goes, within the epoch that this number ends.
    """

    __slots__ = ("_most", "bursts", "proofs")

    def __init__(self, base: int) -> None:
        self.bursts: dict[int, tuple[Held, View]] = {}
        self.proofs: dict[int, int] = {base: 0}
        self._most = _MOST_KEPT

    def best(self, settled: int, end: int | None = None) -> Held | None:
        """The highest whose burst ends at or below `settled`, or else of any.

        end: only those count that say that the response ends there.
        """
        stops = [
            stop
            for stop, (held, _) in self.bursts.items()
            if end is None or held.continuation.response_end == end
        ]
        stop = max([stop for stop in stops if stop <= settled] or stops, default=None)
        return None if stop is None else self.bursts[stop][0]

    def forget(self, accounted: int) -> None:
        """What is far behind will not be needed any more."""
        if len(self.bursts) + len(self.proofs) <= self._most:
            return
        limit = accounted - _REMEMBERED
        self.bursts = {k: burst for k, burst in self.bursts.items() if k >= limit}
        self.proofs = {k: proof for k, proof in self.proofs.items() if k >= limit}
        # Those of a whole window may lie ahead: not one pass over them for each claim.
        self._most = max(_MOST_KEPT, 2 * (len(self.bursts) + len(self.proofs)))
