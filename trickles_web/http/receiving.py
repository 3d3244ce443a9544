"""From request bytes to a call of the application: gathered if need be, judged, claimed, begun."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from trickles_web.http.checkpoints import FIRST_RUN, Rerun
from trickles_web.http.finding import MOST_HOPS, Finding, told
from trickles_web.http.progress import Progress, called, encode
from trickles_web.http.reader import Reader
from trickles_web.http.request import SAFE_METHODS, Malformed
from trickles_web.http.responses import PENDING, Forward, Held, Need, Pending, Refuse, go_on
from trickles_web.http.scope import network_of
from trickles_web.state import Claim, Conflict
from trickles_web.transport.wire import Code, Kind

if TYPE_CHECKING:
    from trickles_web.config import HttpConfig
    from trickles_web.http.assembly import Assembly
    from trickles_web.http.runner import Answer, KeptResponse, Runner
    from trickles_web.state import Key, Store
    from trickles_web.state.backing import Backing
    from trickles_web.transport.server import Redeemed

SAFE_STARTS: Final = (b"GET ", b"HEAD ")
"""How most safe requests begin."""


class Receiving:
    """Keeps nothing itself: what of a request came before is the assembly's."""

    def __init__(
        self,
        config: HttpConfig,
        store: Store[KeptResponse],
        runner: Runner,
        assembly: Assembly,
        finding: Finding,
        *,
        open_to_strangers: bool,
    ) -> None:
        """open_to_strangers: safe requests run for addresses that proved nothing."""
        self._config = config
        self._store = store
        self._runner = runner
        self._assembly = assembly
        self._finding = finding
        self._open_to_strangers = open_to_strangers

    def receive(self, p: Progress, r: Redeemed, now: int) -> Answer:
        """What to do with request bytes of exchange `p`, which is not begun, as far as it knows."""
        key = (r.incarnation, p.exchange)
        # Nobody else can have what is sent for the first time, but for a copy made on the way: that
        # matters where nothing may run twice. For who proved no address, nobody is asked.
        first = not (p.owner or r.repeated or r.attempt) and r.request_bytes.startswith(SAFE_STARTS)
        spool = self._store.spool(key, now)
        # Several gather, if they began at once or could not hear of each other: who has less gives
        # way to whom the client heard last.
        ahead = spool is not None and (p.owner == self._store.owner or spool.held >= p.held)
        gathers = ahead and r.kind is Kind.UPLOAD
        found = self._known(key, p, r, now, here=first or gathers or not r.validated)
        if found is not None:
            return found
        if not r.fresh and (r.repeated or r.kind is Kind.UPLOAD):
            p.doubtful = True
        if not (r.may_run or self._open_to_strangers):
            return self._not_yet(p, r)
        if self._runner.draining and spool is None:
            other = self._store.another() if r.hops < MOST_HOPS else 0
            if other:
                return Forward(other)
        if spool is not None or r.kind is Kind.UPLOAD or r.request_offset != p.request_start:
            return self._gather(key, p, r, now)
        reader = Reader(self._config)
        outcome = reader.read(r.request_bytes) if r.request_bytes else None
        if outcome is None:
            return self._gather(key, p, r, now)
        return self._begin(key, p, reader, r.request_bytes, r, now, p.request_start)

    def _known(self, key: Key, p: Progress, r: Redeemed, now: int, *, here: bool) -> Answer | None:
        """What there is of a response already. here: only this process is asked."""
        kept = self._runner.kept(key, now) if here else self._finding.find(key, p.owner, r, now)
        if isinstance(kept, Pending) and r.kind is Kind.UPLOAD:
            return None  # it would not wait, and gathering may begin anywhere
        if kept is None or isinstance(kept, (Forward, Pending)):
            return kept
        if kept.start == p.response_start:
            return self._finding.repeat(kept, r, now)
        # The client was told to go on with the body, or was not, when this one was begun.
        return Refuse(Code.CLOSED if kept.start > p.response_start else Code.UNKNOWN)

    @staticmethod
    def _not_yet(p: Progress, r: Redeemed) -> Held:
        """The same again, please, under the continuation that comes with this."""
        return Held(r.request_offset, encode(p) if p.doubtful else r.progress)

    def _gather(self, key: Key, p: Progress, r: Redeemed, now: int) -> Answer:
        """A request of several datagrams."""
        if not r.validated or r.kind is Kind.HELLO:
            return self._not_yet(p, r)
        try:
            spool = self._assembly.write(key, p.request_start, r, now)
        except Conflict:
            return Refuse(Code.CONFLICT)
        reader = self._assembly.read(key, spool)
        if reader.expects_continue and not p.continued and r.kind is Kind.REQUEST:
            self._store.drop(key)
            return go_on(key, p, now)
        acknowledged = max(p.held, spool.held)
        p.owner, p.held = self._store.owner, spool.held
        if reader.outcome is None:
            if r.kind is Kind.REQUEST:
                stop = r.request_offset + len(r.request_bytes) if r.request_digest else 0
                missing = spool.missing(max(acknowledged, stop))
                if missing:
                    return Need(missing)
                if spool.behind or reader.behind:
                    return PENDING
            # What there was no room for comes again, if it is not acknowledged.
            stop = r.request_offset + len(r.request_bytes)
            taken, begins = spool.holds(r.request_offset, stop), reader.expects_continue
            return Held(spool.held, encode(p), taken=taken, begins=begins)
        whole = p.request_start + reader.outcome.length
        if r.kind is Kind.UPLOAD:
            complete = isinstance(reader.outcome, Malformed) or not reader.outcome.streamed
            return Held(min(whole, spool.held), encode(p), complete=complete)
        return self._begin(key, p, reader, spool.data, r, now, whole)

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
        passing = isinstance(outcome, Malformed) and outcome.passing
        # What it was not read to the end for, only its client can name as others do.
        name = (r.request_digest or reader.name) if passing else reader.name
        following = called(p, p.request_start + outcome.length, name, now // 1000)
        following.unsafe = passing
        if not isinstance(outcome, Malformed):
            following.head_only = outcome.method == "HEAD"
            following.unsafe, following.streamed = not outcome.safe, outcome.streamed
            if following.unsafe and r.validated and outcome.method in SAFE_METHODS:
                # Its method did not tell that it runs only once, so nobody was asked.
                found = self._known(key, p, r, now, here=False)
                if found is not None:
                    return found
        if following.unsafe:
            refused = self._may_not_run(key, p, following, r, now, held)
            if refused is not None:
                return refused
            if self._runner.draining and not self._store.spool(key, now):
                return PENDING  # by the time that its client asks again, a successor is there
        # Only now, because this can take time, and what went before can be had again and again.
        stop = r.request_offset + len(r.request_bytes) - p.request_start
        agrees = reader.agrees(data, stop, r.request_digest)
        if agrees is None:
            return self._assembly.later(key)
        if not agrees:
            self._store.close_spool(key)  # so that sending it all again can mend it
            return Refuse(Code.CONFLICT)
        refused = self._claim(key, following, r, now) if following.unsafe else None
        if refused is not None:
            return refused
        if isinstance(outcome, Malformed):
            outcome.log()
            if passing:
                self._store.ended(key, now)
            return self._runner.page(key, following, outcome.status, r, now, closes=True)
        if self._runner.is_full_for(r):
            if following.unsafe:  # claimed, so that no late copy of it runs elsewhere after the 503
                self._store.ended(key, now)
            return self._runner.busy(key, following, outcome, r, now)
        reader.take(data, p.request_start)
        again = Rerun(b"") if r.handed_on else FIRST_RUN
        answer = self._runner.start(key, following, outcome, r, now, again)
        run = answer.run if isinstance(answer, Pending) else None
        return answer if run is None else told(answer, run, r)

    def _claim(self, key: Key, following: Progress, r: Redeemed, now: int) -> Answer | None:
        """What to say because the request could not be claimed; None: it is ours, here and now.

        What there is no room for is claimed, too, before a 503 says that it was not executed: a
        late copy of it may have room elsewhere.
        """
        name = following.request_digest
        claim = self._store.claim(key, name, now, network_of(r, self._config))
        if claim is Claim.GRANTED:
            return None
        if claim is Claim.ASKED:
            return PENDING
        if claim is Claim.FULL:
            # Not a 503, which would say that it was not executed, and never is: without a
            # claim a late copy of it may be, here or elsewhere. The client asks again.
            return Refuse(Code.BUSY)
        if claim is Claim.DOWN:
            return self._runner.page(key, following, 503, r, now, closes=True, unknown=True)
        if claim is Claim.KNOWN:
            return self._runner.unknown(key, following, r, now)
        return Refuse(Code.CONFLICT)

    def _may_not_run(
        self, key: Key, p: Progress, following: Progress, r: Redeemed, now: int, held: int
    ) -> Answer | None:
        """Why an unsafe request may not start, or None if it may."""
        entry = self._store.claimed(key)
        if p.doubtful and r.repeated and entry is None and p.store == self._store.id:
            # It may have run while its continuation was young: entries past their life go.
            return Refuse(Code.UNKNOWN)
        if r.kind is Kind.HELLO or not r.validated or not r.may_run:
            return self._not_yet(p, r)
        if p.store != self._store.id:
            return Refuse(Code.NOT_MINE)
        if entry is not None and entry.digest != following.request_digest:
            return Refuse(Code.CONFLICT)
        if entry is not None or r.handed_on or r.edition:
            return self._runner.unknown(key, following, r, now)
        if not r.fresh:
            p.held = max(p.held, held)
            complete = held >= following.request_end and not following.streamed
            return Held(held, encode(p), complete=complete)
        return None
