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
from trickles_web.http.finding import MOST_HOPS, Finding, told
from trickles_web.http.progress import (
    MOST_RECEIVED,
    UNKNOWN,
    Body,
    Phase,
    Progress,
    ProgressError,
    decode,
)
from trickles_web.http.receiving import Receiving
from trickles_web.http.reruns import Reruns
from trickles_web.http.responses import PENDING, Forward, Held, Pending, Refuse
from trickles_web.http.resuming import contradiction, is_surpassed, rerun
from trickles_web.http.run import Run
from trickles_web.http.runner import Answer, KeptResponse, Runner
from trickles_web.state import Conflict
from trickles_web.transport.wire import Code, Kind

if TYPE_CHECKING:
    from trickles_web.config import HttpConfig
    from trickles_web.http.names import Names
    from trickles_web.http.scope import ASGIApp
    from trickles_web.state import Key, Store
    from trickles_web.transport.server import Redeemed


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
        names: Names,
        random: Callable[[int], bytes] = os.urandom,
        server: tuple[str, int] | None = None,
        open_to_strangers: bool = False,
    ) -> None:
        """on_ready(incarnation) must not raise; it may call `answer`. clock: wall-clock ms.

        open_to_strangers: safe requests run for addresses that proved nothing (static files).
        """
        self.config = config
        self.store = store
        self.runner = Runner(
            app,
            config,
            store,
            on_ready=on_ready,
            clock=clock,
            random=random,
            names=names,
            server=server,
        )
        self.assembly = Assembly(
            config, store, soon=self.runner.calls.soon, on_ready=on_ready, clock=clock
        )
        self.reruns = Reruns(config, store, self.runner, self.assembly)
        self._finding = Finding(store, self.runner)
        self._receiving = Receiving(
            config,
            store,
            self.runner,
            self.assembly,
            self._finding,
            open_to_strangers=open_to_strangers,
        )
        self._clock = clock

    # What the endpoint calls

    async def startup(self) -> None:
        """Start the application. Raises LifespanFailed."""
        await self.runner.lifespan.startup()

    async def drain(self, grace_s: float) -> tuple[bool, int]:
        """The process is about to end: tell clients so where there are words for it, let running
        calls end within `grace_s`, and begin nothing that another process can begin.

        Was there anything to wait for, and how many calls have not ended?
        """
        self.runner.draining = True
        told, running = self.runner.calls.restarting(), bool(self.runner.calls.runs)
        left = await self.runner.calls.drain(grace_s)
        self.runner.telling.everything()
        return told or running, left

    async def shutdown(self) -> None:
        """Cancel the calls that are left, stop the application."""
        await self.runner.shutdown()

    def answer(self, redeemed: Redeemed, now: int) -> Answer:
        """What to do for this datagram. Changes nothing that a second call would not find so.

        Never raises for what a client sent. now: wall-clock ms.
        """
        try:
            p = decode(redeemed.progress)
        except ProgressError:
            return Refuse(Code.GONE)  # sealed by a version that wrote it otherwise
        redeemed.origin = p.origin
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
        return self._receiving.receive(p, redeemed, now)

    def go_on(self, redeemed: Redeemed, run: Run, now: int) -> Answer:
        """The same for a request that waits for a call that was begun for it."""
        kept = self.runner.kept(run.key, now)
        if kept is None or (kept is not run and kept is not run.outcome):
            return self.answer(redeemed, now)
        return told(self.runner.serve(kept, redeemed, now), run, redeemed)

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

    # Exchanges

    def _following(
        self, p: Progress, r: Redeemed, now: int
    ) -> Progress | Refuse | Forward | Pending | None:
        """The exchange after `p`'s, or None if that one is not over."""
        end = p.response_end
        if p.closes or (p.streamed and end == UNKNOWN):
            return None  # there is none, or these are bytes of the open request
        if end == UNKNOWN:
            kept = self._finding.find((r.incarnation, p.exchange), p.owner, r, now)
            if isinstance(kept, (Forward, Pending)):
                return kept
            if kept is None:
                # Nobody knows, so the client's word counts; but only if it can be true.
                if r.received >= MOST_RECEIVED:
                    return Refuse(Code.GONE)
                end = max(r.received, p.response_start)
            elif kept.end is None or kept.closes:
                return None
            else:
                end = kept.end
        if r.received < end:
            return None
        # The flow moves on: nobody will ask for the response before. That is only believed of who
        # proves an address: anybody may have seen a continuation.
        if r.validated:
            self.store.drop((r.incarnation, p.exchange))
        return Progress(
            exchange=(p.exchange + 1) & 0xFFFF_FFFF,
            request_start=p.request_end,
            response_start=end,
            held=p.request_end,
            store=r.store,
            origin=p.origin,
        )

    # Responding

    def _respond(self, p: Progress, r: Redeemed, now: int) -> Answer:
        key = (r.incarnation, p.exchange)
        if p.page is not None:  # nothing that is kept, here or elsewhere, says more than that
            page = self.runner.page_again(key, p, p.page, r)
            return Refuse(Code.GONE) if page is None else self._finding.repeat(page, r, now)
        if r.kind is Kind.UPLOAD:
            return self._upload_again(key, p, r, now)
        if p.kind is Body.FILE:
            if self._is_authorised(r.authorised_at, now):
                return self.runner.serve(self._file(p, r, r.authorised_at, now), r, now)
            return self._authorise(key, p, r, now)
        kept = self._finding.find(key, p.owner, r, now)
        if isinstance(kept, (Forward, Pending)):
            return kept
        if kept is not None and not is_surpassed(kept, p, r):
            return contradiction(kept, p, r) or self._finding.repeat(kept, r, now)
        if p.unsafe:
            if r.store != self.store.id:
                return Refuse(Code.NOT_MINE)
            return self.runner.unknown(key, p, r, now)
        again = rerun(p, r)
        if not isinstance(again, Rerun):
            return again
        if kept is not None and not r.validated:
            return Held(p.request_end, r.progress, complete=True)
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
        kept = self._finding.find(key, 0, r, now)
        if isinstance(kept, (Forward, Pending)):
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

    def _upload_again(self, key: Key, p: Progress, r: Redeemed, now: int) -> Answer:
        """Request bytes that were asked for again, or are late repeats."""
        kept = self._finding.find(key, p.owner, r, now)
        if isinstance(kept, (Forward, Pending)):
            return kept
        if kept is not None:
            return self._finding.repeat(kept, r, now)
        if p.streamed:
            return Refuse(Code.UNKNOWN)  # nobody takes more of it
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
