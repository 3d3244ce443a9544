"""HTTP over continuations: from one redeemed datagram to a response, or to what is missing.

Which bytes a continuation stands for never depends on what this process remembers. What it does
remember (spools, running calls, finished responses, the ledger) only saves work, but for one thing:
an unsafe request runs only where the ledger is that was there when its exchange began.

    receiving --request whole--> running --bytes--> responding --next request--> receiving
                                    |                   |
                                    +-- soft state lost +-- safe: run again, if that can be right
                                                        +-- unsafe: the outcome is unknown
                                                        +-- file: nothing was lost
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from trickles_web.http.assembly import Assembly
from trickles_web.http.checkpoints import FIRST_RUN, Rerun
from trickles_web.http.files import FileResponse, sealed_for
from trickles_web.http.progress import (
    MOST_RECEIVED,
    UNKNOWN,
    Body,
    Phase,
    Progress,
    ProgressError,
    called,
    decode,
    digest,
    encode,
)
from trickles_web.http.request import Malformed, Reader
from trickles_web.http.reruns import Reruns
from trickles_web.http.responses import PENDING, Forward, Held, Need, Pending, Refuse, go_on
from trickles_web.http.resuming import contradiction, is_surpassed, rerun
from trickles_web.http.run import Run
from trickles_web.http.runner import Answer, KeptResponse, Runner
from trickles_web.state import Claim, Conflict
from trickles_web.transport.wire import Code, Kind

if TYPE_CHECKING:
    from trickles_web.config import HttpConfig
    from trickles_web.http.intake import Intake
    from trickles_web.http.scope import ASGIApp
    from trickles_web.state import Key, Store
    from trickles_web.state.backing import Backing
    from trickles_web.transport.server import Redeemed

MOST_HOPS = 2
"""To whom the continuation names, and on to whom that one knows of; never in a circle."""

SAFE_STARTS = (b"GET ", b"HEAD ")
"""How most safe requests begin."""


class Service:
    """One application, served. All methods are called from one event loop's thread."""

    def __init__(
        self,
        app: ASGIApp,
        config: HttpConfig,
        store: Store[KeptResponse],
        *,
        on_ready: Callable[[int], None],
        clock: Callable[[], int],
        random: Callable[[int], bytes] = os.urandom,
        server: tuple[str, int] | None = None,
        open_to_strangers: bool = False,
    ) -> None:
        """on_ready(incarnation) must not raise; it may call `answer`. clock: wall-clock ms.

        open_to_strangers: safe requests run for addresses that proved nothing (static files).
        """
        self.config = config
        self.store = store
        self.open_to_strangers = open_to_strangers
        self.runner = Runner(
            app, config, store, on_ready=on_ready, clock=clock, random=random, server=server
        )
        self.assembly = Assembly(
            config, store, soon=self.runner.calls.soon, on_ready=on_ready, clock=clock
        )
        self.reruns = Reruns(config, store, self.runner, self.assembly)
        self._clock = clock

    # What the endpoint calls

    async def startup(self) -> None:
        """Start the application. Raises LifespanFailed."""
        await self.runner.lifespan.startup()

    def restarting(self) -> bool:
        """Tell clients that can be told to come again: the process is about to end. Any there?"""
        return self.runner.calls.restarting()

    async def shutdown(self, grace_s: float = 0.0) -> None:
        """Let running calls end within `grace_s`, cancel the others, stop the application."""
        await self.runner.shutdown(grace_s)

    def answer(self, redeemed: Redeemed, now: int) -> Answer:
        """What to do for this datagram. Changes nothing that a second call would not find so.

        Never raises for what a client sent. now: wall-clock ms.
        """
        try:
            p = decode(redeemed.progress)
        except ProgressError:
            return Refuse(Code.GONE)  # sealed by a version that wrote it otherwise
        if p.phase is Phase.RESPONDING:
            if not redeemed.request_bytes or redeemed.request_offset < p.request_end:
                return self._respond(p, redeemed, now)
            following = self._following(p, redeemed, now)
            if following is None:
                return self._respond(p, redeemed, now)
            if not isinstance(following, Progress):
                return following
            p = following
        elif not p.store:
            p.store = redeemed.store
        return self._receive(p, redeemed, now)

    def cancel(self, redeemed: Redeemed) -> Forward | None:
        """The client wants nothing more of this flow. What runs elsewhere ends elsewhere."""
        try:
            p = decode(redeemed.progress)
        except ProgressError:
            return None
        owner = self.store.elsewhere((redeemed.incarnation, p.exchange))
        if self.store.alive(p.owner):
            owner = p.owner
        if redeemed.hops >= MOST_HOPS:
            owner = 0
        now = self._clock()
        # The continuation may be from before the exchange that is running now.
        for exchange in (p.exchange, p.exchange + 1):
            key = (redeemed.incarnation, exchange)
            kept = self.store.response(key, now)
            if isinstance(kept, Run):
                kept.leave()
            self.store.drop(key)
        return Forward(owner) if owner else None

    def _find(
        self, key: Key, sealed: int, r: Redeemed, now: int
    ) -> KeptResponse | Forward | Pending | None:
        """The response to `key`, or who has it; PENDING while the store is asked.

        sealed: the owner that the continuation names.
        """
        kept = self.runner.kept(key, now)
        if kept is not None:
            return kept
        if sealed and r.hops < MOST_HOPS and self.store.alive(sealed):
            return Forward(sealed)
        if not self.store.knows(key, now):
            return PENDING
        found = self.runner.published(key, now)
        if found is not None:
            return found
        owner = self.store.elsewhere(key) if r.hops < MOST_HOPS else 0
        return Forward(owner) if owner else None

    # Receiving

    def _following(
        self, p: Progress, r: Redeemed, now: int
    ) -> Progress | Refuse | Forward | Pending | None:
        """The exchange after `p`'s, or None if that one is not over."""
        end = p.response_end
        if p.closes or (p.streamed and end == UNKNOWN):
            return None  # there is none, or these are bytes of the open request
        if end == UNKNOWN:
            kept = self._find((r.incarnation, p.exchange), p.owner, r, now)
            if isinstance(kept, Forward | Pending):
                return kept
            if kept is None:
                # Nobody knows, so the client's word counts; but only if it can be true.
                if r.received >= MOST_RECEIVED:
                    return Refuse(Code.GONE)
                end = max(r.received, p.response_start)
            elif kept.end is None:
                return None
            else:
                end = kept.end
        if r.received < end:
            return None
        # The flow moves on: nobody will ask for the response before.
        self.store.drop((r.incarnation, p.exchange))
        return Progress(
            exchange=(p.exchange + 1) & 0xFFFF_FFFF,
            request_start=p.request_end,
            response_start=end,
            held=p.request_end,
            store=r.store,
        )

    def _receive(self, p: Progress, r: Redeemed, now: int) -> Answer:
        key = (r.incarnation, p.exchange)
        # Nobody else can have what is sent for the first time; for an address that proved nothing,
        # nobody is asked.
        first = not (p.owner or r.repeated or r.attempt) and r.request_bytes.startswith(SAFE_STARTS)
        alone = first or not r.validated
        kept = self.runner.kept(key, now) if alone else self._find(key, p.owner, r, now)
        if isinstance(kept, Pending) and r.kind is Kind.UPLOAD:
            kept = None  # it would not wait, and gathering may begin anywhere
        if isinstance(kept, Forward | Pending):
            return kept
        if kept is not None and kept.start == p.response_start:
            return self._repeat(kept, r, now)
        if kept is not None:
            return Refuse(Code.CLOSED if kept.start > p.response_start else Code.UNKNOWN)
        if not r.fresh and (r.repeated or r.kind is Kind.UPLOAD):
            p.doubtful = True
        if not (r.may_run or self.open_to_strangers):
            return self._not_yet(p, r)
        spool = self.store.spool(key, now)
        if spool is not None or r.kind is Kind.UPLOAD or r.request_offset != p.request_start:
            return self._assemble(key, p, r, now)
        reader = Reader(self.config)
        if not r.request_bytes or reader.read(r.request_bytes) is None:
            return self._assemble(key, p, r, now)
        return self._begin(key, p, reader, r.request_bytes, r, now, p.request_start)

    @staticmethod
    def _not_yet(p: Progress, r: Redeemed) -> Held:
        """The same again, please, under the continuation that comes with this."""
        return Held(r.request_offset, encode(p) if p.doubtful else r.progress)

    def _assemble(self, key: Key, p: Progress, r: Redeemed, now: int) -> Answer:
        """A request of several datagrams."""
        if not r.validated or r.kind is Kind.HELLO:
            return self._not_yet(p, r)
        try:
            spool = self.assembly.write(key, p.request_start, r, now)
        except Conflict:
            return Refuse(Code.CONFLICT)
        reader = self.assembly.read(key, spool)
        if reader.expects_continue and not p.continued and r.kind is Kind.REQUEST:
            self.store.drop(key)
            return go_on(key, p, now)
        p.owner = self.store.owner
        p.held = max(p.held, spool.held)
        if reader.outcome is None:
            if r.kind is Kind.REQUEST:
                stop = r.request_offset + len(r.request_bytes) if r.request_digest else 0
                missing = spool.missing(max(p.held, stop))
                if missing:
                    return Need(missing)
                if spool.behind or reader.behind:
                    return PENDING
            return Held(spool.held, encode(p))
        whole = p.request_start + reader.outcome.length
        if r.kind is Kind.UPLOAD:
            return Held(min(whole, spool.held), encode(p), complete=True)
        return self._begin(key, p, reader, spool.data, r, now, whole)

    # Running

    def _begin(
        self,
        key: Key,
        p: Progress,
        reader: Reader,
        data: bytes | Backing,
        r: Redeemed,
        now: int,
        held: int,
    ) -> Answer:
        """First run of a whole request; `held`: what to say is held if it cannot run yet."""
        outcome = reader.outcome
        assert outcome is not None
        following = called(p, p.request_start + outcome.length, reader.name, now // 1000)
        if not isinstance(outcome, Malformed) and not outcome.safe:
            if r.validated and not self.store.knows(key, now):
                return PENDING  # its method did not tell that it has to be claimed
            following.unsafe, following.streamed = True, outcome.streamed
            refused = self._may_not_run(key, p, following, r, now, held)
            if refused is not None:
                return refused
        # Only now, because this can take time, and what went before can be had again and again.
        stop = r.request_offset + len(r.request_bytes) - p.request_start
        agrees = reader.agrees(data, stop, r.request_digest)
        if agrees is None:
            return self.assembly.later(key)
        if not agrees:
            self.store.close_spool(key)  # so that sending it all again can mend it
            return Refuse(Code.CONFLICT)
        if isinstance(outcome, Malformed):
            outcome.log()
            return self.runner.page(key, following, outcome.status, r, now, closes=True)
        if self.runner.full:
            return self.runner.busy(key, following, outcome, r, now)
        if not outcome.safe:
            claim = self.store.claim(key, reader.name, now)
            if claim is Claim.ASKED:
                return PENDING
            if claim is Claim.FULL:
                return self.runner.busy(key, following, outcome, r, now)
            if claim is Claim.DOWN:
                return self.runner.page(key, following, 503, r, now, closes=True, unknown=True)
            if claim is Claim.KNOWN:
                return self._unknown(key, following, r, now)
            if claim is not Claim.GRANTED:
                return Refuse(Code.CONFLICT)
        reader.take(data, p.request_start)
        again = Rerun(b"") if r.handed_on else FIRST_RUN
        return self.runner.start(key, following, outcome, r, now, again)

    def _may_not_run(
        self, key: Key, p: Progress, following: Progress, r: Redeemed, now: int, held: int
    ) -> Answer | None:
        """Why an unsafe request may not start, or None if it may."""
        entry = self.store.claimed(key)
        if p.doubtful and r.repeated and entry is None and p.store == self.store.id:
            # It may have run while its continuation was young: entries past their life go.
            return Refuse(Code.UNKNOWN)
        if r.kind is Kind.HELLO or not r.validated or not r.may_run:
            return self._not_yet(p, r)
        if p.store != self.store.id:
            return Refuse(Code.NOT_MINE)
        if entry is not None and entry.digest != following.request_digest:
            return Refuse(Code.CONFLICT)
        if entry is not None or r.handed_on or r.edition:
            return self._unknown(key, following, r, now)
        if not r.fresh:
            p.held = max(p.held, held)
            return Held(held, encode(p), complete=held >= following.request_end)
        return None

    def _unknown(self, key: Key, p: Progress, r: Redeemed, now: int) -> Answer:
        """An unsafe request was started, and what came of it is not known here any more."""
        entry = self.store.claimed(key)
        if entry is not None:
            p.date = entry.claimed // 1000  # so that a page made twice is the same page
        p.reruns = 0
        self.store.declare_unknown(key)
        answer = self.runner.page(key, p, 500, r, now, closes=True, unknown=True)
        if isinstance(answer, Refuse):  # bytes of another response were handed on
            self.store.drop(key)
            return Refuse(Code.UNKNOWN)
        return answer

    # Responding

    def _respond(self, p: Progress, r: Redeemed, now: int) -> Answer:
        key = (r.incarnation, p.exchange)
        if r.kind is Kind.UPLOAD:
            return self._upload_again(key, p, r, now)
        if p.kind is Body.FILE:
            if self._is_authorised(r.authorised_at, now):
                return self.runner.serve(self._file(p, r, r.authorised_at, now), r, now)
            return self._authorise(key, p, r, now)
        kept = self._find(key, p.owner, r, now)
        if isinstance(kept, Forward | Pending):
            return kept
        if kept is not None and not is_surpassed(kept, p, r):
            return contradiction(kept, p, r) or self._repeat(kept, r, now)
        if p.unsafe:
            if r.store != self.store.id:
                return Refuse(Code.NOT_MINE)
            return self._unknown(key, p, r, now)
        again = rerun(p, r)
        if not isinstance(again, Rerun):
            return again
        if kept is not None:
            self.runner.abandon(kept)
        return self.reruns.run(key, p, r, now, again)

    def _is_authorised(self, at: int, now: int) -> bool:
        return not at or now - at * 1000 <= self.config.authorisation_ms

    def _file(self, p: Progress, r: Redeemed, authorised_at: int, now: int) -> FileResponse:
        progress = sealed_for(p, r.progress, r.edition, r.received)
        return FileResponse(p, progress, self.runner.files, authorised_at, now)

    def _authorise(self, key: Key, p: Progress, r: Redeemed, now: int) -> Answer:
        """The app is asked again whether this file may be had, and must name the same one."""
        kept = self._find(key, 0, r, now)
        if isinstance(kept, Forward | Pending):
            return kept
        if isinstance(kept, FileResponse) and not self._is_authorised(kept.authorised_at, now):
            self.store.drop(key)
            kept = None
        if kept is None:
            return Refuse(Code.GONE) if p.unsafe else self.reruns.run(key, p, r, now, FIRST_RUN)
        if isinstance(kept, Run):
            kept.parked = p.response_start
            return PENDING
        if isinstance(kept, FileResponse) and kept.is_same_file(p):
            return self.runner.serve(self._file(p, r, kept.authorised_at, now), r, now)
        return Refuse(Code.GONE)

    # Answers from what is kept

    def _repeat(self, kept: KeptResponse, r: Redeemed, now: int) -> Answer:
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
        return self.runner.serve(kept, r, now)

    def _take(self, run: Run, intake: Intake, r: Redeemed, now: int) -> Answer:
        """More of an open request, or the question what came of it so far."""
        try:
            fits = not r.request_bytes or run.take(r.request_offset, r.request_bytes)
        except Conflict:
            return Refuse(Code.CONFLICT)
        if r.kind is Kind.UPLOAD:
            if not run.open:
                return Held(run.request_wanted, run.progress, complete=True)
            return Held(intake.held, run.progress, room=run.tell_room()) if fits else PENDING
        answer = self.runner.serve(self.runner.kept(run.key, now) or run, r, now)
        if isinstance(answer, Pending) and run.open and (r.request_bytes or run.owes_room):
            # Told once; from now on this datagram waits for what comes of that exchange.
            r.request_bytes, r.progress = b"", run.progress
            return Held(intake.held, run.progress, room=run.tell_room())
        return answer

    def _upload_again(self, key: Key, p: Progress, r: Redeemed, now: int) -> Answer:
        """Request bytes that were asked for again, or are late repeats."""
        kept = self._find(key, p.owner, r, now)
        if isinstance(kept, Forward | Pending):
            return kept
        if kept is not None:
            return self._repeat(kept, r, now)
        lost = p.kind is not Body.FILE or not self._is_authorised(r.authorised_at, now)
        if p.unsafe or not lost or not r.validated or r.request_offset >= p.request_end:
            return Held(p.request_end, r.progress, complete=True)
        try:
            spool = self.assembly.write(key, p.request_start, r, now, p.request_end)
        except Conflict:
            return Refuse(Code.CONFLICT)
        if spool.starved:
            return self.reruns.busy(key)
        held = min(spool.held, p.request_end)
        return Held(held, r.progress, complete=held == p.request_end)
