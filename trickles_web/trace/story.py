"""The story of one flow: its datagrams go in, in the order in which they were seen, and rows come
out. Bounded, however long the flow is.
"""

from __future__ import annotations

from collections.abc import Callable

from trickles_web.trace.generation import Burst, Generation
from trickles_web.trace.marks import Marks
from trickles_web.trace.numbers import Arrival
from trickles_web.trace.response import Response
from trickles_web.trace.rows import DOWN, NOTE, UP, Row
from trickles_web.trace.seen import Address, Message, Sealed, Seen, continuation_of
from trickles_web.trace.totals import MOST_NAMED, Totals, end, rate, tally
from trickles_web.trace.uploads import Uploads
from trickles_web.trace.words import granted, numbers, replica, span, threshold, words
from trickles_web.transport import wire
from trickles_web.transport.continuation import Continuation
from trickles_web.transport.epochs import after_loss, window
from trickles_web.transport.ranges import Range
from trickles_web.transport.wire import OPEN_END, Kind

_MOST_REPORTS = 4096


class Story:
    """See the module. `packets`: a row for each datagram, too."""

    def __init__(
        self,
        first: Seen,
        tell: Callable[[Row], None],
        *,
        packets: bool = False,
        marks: Marks | None = None,
    ) -> None:
        self.flow = wire.flow_of(first.datagram)
        self.client, self.server = first.client, first.server
        self.totals = Totals(first.at, first.at)
        self.marks = marks
        self._tell = tell
        self._packets = packets
        self._now = first.at
        self._generation: Generation | None = None
        self._response = Response()
        self._uploads = Uploads()
        self._opened_at: float | None = None
        """When the opening was sent that nothing has answered yet."""
        self._asked_at: float | None = None
        """When the exchange in progress began."""
        self._ends: dict[str, Address] = {}
        self._lost: list[Range] = []
        """Numbers that no row was told of yet,"""
        self._sealed: Sealed | None = None
        """and datagrams of one kind, as if they were one,"""
        self._sealed_count = 0
        """and how many these are."""

    def take(self, seen: Seen, message: Message) -> None:
        """message: the datagram, decoded."""
        self._now = seen.at
        self._count(seen)
        self._see_ends(seen)
        if self._packets:
            self._row(UP if seen.up else DOWN, *words(message))
        match message:
            case wire.Data():
                self._data(message)
            case wire.Request():
                self._request(message, continuation_of(message))
            case wire.Hello():
                self._hello(message)
            case wire.Upload():
                self._upload(message)
            case wire.Ack():
                self._ack(message)
            case wire.Wait():
                self._wait(message)
            case Sealed():
                self._seal(message)
            case _:
                self._mark(words(message)[0].lower(), self._response.received)
                self._control(UP if seen.up else DOWN, message)

    def close(self) -> None:
        """Nothing more comes."""
        self._leave()
        self._tell_gathered()

    # ---- rows

    def _row(self, mark: str, what: str, text: str) -> None:
        self._tell_gathered()
        self._tell(Row(self._now, self.flow, mark, what, text))

    def _tell_gathered(self) -> None:
        """What was held back, because more like it may follow."""
        self._tell_uploads()
        sealed, count = self._sealed, self._sealed_count
        if sealed is not None:
            self._sealed = None
            text = f"{count:,} sealed, {sealed.size:,} bytes"
            mark = DOWN if sealed.kind >= Kind.DATA else UP
            self._tell(Row(self._now, self.flow, mark, sealed.kind.name, text))
        if self._lost:
            start, stop = self._lost[0][0], self._lost[-1][1]
            text = f"number{'s' if stop - start > 1 else ''} {numbers(self._lost)}"
            self._tell(Row(self._now, self.flow, NOTE, "lost", text))
            self._lost.clear()

    def _seal(self, message: Sealed) -> None:
        """Of a private flow: one row for all of a kind that follow each other."""
        if self._packets:
            return
        before = self._sealed
        if before is not None and before.kind is message.kind:
            self._sealed = Sealed(before.kind, before.size + message.size)
            self._sealed_count += 1
        else:
            self._tell_gathered()
            self._sealed, self._sealed_count = message, 1

    def _control(self, mark: str, message: Message) -> None:
        """A datagram that has a row of its own, whether or not packets have."""
        if not self._packets:
            self._row(mark, *words(message))

    def _tell_uploads(self) -> None:
        text = self._uploads.told()
        if text and not self._packets:
            self._tell(Row(self._now, self.flow, UP, "UPLOAD", text))

    def _mark(self, name: str, low: float, high: float | None = None, replica: int = 0) -> None:
        if self.marks is not None:
            self.marks.add(name, self._now, low, high, replica)

    def _mark_window(self, generation: Generation) -> None:
        self.totals.largest_window = max(self.totals.largest_window, generation.window)
        self._mark("window", generation.window)
        self._mark("flight", generation.in_flight)

    # ---- all datagrams

    def _count(self, seen: Seen) -> None:
        totals, size = self.totals, len(seen.datagram)
        totals.ended = seen.at
        totals.kinds[Kind(seen.datagram[0] & 15)] += 1
        if seen.up:
            totals.sent_bytes += size
        else:
            totals.received_bytes += size

    def _see_ends(self, seen: Seen) -> None:
        """Either end may move, and one server may be asked and another one answer."""
        if seen.up:
            tally(self.totals.clients, seen.client, 1)
            self._is_at("the client is", seen.client)
            self._is_at("the server asked is", seen.server)
        else:
            tally(self.totals.servers, seen.server, 1)
            self._is_at("the server that answers is", seen.server)

    def _is_at(self, who: str, address: Address) -> None:
        before = self._ends.setdefault(who, address)
        if before != address:
            self._ends[who] = address
            self._row(NOTE, "moved", f"{who} {end(address)} now")

    # ---- what the client sends

    def _hello(self, hello: wire.Hello) -> None:
        self._opens()
        self._mark("hello", self._response.received)
        self._control(UP, hello)

    def _opens(self) -> None:
        self._opened_at = self._now
        if self._asked_at is None:
            self._asked_at = self._now

    def _request(self, request: wire.Request, c: Continuation | None) -> None:
        self.totals.unseen += self._response.skip(request.received)
        self._mark("received", request.received)
        self._mark("request", request.received)
        if request.opens:
            self._opens()
            if request.attempt:
                self.totals.after_silence += 1
                self._mark("silence", self._response.received)
            self._control(UP, request)
        generation = self._generation
        if c is None or generation is None:
            return
        if generation.name != (c.ordinal, c.generation & 0xFFFF_FFFF):
            return
        if request.lost >= 0 and request.lost not in generation.reported:
            self._report(generation, request, c)
        if request.opens:
            return
        since = generation.returned(c.stop, self._now)
        if since is not None:
            self.totals.returns.add(since)
        generation.claim(*granted(request, c), c.stop, self._now)
        highest = max((stop for _, stop in request.wants if stop != OPEN_END), default=0)
        if highest:
            self._mark("wanted", highest)
        self._mark_window(generation)

    def _report(self, generation: Generation, request: wire.Request, c: Continuation) -> None:
        lost, successor = request.lost, after_loss(c.epoch, request.lost)
        if len(generation.reported) < _MOST_REPORTS:
            generation.reported.add(lost)
        self.totals.reports += 1
        came = generation.numbers.came(lost)
        self.totals.spurious += came
        told = came and not self.totals.at_server  # where all of them seem to have come
        self._mark("report", self._response.received)
        text = (
            f"number {lost:,} is reported{', though it came' if told else ''}: window "
            f"{window(c.epoch, lost):,}, and {successor.cwnd0:,} from number {successor.base:,} on"
        )
        self._row(NOTE, "loss", text)

    def _upload(self, upload: wire.Upload) -> None:
        self._mark("upload", self._response.received)
        self._uploads.sent(upload, self._now)
        self._tell_long_uploads()

    def _tell_long_uploads(self) -> None:
        if self._uploads.long(self._now):
            self._tell_uploads()

    # ---- what servers send

    def _ack(self, ack: wire.Ack) -> None:
        self._mark("ack", self._response.received)
        if ack.numbers:
            self._uploads.acknowledged(ack, self._now)
            self._tell_long_uploads()
        else:
            self._control(DOWN, ack)

    def _wait(self, wait: wire.Wait) -> None:
        self._mark("wait", self._response.received)
        self._control(DOWN, wait)
        self._opened_at = None
        generation = self._generation
        if generation is not None and generation.name == (wait.ordinal, wait.generation):
            generation.wait(wait.stop)

    def _data(self, data: wire.Data) -> None:
        if data.flags & wire.FLAG_PROBE:
            self.totals.probes += 1
            self._mark("probe", self._response.received)
            self._control(DOWN, data)
            return
        generation = self._generation
        if generation is None or self._is_later(generation, data):
            generation = self._begin(data)
        fresh = self._bytes(data)
        if generation.name != (data.ordinal, data.generation):
            if not self._packets:
                self._row(DOWN, "late", f"{words(data)[1]}, which is over")
            return
        if generation.follow(data):
            self._epoch(generation)
        self._number(generation, data, fresh)
        self._whole(data)

    def _bytes(self, data: wire.Data) -> int:
        """How many of them are new."""
        size, totals, response = len(data.payload), self.totals, self._response
        if response.edition(data.edition, data.offset):
            self._row(NOTE, "edition", f"the response is made anew from {data.offset:,} on")
        fresh = response.add(data.offset, data.offset + size)
        totals.fresh += fresh
        totals.again += size - fresh
        tally(totals.replicas, data.replica, fresh)
        if size:
            name = "data" if fresh else "again"
            self._mark(name, data.offset, data.offset + size, data.replica)
        return fresh

    def _is_later(self, generation: Generation, data: wire.Data) -> bool:
        ordinal = generation.name[0]
        if data.ordinal == ordinal and data.generation != generation.name[1]:
            return data.attempt > generation.attempt
        return 0 < (data.ordinal - ordinal) & 0xFFFF_FFFF < 1 << 31

    def _begin(self, data: wire.Data) -> Generation:
        """A generation, with its first packet."""
        self._leave()
        generation = self._generation = Generation(data)
        c = continuation_of(data)
        after = ""
        if self._opened_at is not None:
            self.totals.openings.add(self._now - self._opened_at)
            after = f", {(self._now - self._opened_at) * 1000:.1f} ms after it was asked for"
            self._opened_at = None
        size = ""
        if c is not None:
            size = f", datagrams of {c.size:,} bytes"
            if len(self.totals.sizes) < MOST_NAMED:
                self.totals.sizes[c.size] = None
        epoch = generation.epoch
        self.totals.generations += 1
        self.totals.epochs += 1
        self._mark("generation", self._response.received)
        text = (
            f"{data.ordinal:,} begins{' by attempt ' + str(data.attempt) if data.attempt else ''}: "
            f"window {epoch.cwnd0:,}, {threshold(epoch.ssthresh)}{size}, "
            f"replica {replica(data.replica)}{after}"
        )
        self._row(NOTE, "generation", text)
        self._mark_window(generation)
        return generation

    def _epoch(self, generation: Generation) -> None:
        epoch = generation.epoch
        self.totals.epochs += 1
        text = f"from number {epoch.base:,} on: window {epoch.cwnd0:,}, {threshold(epoch.ssthresh)}"
        self._row(NOTE, "epoch", text)

    def _number(self, generation: Generation, data: wire.Data, fresh: int) -> None:
        totals, number = self.totals, data.burst + data.place
        arrival, burst = generation.take(data, fresh, self._now)
        if arrival is Arrival.COPY:
            totals.copies += 1
        else:
            totals.arrived += 1
            totals.spurious += number in generation.reported
        if arrival is Arrival.LATE:
            totals.late += 1
            totals.lost -= 1
            self._mark("late", data.offset)
            self._row(NOTE, "late", f"number {number:,} has come after all")
        self._lose(generation)
        if burst is not None:
            self._burst(generation, burst)
        for other in generation.given_up():
            self._burst(generation, other)

    def _lose(self, generation: Generation, *, over: bool = False) -> None:
        for start, stop in generation.numbers.lose(over=over):
            self.totals.lost += stop - start
            self._mark("lost", self._response.received)
            if self._lost and self._lost[-1][1] == start:
                self._lost[-1] = self._lost[-1][0], stop
            else:
                self._lost.append((start, stop))

    def _burst(self, generation: Generation, burst: Burst) -> None:
        if burst.took >= 0:
            self.totals.answers.add(burst.took)
            self._mark("rtt", burst.took)
        self._mark_window(generation)
        if not self._packets:
            self._row(DOWN, "burst", str(burst))

    def _leave(self) -> None:
        """The generation in progress is over."""
        generation = self._generation
        if generation is None:
            return
        self._lose(generation, over=True)
        for burst in generation.given_up(over=True):
            self._burst(generation, burst)
        self.totals.unanswered += generation.numbers.unanswered

    def _whole(self, data: wire.Data) -> None:
        """Is the response here to its end with this packet?"""
        c = continuation_of(data) if data.continuation else None
        if c is not None:
            self._response.seal(c.response_end)
        done = self._response.done()
        if done is None:
            return
        start, stop = done
        began, self._asked_at = self._asked_at, None
        self.totals.exchanges += 1
        took = ""
        if began is not None:
            seconds = self._now - began
            took = f" in {seconds:.3f} s, {rate(stop - start, seconds)}"
        self._row(NOTE, "done", f"the response {span(start, stop)} is here{took}")
