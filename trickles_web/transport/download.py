"""The response side of a flow: generations one after the other, each asked for and then received.

A request that awaits the first packet of a new generation is the `opener`. Once that packet is
here, a `Line` claims and recovers, until it ends (a short answer), is dropped (silence), or its
exchange is complete; then the next opener goes out, from the best continuation at hand.
"""

from __future__ import annotations

from trickles_web.config import ClientConfig
from trickles_web.transport import wire
from trickles_web.transport.asking import Asking
from trickles_web.transport.claim import Claim, Held, Terms
from trickles_web.transport.edition import Edition
from trickles_web.transport.line import Line
from trickles_web.transport.opener import GROWS_OLD, WANTS_WITH_NOTE, FlowStats, Opener, Timers
from trickles_web.transport.path_size import PathSize
from trickles_web.transport.reassembly import Reassembly
from trickles_web.transport.rtt import RoundTrip
from trickles_web.transport.upload import RequestStream
from trickles_web.transport.wanted import Wanted
from trickles_web.transport.wire import Data, Earlier, Run

MOST_ATTEMPTS = 10
SILENT_PROBES = 2
"""After these the path is in doubt: another port, then smaller datagrams and other servers."""
_ROOM_TO_OPEN = 65_536
"""Bytes of free receive buffer for which a generation is worth opening."""
_PATIENT_REPEATS = 3
"""An opener that ACKs send back more often than this is repeated at the pace of probes."""


