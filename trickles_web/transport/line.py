"""One generation at the client: a number line, what of it has arrived, and what that is worth.

The line is walked from the left. A number is *settled* when it arrived, or is held for lost; a
burst whose numbers are all settled can be claimed: its continuation goes back to a server with the
proof of what arrived, and with the first loss of its epoch if there was one.

        accounted        prefix                highest     granted
    --------|---------------|-- - -- ---- - - -----|-----------|------> k
     claimed    settled         arrived, with holes     in flight
"""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush

from trickles_web.errors import ContinuationError
from trickles_web.transport import continuation as sealing
from trickles_web.transport.claim import Claim, Held, Terms, View
from trickles_web.transport.epochs import (
    LAST_NUMBER,
    LONGEST_REACH,
    Epoch,
    after_loss,
    bursts,
    grant,
    whole_claim,
    window,
    worth_claiming,
)
from trickles_web.transport.holding import Holding
from trickles_web.transport.layout import capacities, place
from trickles_web.transport.order import Order
from trickles_web.transport.ranges import RangeSet
from trickles_web.transport.rtt import RoundTrip
from trickles_web.transport.wanted import Wanted
from trickles_web.transport.wire import MOST_EARLIER, Data, Earlier, Run, Wants


class Line:
    """The numbers of one generation. `opening` are the bytes that its first window was to bring.

    `asked_at`: when they were asked for; now: that is not known, or the answer waited for more.
    """

    def __init__(
        self,
        data: Data,
        opening: Wants,
        asked_at: float,
        now: float,
        round_trip: RoundTrip,
        wanted: Wanted,
    ) -> None:
        self.ordinal = data.ordinal
        self.generation = data.generation
        self.size = 0
        epoch = Epoch(0, data.start, data.base, data.cwnd0, data.ssthresh)
        view = View(epoch)
        self.views = [view]
        self.ended = -1
        """The number where the line ends, once a short answer said so; -1 before."""
        self.losses = 0
        self.base = epoch.base
        self.granted = epoch.base + epoch.cwnd0
        self._used = epoch.cwnd0  # most numbers in flight so far
        self._foreseen = False
        self._round_trip = round_trip
        self._wanted = wanted
        self._prefix = epoch.base
        self._accounted = epoch.base
        self._highest = epoch.base - 1
        self._promised = epoch.base
        self._arrived: dict[int, tuple[int, int, int, int]] = {}
        """Runs by their first number, at or above the prefix: stop, offset, size, proof;"""
        self._numbers = RangeSet()
        """and all their numbers."""
        self._proof = 0
        self._proof_view = 0
        self._waiting: list[tuple[int, int]] = []
        self._holding = Holding(epoch.base)
        terms = Terms(epoch.base, -1, 0)
        first = Claim(epoch.base, self.granted, opening, asked_at, None, terms, view)
        first.repeated = asked_at >= now  # it says nothing of the round trip
        self._claims = deque([first])
        self._last_arrival = now
        self._merging = -1
        self._merge_at = 0.0
        self.blocked = False  # no claim is to be made, whatever is settled
        self._order = Order(round_trip)

    # ---- arrivals

    def accepts(self, data: Data) -> bool:
        """Is this a number that was granted, of an epoch that can be?"""
        stop = data.burst + data.burst_length
        return self.base <= data.base <= data.burst and stop <= min(self.granted, LAST_NUMBER)

    def takes_whole(self, run: Run) -> bool:
        """Are all its numbers new, and asked for by one claim?"""
        claim = self._claim_of(run.start)
        return claim is not None and run.stop <= claim.high and self._is_new(run)

    def _is_new(self, run: Run) -> bool:
        start = run.start
        if start > self._highest:
            return True
        missing = next(self._numbers.missing(start, run.stop), None)
        return start >= self._prefix and missing == (start, run.stop)

    def receive(self, run: Run, now: float) -> Held | None:
        """Take packets that are accepted; returns their continuation if it is a new one.

        A run of several is one that `takes_whole` is true of.
        """
        data = run.data
        view = self._view_of(data)
        if view is None:
            return None
        stop = data.burst + data.burst_length
        if data.short:
            end = data.burst + data.short
            self.ended = end if self.ended < 0 else min(self.ended, end)
        if not self._is_new(run):
            if view.lost is not None and run.start <= view.lost < run.stop:
                self._round_trip.mistaken()
            return None
        self._arrived[run.start] = (run.stop, data.offset, run.size, run.proof)
        self._numbers.add(run.start, run.stop)
        self._last_arrival = now
        self._answered(run.start, now)
        if run.stop > self._highest:
            self._highest = run.stop - 1
        if stop > self._promised:
            self._promised = stop
            self._order.heard(data.replica)
        if data.continuation and stop not in self._holding.bursts and stop > self._accounted:
            return self._hold(data, view, now)
        return None

    def _view_of(self, data: Data) -> View | None:
        """The epoch a packet says it belongs to: one that is known, or the one that must follow."""
        numbers = (data.start, data.base, data.cwnd0, data.ssthresh)
        for view in reversed(self.views):
            if view.epoch.numbers == numbers:
                return view
        last = self.views[-1]
        if last.lost is None:
            return None
        successor = after_loss(last.epoch, last.lost)
        if successor.numbers != numbers:
            return None
        view = View(successor)
        self.views.append(view)
        return view

    def _answered(self, k: int, now: float) -> None:
        claim = self._claim_of(k)
        if claim is not None and not claim.answered:
            claim.answered = True
            if not (claim.waiting or claim.repeated):
                self._round_trip.sample(now - claim.at)
            claim.waiting = False

    def _hold(self, data: Data, view: View, now: float) -> Held | None:
        try:
            c, blob, ticket = sealing.parse_told(data.continuation)
        except ContinuationError:
            return None
        stop = data.burst + data.burst_length
        if c.burst != data.burst or c.stop != stop or c.epoch.numbers != view.epoch.numbers:
            return None
        self.size = c.size
        held = Held(c, blob, now, self, ticket)
        self._holding.bursts[stop] = (held, view)
        heappush(self._waiting, (stop, data.burst))
        if not self._foreseen and self.ended < 0:
            self._foresee(data.carried)
        return held

    def _foresee(self, carried: int) -> None:
        """How far the opening's answer will reach, now that the length of carriers is known.

        Of a line that ends with that answer nothing else is asked, so nobody needs to know.
        """
        self._foreseen = True
        claim = self._claims[0]
        spans = bursts(claim.view.epoch, None, claim.low, claim.high)
        placed = place(capacities(spans, self.size, carried), claim.wants)
        if not placed or claim.want:
            return
        offset, length = placed[-1]
        high = offset + length
        kept = [(x, min(y, high)) for x, y in claim.wants if x < high]
        claim.wants = tuple(kept)
        self._wanted.next_new = max(self._wanted.next_new, high)

    # ---- what is lost

    def _is_lost(self, k: int, now: float) -> bool:
        """RFC 9002 §6.1; a number that was promised by its burst need not wait for a later one.

        A claim that was answered by WAIT was not spent: its numbers are not lost.
        """
        claim, trip = self._claim_of(k), self._round_trip
        if claim is not None and claim.waiting:
            return False
        if self._order.is_passed(k, self._highest):
            return True
        if k < self._highest and (claim is None or now >= claim.at + self._order.patience):
            return True
        return k < self._promised and now >= self._last_arrival + trip.silence(self.ended < 0)

    def _claim_of(self, k: int) -> Claim | None:
        for claim in self._claims:
            if k < claim.high:
                return claim if k >= claim.low else None
        return None

    def deadline(self) -> float | None:
        """When time alone would make the next number lost, or a small claim due."""
        times = []
        if self._prefix < max(self._highest, self._promised):
            claim = self._claim_of(self._prefix)
            if claim is None or not claim.waiting:
                if self._prefix < self._promised:
                    times.append(self._last_arrival + self._round_trip.silence(self.ended < 0))
                if claim is not None and self._prefix < self._highest:
                    times.append(claim.at + self._order.patience)
        if self._merging == self._accounted and not self.blocked and self.ended < 0:
            times.append(self._merge_at)
        return min(times) if times else None

    def walk(self, now: float) -> None:
        """Settle what can be settled."""
        arrived = self._arrived
        while True:
            k = self._prefix
            run = arrived.pop(k, None)
            if run is not None:
                stop, offset, size, proof = run
                self._prove(k, stop, proof)
                claim = self._claims[0] if self._claims else None
                if claim is not None and claim.low <= k:
                    claim.account(offset, size, self._wanted)
                self._prefix = stop
            elif k < max(self._highest, self._promised) and self._is_lost(k, now):
                self.losses += self._end_epoch(k)
                self._prefix = k + 1
            else:
                break
            self._settle_claims()
        self._numbers.discard_below(self._prefix)

    def _settle_claims(self) -> None:
        while self._claims and self._prefix >= self._claims[0].high:
            self._claims.popleft().close(self._wanted)

    def _prove(self, start: int, stop: int, proof: int) -> None:
        """Extend the running proof of the epoch that the numbers [start, stop) belong to."""
        view = self._advance_view(start)
        if view.lost is None and start >= view.epoch.base:
            self._proof ^= proof
            self._holding.proofs[stop] = self._proof

    def _advance_view(self, k: int) -> View:
        """The epoch of k, as k goes up."""
        while self._proof_view + 1 < len(self.views):
            following = self.views[self._proof_view + 1]
            if k < following.epoch.base:
                break
            self._proof_view += 1
            self._proof = 0
            self._holding.proofs[following.epoch.base] = 0
        return self.views[self._proof_view]

    def _end_epoch(self, k: int) -> bool:
        """Report k as lost, if it is the first of its epoch; is it?"""
        view = self._advance_view(k)
        if view.lost is not None or k < view.epoch.base:
            return False
        view.lost, view.lost_proof = k, self._proof
        return True

    # ---- claims

    def next_claim(self, now: float) -> Claim | None:
        """The next claim to send, once `walk` has settled what it can; None when there is none."""
        self.blocked = False
        while True:
            while self._waiting and self._waiting[0][0] <= self._accounted:
                heappop(self._waiting)
                self._holding.forget(self._accounted)
            if not self._waiting or self.ended >= 0:
                return None
            stop, burst = self._waiting[0]
            if self._prefix < stop:
                return None
            held, view = self._holding.bursts[stop]
            start = max(self._accounted, view.epoch.start)
            successor = None if view.lost is None else self._successor(view)
            if grant(view.epoch, successor, stop) <= grant(view.epoch, successor, start):
                self._accounted = stop
                continue
            w = window(view.epoch, stop)
            if stop - self._accounted < whole_claim(w):
                stop, burst = self._merge(stop, view, whole_claim(w))
                if stop - self._accounted < worth_claiming(w) and self._may_wait(now):
                    return None
                held = self._holding.bursts[stop][0]
            return self._claim(held, view, successor, max(start, burst - LONGEST_REACH), stop, now)

    def _successor(self, view: View) -> Epoch:
        assert view.lost is not None
        i = self.views.index(view) + 1
        return self.views[i].epoch if i < len(self.views) else after_loss(view.epoch, view.lost)

    def _merge(self, stop: int, view: View, whole: int) -> tuple[int, int]:
        """The burst up to which what is settled makes a whole claim, or the most of one."""
        best = (stop, self._waiting[0][1])
        for later, burst in sorted(self._waiting[:32]):
            if later > self._prefix or self._holding.bursts[later][1] is not view:
                break
            if burst - self._accounted > LONGEST_REACH:
                break
            best = (later, burst)
            if later - self._accounted >= whole:
                break
        return best

    def _may_wait(self, now: float) -> bool:
        """May a small claim wait for a later burst?"""
        if self._merging != self._accounted:
            self._merging = self._accounted
            self._merge_at = now + self._round_trip.merging
        return now < self._merge_at

    def _claim(
        self, held: Held, view: View, successor: Epoch | None, start: int, stop: int, now: float
    ) -> Claim | None:
        low, high = grant(view.epoch, successor, start), grant(view.epoch, successor, stop)
        spans = bursts(view.epoch, successor, low, high)
        carried = held.continuation.carried
        wants, full = self._wanted.take(list(capacities(spans, self.size, carried)))
        if not wants:
            self.blocked = True
            grown = view.lost is None and window(view.epoch, self._prefix) >= 2 * self._used
            if grown and self._wanted.not_asked:
                # A window must not grow while the reader, not the window, holds a flow back (RFC
                # 7661 §4.4.1); a loss reported without need leaves of it what was used.
                self._end_epoch(self._prefix)
            return None
        self._accounted = stop
        self._merging = -1
        self.granted = max(self.granted, high)
        self._used = max(self._used, high - self._prefix)
        if not full:
            self.ended = high  # asked for less than the grant: the answer will be short
        if view.lost is None:
            # None is there where bursts overlap: such a server made no proof to be checked.
            terms = Terms(start, -1, self._holding.proofs.get(stop, 0))
        else:
            terms = Terms(start, view.lost, view.lost_proof)
        claim = Claim(low, high, wants, now, held, terms, view)
        self._claims.append(claim)
        return claim

    def earlier(self, claim: Claim) -> tuple[Earlier, ...]:
        """The newest unanswered claims of the same epoch and report, repeated with `claim`.

        So a lost request is no lost packet; but only while one replica answers: another would not.
        """
        if not self._order.one_lately:
            return ()
        found = [other for other in self._claims if other.may_go_with(claim)][-MOST_EARLIER:]
        for other in found:
            # If it was lost, what answers is of the repetition: no matter, where that is as old.
            other.repeated |= claim.at - other.at > self._round_trip.estimate / 8
        return tuple(Earlier(other.terms.start, other.stop, other.wants) for other in found)

    def waiting_claim(self, stop: int) -> Claim | None:
        """The claim that a WAIT names by the end of its burst."""
        return next((claim for claim in self._claims if claim.held and claim.stop == stop), None)

    @property
    def settled(self) -> bool:
        """Is nothing in flight that may still come?"""
        return self._prefix >= (self.granted if self.ended < 0 else min(self.granted, self.ended))

    def best(self, end: int | None = None) -> Held | None:
        """The continuation to open the next generation from: the highest settled, or any.

        end: one that says that the response ends there.
        """
        return self._holding.best(self._prefix, end)

    def close(self) -> None:
        """Drop the line: what it did not bring is lost."""
        for claim in self._claims:
            claim.close(self._wanted)
        self._claims.clear()

    def opening_terms(self, held: Held) -> Terms | None:
        """What an opening from this continuation can prove; None if that is not known any more."""
        stop = held.continuation.stop
        entry = self._holding.bursts.get(stop)
        if entry is None:
            return None
        view = entry[1]
        if view.lost is not None and view.lost < stop:
            return Terms(stop, view.lost, view.lost_proof)
        k = min(max(self._prefix, view.epoch.base), stop)
        proof = self._holding.proofs.get(k, 0 if k == view.epoch.base else None)
        if proof is None:
            return None
        while k < stop and k in self._arrived:
            k, _, _, more = self._arrived[k]
            proof ^= more
        return Terms(stop, -1 if k >= stop else k, proof)
