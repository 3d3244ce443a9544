"""The soft side of the service: application calls in progress, and the responses kept for repeats.

Everything here may vanish between two calls; `Service` decides what that means for an exchange.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from trickles_web.http.access import AccessLog
from trickles_web.http.asgi import HttpRun
from trickles_web.http.calls import Calls
from trickles_web.http.checkpoints import FIRST_RUN, Rerun
from trickles_web.http.files import FileResponse, Files
from trickles_web.http.framing import error_page
from trickles_web.http.lifespan import Lifespan
from trickles_web.http.names import Names, digest, edition_of
from trickles_web.http.parsers import speaks_websocket
from trickles_web.http.pieces import Pieces
from trickles_web.http.progress import Body, Page, Progress, ProgressError, decode, encode
from trickles_web.http.responses import (
    PENDING,
    Finished,
    Forward,
    Held,
    Need,
    Pending,
    Refuse,
)
from trickles_web.http.run import Run
from trickles_web.http.scope import build_scope, client_of, network_of
from trickles_web.http.telling import Telling
from trickles_web.transport.wire import Code, Kind

if TYPE_CHECKING:
    from trickles_web.config import HttpConfig
    from trickles_web.http.request import Request
    from trickles_web.http.scope import ASGIApp
    from trickles_web.state import Key, Store
    from trickles_web.transport.server import Redeemed

Answer = Run | Finished | FileResponse | Pending | Held | Need | Forward | Refuse
KeptResponse = Run | Finished | FileResponse

SMALLEST_BUFFER: Final = 65_536
"""What a running response may hold even when the store is full: it must be able to go on."""

EARLY_DATA: Final = (b"early-data", b"1")
"""RFC 8470 §5.1: whoever has copied this request on its way may have it executed again."""
OUTCOME_UNKNOWN: Final = ((b"trickles-outcome", b"unknown"),)

logger = logging.getLogger("trickles.error")


def _websocket_run() -> type[Run]:
    """Of an extra, and imported before it is needed: by then there may be no descriptor left."""
    from trickles_web.http.websocket import WebSocketRun

    return WebSocketRun


class Runner:
    """Starts application calls and keeps what they produce. The `Host` of every run."""

    def __init__(
        self,
        app: ASGIApp,
        config: HttpConfig,
        store: Store[KeptResponse],
        *,
        on_ready: Callable[[int], None],
        clock: Callable[[], int],
        random: Callable[[int], bytes],
        names: Names,
        server: tuple[str, int] | None,
    ) -> None:
        self.app = app
        self.config = config
        self.store = store
        self.files = Files(config.file_identity)
        self.calls = Calls(config.max_running, self._tick, self._slow)
        self.lifespan = Lifespan(app, config.lifespan)
        self.telling = Telling(store, clock)
        self._access = AccessLog(config)
        self.names = names
        self.server = server
        self.now = clock
        self.answered: defaultdict[tuple[bool, int], int] = defaultdict(int)
        """Responses that have begun, by whether they are of unsafe requests, and status."""
        self.rerun = 0
        """Calls that were not the first for their request."""
        self.draining = False
        """The process is about to end: what is new had better begin elsewhere."""
        self._on_ready = on_ready
        self._random = random
        self._websocket_run = _websocket_run() if speaks_websocket(config.ws) else HttpRun

    def is_full_for(self, r: Redeemed) -> bool:
        """No more application calls for now for this client."""
        return self.calls.full_for(network_of(r, self.config))

    async def shutdown(self) -> None:
        """Let running calls end within `grace_s` seconds, cancel the others, stop the app."""
        await self.calls.shutdown()
        await self.lifespan.shutdown()
        self.files.close()

    def kept(self, key: Key, now: int) -> KeptResponse | None:
        """The response of this exchange, unless it is lost or its client was given up."""
        kept = self.store.response(key, now)
        if isinstance(kept, Run):
            if kept.gone and not kept.hopeless:
                self.store.drop(key)
                return None
            kept.heard = now
        return kept

    def published(self, key: Key, r: Redeemed, now: int) -> KeptResponse | None:
        """What another process, perhaps a dead one, has left of this exchange."""
        found = self.store.published(key, now)
        if found is None:
            return None
        try:
            p = decode(found.progress)
        except ProgressError:  # of another version of this program
            return None
        response: Finished | FileResponse
        if p.kind is Body.FILE:
            response = FileResponse(p, found.progress, self.files, found.authorised_at, now)
        else:
            response = Finished(
                key,
                p,
                found.progress,
                Pieces(p.response_start, b"".join(found.data)),
                found.authorised_at,
                found.name,
                found.failed,
            )
        self.store.keep(key, response, now, network_of(r, self.config))
        return response

    def start(
        self,
        key: Key,
        p: Progress,
        request: Request,
        r: Redeemed,
        now: int,
        again: Rerun = FIRST_RUN,
    ) -> Answer:
        """Call the application."""
        checkpoint = again.checkpoint
        scope = build_scope(
            request,
            client_of(r.address, r.origin, self.config),
            self.server,
            self.config,
            self.lifespan.state,
            None if checkpoint is None else checkpoint.state,
            private=r.channel is not None,
        )
        early = r.kind is Kind.HELLO and r.channel is not None
        if early:
            scope["headers"] = [*request.headers, EARLY_DATA]
        p.owner = self.store.owner
        run = self._kind_of(request)(
            self, key, network_of(r, self.config), request, scope, p, now, again
        )
        run.like = r.edition
        run.early = r if early else None
        if checkpoint is not None:
            run.go_on(again.offset, checkpoint.encode(), edition_of(self._token()))
        self.store.close_spool(key)
        self.store.keep(key, run, now, run.prefix)
        if self._access.at_end:
            self._access.begin(run)
        self.calls.start(run, self.app)
        if run.gone:  # it was put off
            self.store.drop(key)
            return Held(r.request_offset, r.progress)
        answer = self.serve(run if run.outcome is None else run.outcome, r, now)
        return Pending(run) if answer is PENDING else answer

    def _kind_of(self, request: Request) -> type[Run]:
        return self._websocket_run if request.websocket else HttpRun

    def page(
        self,
        key: Key,
        p: Progress,
        status: int,
        r: Redeemed,
        now: int,
        *,
        closes: bool,
        unknown: bool = False,
    ) -> Answer:
        """A response of our own, kept for who asks for it first: others have it sealed."""
        self.answered[p.unsafe, status] += 1
        p.page, p.closes = Page(status, unknown), closes
        data = self._written(p, p.page)
        name = digest(data)
        p.kind, p.reproducible = Body.MEMORY, True
        p.owner = self.store.owner
        p.edition, p.response_check = edition_of(name), name[4:]
        p.response_end = p.response_start + len(data)
        response = Finished(key, p, encode(p), Pieces(p.response_start, data), now // 1000, name)
        self.store.close_spool(key)
        self.store.keep(key, response, now, network_of(r, self.config))
        return self.serve(response, r, now)

    def page_again(self, key: Key, p: Progress, page: Page, r: Redeemed) -> Finished | None:
        """The page that a continuation stands for; None if it is written otherwise here."""
        data = self._written(p, page)
        name = digest(data)
        if (edition_of(name), name[4:]) != (p.edition, p.response_check):
            return None
        return Finished(key, p, r.progress, Pieces(p.response_start, data), r.authorised_at, name)

    def _written(self, p: Progress, page: Page) -> bytes:
        """The bytes of a page: they follow from the progress and the configuration."""
        return error_page(
            self.config,
            page.status,
            head_only=p.head_only,
            date=p.date,
            closes=p.closes,
            extra=OUTCOME_UNKNOWN if page.unknown else (),
            text="Whether this request was executed is not known." if page.unknown else "",
        )

    def busy(self, key: Key, p: Progress, request: Request, r: Redeemed, now: int) -> Answer:
        """A 503: one call too many."""
        logger.warning("Exceeded concurrency limit.")
        return self.page(key, p, 503, r, now, closes=request.closes or request.streamed)

    def unknown(self, key: Key, p: Progress, r: Redeemed, now: int) -> Answer:
        """The application was called for this, and what came of it is not known here any more."""
        entry = self.store.claimed(key)
        if entry is not None:
            p.date = entry.claimed // 1000  # so that a page made twice is the same page
        p.reruns = 0
        self.store.declare_unknown(key)
        answer = self.page(key, p, 500, r, now, closes=True, unknown=True)
        if isinstance(answer, Refuse):  # bytes of another response were handed on
            self.store.drop(key)
            return Refuse(Code.UNKNOWN)
        return answer

    def serve(self, kept: KeptResponse, r: Redeemed, now: int) -> Answer:
        """The response if it can be read where the client wants it, else wait or refuse."""
        first = r.wants[0][0] if r.wants else kept.start
        if isinstance(kept, Finished):
            if kept.put_off:
                self.telling.answered(kept, r)
            if not self.store.settled(kept.key):
                return PENDING  # its outcome must not be lost once it was told
        if isinstance(kept, FileResponse) and not kept.is_known:
            kept.examine(r.incarnation, self._on_ready)
            return PENDING
        if isinstance(kept, Run):
            if kept.hopeless:
                return Refuse(Code.GONE)
            if kept.expected is not None:
                kept.parked = first
                return PENDING
            if kept.data:
                kept.settle(self._token)
        if r.edition:
            if r.edition == kept.edition:
                if r.validated:  # else it may be somebody who has seen a continuation
                    self._trim(kept, r.received)
            elif kept.edition:
                if r.handed_on and (r.note is None or r.note.firm != kept.joins):
                    return Refuse(Code.GONE)
                first = kept.joins
        if first < kept.available:
            if first >= kept.base or kept.base == kept.start:
                return kept
            # The client has said that it holds these bytes: an old datagram, come late.
            return Held(kept.request_wanted, kept.progress, complete=True)
        if kept.end is not None and kept.end <= first:
            return kept
        if kept.failed:
            return Refuse(Code.FAILED)
        if isinstance(kept, Run):
            kept.parked = first
            return PENDING
        return Refuse(Code.GONE)

    def abandon(self, kept: KeptResponse) -> None:
        """Nobody will want it: its client has gone on without it."""
        if isinstance(kept, Run):
            kept.leave()
        if not isinstance(kept, FileResponse):
            self.store.drop(kept.key)

    def _trim(self, kept: KeptResponse, received: int) -> None:
        if not isinstance(kept, FileResponse) and kept.trim(received):
            self.store.resized(kept.key, kept)

    # The host of the runs

    def ready(self, run: Run) -> None:
        """Tell the endpoint that a parked request can be answered."""
        run.parked = -1
        self._on_ready(run.key[0])

    def grown(self, run: Run) -> int:
        """Account for `run.size`; returns how many bytes it may hold that the client has not."""
        self.store.resized(run.key, run)
        return (
            SMALLEST_BUFFER if self.store.full_for(run.key) else self.config.response_buffer_bytes
        )

    def completed(self, run: Run, response: Finished | FileResponse) -> None:
        """Keep the response in place of the run, unless the store has lost that meanwhile."""
        now = self.now()
        run.outcome = response
        if not self.store.replace(run.key, run, response, now):
            return
        self.telling.completed(run, response, at_once=self.draining)

    def produced(self, run: Run) -> None:
        """Let the store have what was produced since last time, if that is worth it."""
        self.telling.produced(run)

    def _slow(self, run: Run) -> None:
        """The call takes its time: the client should see what there is, and other processes should
        know of it before they start a second one.
        """
        if run.gone:
            return
        run.is_slow()
        if self.store.owner and not run.p.unsafe:  # unsafe: has its claim
            run.announced = True
            self.store.announce(run.key, self.now())

    def started(self, run: Run, status: int) -> None:
        """Count the response, and let the access log know."""
        self.answered[run.p.unsafe, status] += 1
        if self._access.on:
            self._access.started(run, status)

    def _token(self) -> bytes:
        return self._random(4)

    def ended(self, run: Run) -> None:
        """The call has returned."""
        if self._access.at_end:
            self._access.end(run)
        self.calls.ended(run)
        if run.p.unsafe:
            self.store.ended(run.key, self.now())
        # A completed run has been replaced by its response. One that is still here never will be,
        # whatever went wrong, and the store does not evict what runs.
        if run.outcome is None and self.store.response(run.key, self.now()) is run:
            self.store.drop(run.key)

    def _tick(self) -> bool:
        self.sweep(self.now())
        return bool(self.calls.runs or len(self.files))

    def sweep(self, now: int) -> None:
        """Give up clients that fell silent, close files that nobody reads. now: wall-clock ms."""
        for run in self.calls.runs:
            if not run.gone and run.heard + self.config.client_silence_ms < now:
                run.leave()
                if self.store.response(run.key, now) is run:
                    self.store.give_up(run.key)
        self.files.sweep(now)