class Download:
    """See the module. `hello`: what the flow says of itself, but for attempt, size and request."""

    def __init__(
        self,
        hello: wire.Hello,
        hello_bytes: int,
        config: ClientConfig,
        requests: RequestStream,
        round_trip: RoundTrip,
        path: PathSize,
    ) -> None:
        self.stream = Reassembly()
        self.wanted = Wanted(self.stream, config.receive_buffer_bytes)
        self.timers = Timers()
        self.stats = FlowStats()
        self.opener: Opener | None = None
        self.line: Line | None = None
        self.best: Held | None = None
        """The continuation to go on from after silence."""
        self.fresh: Held | None = None
        """The newest refreshed one: it proves an address, but carries no window."""
        self.incarnation: int | None = None
        self.closes = False
        self.attach = False  # some server lacks the request: it goes with every opener
        self.out: list[bytes] = []
        self._config = config
        self._requests = requests
        self._round_trip = round_trip
        self.path = path
        self._sent = False  # the request, under a continuation that a server could act on
        self.edition = Edition(self.stream)
        self._asking = Asking(hello, requests, self.stream, self.edition, hello_bytes)
        self._accepts = (-1, -1)
        """The ordinal of the generation that was asked for, and the highest attempt accepted."""

    # ---- exchanges

    def start(self, now: float) -> None:
        """An exchange begins: its first request is an opener, HELLO if nothing is at hand."""
        self.edition.start()
        self.timers.attempt = 0
        self.closes = self._sent = False
        self.wanted.restart()
        if self.best is not None:
            self._open(self.best, now)
            return
        self.opener = Opener(None, Terms(0, -1, 0), self.wanted.everything(), 0, now)
        self._accepts = (0, -1)
        self.send_opener(now)

    def finished(self) -> bool:
        """Is the response here to its end, and with it a continuation that says so?

        If so the exchange is over, and `best` is what the next one opens from.
        """
        end = self.wanted.end
        if end < 0 or self.stream.received < end:
            return False
        best = self.line.best(end) if self.line is not None else None
        if best is None:
            best = self.best
            if best is None or best.continuation.response_end != end:
                return False
        self.best = best
        self.stats.exchanges += 1
        self.edition.finish()
        self.wanted.end = -1
        self.opener = self.fresh = None
        self.attach = False
        self.timers.clear()
        self._accepts = (-1, -1)
        return True

    def drop(self) -> None:
        """The flow is over."""
        self.opener = self.line = None
        self.timers.clear()

    # ---- arrivals

    def is_in_order(self, data: Data) -> bool:
        """Is nothing new about this packet but number, bytes, and perhaps a continuation?"""
        line = self.line
        if line is None or (data.ordinal, data.generation) != (line.ordinal, line.generation):
            return False
        return data.edition == self.edition.number and data.offset >= self.stream.received

    def takes_whole(self, run: Run) -> bool:
        """Can packets of which the first `is_in_order` be taken at once, as one after the other?"""
        assert self.line is not None
        end = self.most if self.wanted.end < 0 else min(self.most, self.wanted.end)
        return run.data.offset + run.size <= end and self.line.takes_whole(run)

    def receive(self, run: Run, now: float) -> bool:
        """Take DATA packets; True when they are of the generation in progress.

        A run of several is one that `takes_whole` is true of.
        """
        data, line = run.data, self.line
        if line is None or (data.ordinal, data.generation) != (line.ordinal, line.generation):
            line = self._new_line(data, now)
        if line is None:
            if data.edition == self.edition.number:
                self._insert(run)  # of a line that was dropped: its bytes are as good as any
            return False
        if not line.accepts(data) or not self._insert(run):
            return False
        held = line.receive(run, now)
        if held is not None:
            self._hold(held, line)
        self.timers.attempt = 0
        self.timers.probe_at = now + self._round_trip.probe_timeout(0)
        return True

    def _new_line(self, data: Data, now: float) -> Line | None:
        """The first packet of a generation that was asked for begins its line."""
        if data.ordinal != self._accepts[0] or data.attempt <= self._accepts[1]:
            return None
        if data.base or data.start or not data.cwnd0 or not data.ssthresh:
            return None  # a line begins at 0
        opener = self.opener
        wants = opener.wants if opener else self.wanted.everything()
        asked_at = opener.at if opener and not opener.partial else now
        self._accepts = (data.ordinal, data.attempt)
        self._close_line()
        self.opener = None
        self.timers.clear()
        self.wanted.restart()
        self.line = Line(data, wants, asked_at, now, self._round_trip, self.wanted)
        return self.line

    @property
    def most(self) -> int:
        """No byte at or above this offset was ever asked for."""
        return self.stream.delivered + 2 * self._config.receive_buffer_bytes

    def _insert(self, run: Run) -> bool:
        """Keep the bytes of packets; False if they must not be used at all."""
        data, stream, edition = run.data, self.stream, self.edition
        if data.edition != edition.number:
            if not edition.follow(data):
                return True  # its number counts, its bytes belong to another byte string
            self.wanted.restart()
            self.wanted.end = -1
        stop = data.offset + run.size
        if stop > self.most:
            return False
        if stop <= stream.received:
            self.stats.duplicates += bool(run.size)
        else:
            self.stats.bytes_in += run.size
            stream.insert_all(data.offset, run.payloads, run.size)
        edition.take(data)
        return True

    def _hold(self, held: Held, line: Line) -> None:
        """A continuation of the generation in progress."""
        c, best = held.continuation, self.best
        if self.incarnation is None:
            self.incarnation = c.incarnation
        elif c.incarnation != self.incarnation:
            return
        if best is None or best.line is not line or c.stop > best.continuation.stop:
            self.best = held
        if c.response_end >= 0 and c.edition == self.edition.number:
            self.wanted.end = c.response_end
            self.closes = c.closes

    # ---- openers

    def come_back(self, held: Held, now: float) -> None:
        """Nothing was kept: the same request again, with the continuation that came in an ACK."""
        opener, line = self.opener, self.line
        if opener is None:
            # The line's own request was sent back: the server does not know this address.
            if line is not None and held.continuation.ordinal == line.ordinal:
                self._open(held, now)
            return
        if opener.held is None:
            self._round_trip.sample(now - opener.at)
        elif held.continuation.ordinal < opener.held.continuation.ordinal:
            return  # a late one: what it would open from is closed
        self.timers.attempt = 0
        repeats = opener.repeats + 1
        wants, terms = self.wanted.everything(), held.nothing_proven
        if opener.held is not None and opener.held.same_burst(held):
            terms = opener.terms
        self.opener = Opener(held, terms, wants, 0, now, repeats)
        self._accepts = (held.continuation.ordinal + 1, -1)
        if repeats <= _PATIENT_REPEATS:
            self.send_opener(now)
        else:
            self.timers.clear()
            self.timers.again_at = now + self._round_trip.probe_timeout(min(repeats, 6))

    def whole_at(self, held: Held) -> None:
        """The request is whole at the server that this continuation names: it is asked from now
        on, not whoever has only a part.
        """
        if self.opener is not None and self.opener.renew(held):
            self.opener.attempt = self._accepts[1] + 1

    def _open(self, held: Held, now: float) -> None:
        """Open by proof from this continuation; by attempt, if it cannot be proven any more."""
        line, terms = held.line, None
        if line is not None:
            line.walk(now)
            terms = line.opening_terms(held)
        attempt = int(terms is None and not held.continuation.refreshed)
        terms = terms or held.nothing_proven
        self._close_line()
        self.wanted.restart()
        self.stats.openings += 1
        self.path.opens()
        self.opener = Opener(held, terms, self.wanted.everything(), attempt, now)
        self._accepts = (held.continuation.ordinal + 1, -1)
        self.timers.attempt = 0
        self.send_opener(now)

    def reopen(self, now: float) -> None:
        """The server does not remember what was spent on this line (a restart): open the next."""
        if self.opener is None and self.best is not None:
            self._open(self.best, now)

    def retry(self, now: float) -> None:
        """After silence: one request, from the newest continuation; the line is dropped."""
        opener = self.opener
        if opener is None:
            best = self.best or self.fresh
            self._close_line()
            self.wanted.restart()
            self.stats.openings += 1
            ordinal, attempt = best.continuation.ordinal + 1 if best else 0, 0
            if self._accepts[0] == ordinal:
                attempt = max(self._accepts[1], 0)  # that one was answered, in part
            else:
                self._accepts = (ordinal, -1)
            terms = best.nothing_proven if best else Terms(0, -1, 0)
            self.opener = opener = Opener(best, terms, (), attempt, now)
        opener.attempt = min(opener.attempt + 1, MOST_ATTEMPTS)
        opener.wants = self.wanted.everything()
        opener.at = now
        self.send_opener(now)

    def opener_room(self) -> int:
        """Request bytes that fit the opener."""
        opener = self.opener
        held = opener.held if opener else self.best
        return self._asking.room(held, opener, self.edition.note if self.attach else None)

    def send_opener(self, now: float) -> None:
        """Send the opener, as it is or with a continuation that has not grown old."""
        opener = self.opener
        assert opener is not None
        self.timers.clear()
        self.timers.probe_at = now + self._round_trip.probe_timeout(self.timers.attempt)
        renewed, held = opener.rejuvenate(self.fresh, now), opener.held
        if renewed and held is not None:
            self._accepts = (held.continuation.ordinal + 1, -1)
        requests, carried = self._requests, b""
        # A continuation of this exchange has the request behind it, unless a server lacks it.
        stop = 0 if held is None or self.attach else held.continuation.request_wanted
        if stop <= requests.start:
            stop = min(requests.start + self.opener_room(), requests.end)
            carried = requests.read(requests.start, stop)
        opener.partial = stop < requests.end
        if held is None:
            self.out.append(self._asking.hello(opener.attempt, self.path.bytes, carried))
            return
        note = self.edition.note if self.attach else None
        if note:
            opener.wants = opener.wants[:WANTS_WITH_NOTE]
        # Three times what it brings is all that an old one gets, or one from another address.
        old = now - held.at > GROWS_OLD
        doubtful = old or self.timers.attempt > 0
        request = self._asking.request(
            held,
            opener.terms,
            opener.wants,
            opens=True,
            repeated=self._sent,
            attempt=opener.attempt,
            size=self.path.bytes,
            carried=carried,
            note=note,
            padded=doubtful,
        )
        self.out.append(request)
        self._sent |= bool(carried) and not old

    def _close_line(self) -> None:
        if self.line is not None:
            self.stats.losses += self.line.losses
            self.line.close()
            self.line = None

    # ---- the line in progress

    def advance(self, now: float) -> None:
        """Claim what the line has earned; open the next one when it is spent."""
        line = self.line
        if line is None or self.opener is not None:
            return
        timers = self.timers
        line.walk(now)
        outgrown = line.blocked = self.path.outgrown(line.size, self.wanted.not_asked)
        while not outgrown and (claim := line.next_claim(now)) is not None:
            self._send_claim(claim, line.earlier(claim), now)
        if not line.settled:
            if timers.probe_at is None and timers.again_at is None:
                timers.probe_at = now + self._round_trip.probe_timeout(0)
        elif line.ended >= 0 or outgrown or self._stuck(line, now):
            self._open_next(line, now)
        else:
            timers.rest(now)

    def _stuck(self, line: Line, now: float) -> bool:
        """Is the line of no more use, though nothing has ended it?

        Its continuations are all lost, or old since the reader rested, or the edition is another.
        """
        best = line.best()
        if best is None or now - best.at > GROWS_OLD:
            return True
        return self.stream.received < self.wanted.next_new and not self.wanted.any_lost

    def _open_next(self, line: Line, now: float) -> None:
        """The line is spent: open the next one, if the reader has room."""
        wanted, stream = self.wanted, self.stream
        wanted.restart()
        gaps = min(stream.highest, wanted.bound) > stream.received
        near_end = 0 <= wanted.end <= wanted.limit
        room = wanted.bound - stream.highest
        if not (gaps or near_end or room >= min(_ROOM_TO_OPEN, self._config.receive_buffer_bytes)):
            self.timers.rest(now)
            return
        if (best := line.best()) is not None:
            self._open(best, now)
        else:
            self.retry(now)  # the only carrier was lost: what the line was opened from is spent

    @property
    def resting(self) -> bool:
        """Is nothing on its way, because the reader has no room?"""
        return self.line is not None and self.opener is None and self.line.settled

    def repeat_waiting(self, now: float) -> None:
        """After WAIT: the very same request."""
        timers = self.timers
        timers.again_at = None
        claim, timers.again = timers.again, None
        if claim is not None:
            self._send_claim(claim, (), now)
        elif self.opener is not None:
            self.opener.at = now
            self.send_opener(now)

    def waits(self, wait: wire.Wait, now: float) -> bool:
        """Nothing is spent and nothing is lost: the same request again after a while.

        False when the WAIT is about no request of this flow.
        """
        at = now + max(wait.milliseconds, 5) / 1000
        opener, line, timers = self.opener, self.line, self.timers
        name = (wait.ordinal, wait.generation)
        if opener is not None and opener.held is not None:
            c = opener.held.continuation
            if name == (c.ordinal, c.generation & 0xFFFF_FFFF):
                timers.clear()
                timers.again_at, timers.attempt = at, 0
                return True
        elif line is not None and name == (line.ordinal, line.generation):
            claim = line.waiting_claim(wait.stop)
            if claim is not None:
                claim.waiting = True
                timers.probe_at = None
                if timers.again_at is None:
                    timers.again_at, timers.again = at, claim
                return True
        return False

    def _send_claim(self, claim: Claim, earlier: tuple[Earlier, ...], now: float) -> None:
        assert claim.held is not None
        patience, ask = self._round_trip.probe_timeout(0), self._asking.request
        self.timers.probe_at = now + patience
        size = self.path.probe(claim.held.continuation.generation, claim.low, now, patience)
        self.out.append(ask(claim.held, claim.terms, claim.wants, size=size, earlier=earlier))
