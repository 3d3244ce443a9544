"""Responses that are kept already: here, at another process, or by the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from trickles_web.http.names import digest
from trickles_web.http.responses import PENDING, Forward, Held, Pending, Refuse
from trickles_web.http.run import Run
from trickles_web.state import Conflict
from trickles_web.transport.wire import Code, Kind

if TYPE_CHECKING:
    from trickles_web.http.intake import Intake
    from trickles_web.http.runner import Answer, KeptResponse, Runner
    from trickles_web.state import Key, Store
    from trickles_web.transport.server import Redeemed

MOST_HOPS: Final = 2
"""To whom the continuation names, and on to whom that one knows of; never in a circle."""


class Finding:
    """Keeps nothing itself."""

    def __init__(self, store: Store[KeptResponse], runner: Runner) -> None:
        self._store = store
        self._runner = runner

    def find(
        self, key: Key, sealed: int, r: Redeemed, now: int
    ) -> KeptResponse | Forward | Pending | None:
        """The response to `key`, or who has it; PENDING while the store is asked.

        sealed: the owner that the continuation names.
        """
        kept = self._runner.kept(key, now)
        if kept is not None:
            return kept
        if sealed and r.hops < MOST_HOPS and self._store.alive(sealed):
            return Forward(sealed)
        if not self._store.knows(key, now, sealed):
            return PENDING
        found = self._runner.published(key, r, now)
        if found is not None:
            return found
        owner = self._store.elsewhere(key) if r.hops < MOST_HOPS else 0
        return Forward(owner) if owner else None

    def repeat(self, kept: KeptResponse, r: Redeemed, now: int) -> Answer:
        """A response is there: make sure that it is this request's."""
        if isinstance(kept, Run) and kept.intake is not None:
            return self._take(kept, kept.intake, r, now)
        at = kept.request_start - r.request_offset
        length = kept.request_wanted - kept.request_start
        if (
            kept.request_digest
            and r.request_bytes
            and at >= 0
            and len(r.request_bytes) - at >= length
            and digest(r.request_bytes[at : at + length]) != kept.request_digest
        ):
            return Refuse(Code.CONFLICT)
        if r.kind is Kind.UPLOAD:
            return Held(kept.request_wanted, kept.progress, complete=True)
        return self._runner.serve(kept, r, now)

    def _take(self, run: Run, intake: Intake, r: Redeemed, now: int) -> Answer:
        """More of an open request, or the question what came of it so far."""
        try:
            fits = not r.request_bytes or (
                r.validated and run.take(r.request_offset, r.request_bytes)
            )
        except Conflict:
            return Refuse(Code.CONFLICT)
        if r.kind is Kind.UPLOAD:
            if not run.open:
                return Held(run.request_wanted, run.progress, complete=True)
            return Held(intake.held, run.progress, room=run.tell_room(), taken=fits)
        return told(self._runner.serve(self._runner.kept(run.key, now) or run, r, now), run, r)


def told(answer: Answer, run: Run, r: Redeemed) -> Answer:
    """While no answer is there: how much more of an open request is taken, if that is new."""
    news = (r.request_bytes and not r.told) or run.owes_room
    if not (isinstance(answer, Pending) and run.open and news):
        return answer
    r.told = True
    return Held(run.request_wanted, run.progress, room=run.tell_room())
