"""One flow at the client: everything that a connection is, and the only place where it is.

Sans-IO. The order of calls is free; after any of them `transmit` gives the datagrams to send, and
`timeout` says when to call it again:

    write(bytes) / receive(datagram, now) / read() -> transmit(now) -> timeout()

An exchange begins when there are request bytes that no server has taken, and is complete when the
response is here to its end *and* with it a continuation that says so: from that the next one opens.
"""

from __future__ import annotations

from trickles_web.config import BASE_DATAGRAM, ClientConfig
from trickles_web.errors import ContinuationError, FlowError, WireError
from trickles_web.transport import continuation as sealing
from trickles_web.transport import wire
from trickles_web.transport.claim import Held
from trickles_web.transport.download import SILENT_PROBES, Download
from trickles_web.transport.kept import Kept
from trickles_web.transport.opener import FlowStats, newest
from trickles_web.transport.origin import unpack_origin
from trickles_web.transport.path_size import PathSize
from trickles_web.transport.patience import Patience
from trickles_web.transport.refusals import Refusals
from trickles_web.transport.rtt import RoundTrip
from trickles_web.transport.upload import RequestStream, Uploader
from trickles_web.transport.wire import Code, Kind

__all__ = ["SILENT_PROBES", "Flow", "FlowStats"]


class Flow:
    """See the module. Times are monotonic seconds; `flow_id` is 8 random bytes."""

    def __init__(
        self,
        flow_id: bytes,
        config: ClientConfig,
        now: float,
        *,
        token: bytes = b"",
        origin: bytes = b"",
        path: PathSize | None = None,
        kept: Kept | None = None,
        hello_bytes: int = BASE_DATAGRAM,
    ) -> None:
        """`token`: any continuation of an earlier flow to this service; saves a round trip.
        `origin`: for whom a gateway opens it, see `transport.origin`.
        `path`: of which something is known, else it is searched from the smallest size.
        `kept`: where request bytes are kept, in memory unless told. Whoever made it closes it.
        `hello_bytes`: what a HELLO is padded to.
        """
        self.id = flow_id
        self.error: FlowError | None = None
        self.eof = False
        """The flow ends after what there is to read: the server said so."""
        self.preferred: tuple[str, int] | None = None
        """The address at which the server would rather be asked; the driver takes it."""
        self._data_start = wire.FIRST_BYTE[Kind.DATA].to_bytes(1) + flow_id
        self._config = config
        self._round_trip = trip = RoundTrip()
        self._requests = requests = RequestStream(kept)
        self._uploader = Uploader(requests, trip)
        hello = wire.Hello(flow_id, 0, 0, token, b"", origin)
        path = path or PathSize(BASE_DATAGRAM, config.max_datagram_bytes)
        self._download = Download(hello, hello_bytes, config, requests, trip, path)
        self._refusals = Refusals()
        self._exchange = self._open = False
        self._floor = 0
        """Ordinal of what the exchange in progress opened from: ACKs of less are late ones."""
        self._patience = Patience(config, now)

    # ---- what the application does

    def write(self, data: bytes) -> None:
        """Append to the request stream. That it cannot be kept shows as `error`."""
        try:
            self._requests.write(data)
        except FlowError as error:
            self._give_up(error)

    def unacknowledged(self) -> int:
        """Request bytes still kept: until the response is whole, any may be asked for again."""
        return self._requests.end - self._requests.start

    def untaken(self) -> int:
        """Request bytes that no server is known to hold: what a writer may have to wait for.

        Less than `unacknowledged`, or a writer would never get to the end of a long request.
        """
        if self.eof:
            return 0  # nobody will take more, and a writer should not wait to be told so
        download, kept = self._download, self.unacknowledged()
        if self._open:
            return kept  # the others are released
        if download.edition.number or download.timers.put_off:
            # The response has begun or is being made: a server has all that it asked for, and
            # what waits behind that is of later requests.
            return self._requests.unsent
        # At least one byte: a whole request still waits for somebody to run it.
        return max(min(kept, 1), kept - self._uploader.held_bytes)

    def readable(self) -> int:
        return self._download.stream.ready

    def read(self, limit: int = 1 << 30) -> bytes:
        """Hand on response bytes, in order; this is what lets the server send more."""
        download = self._download
        data = download.stream.read(limit)
        download.wanted.limit = download.stream.delivered + self._config.receive_buffer_bytes
        return data

    @property
    def idle(self) -> bool:
        """No exchange in progress, and none about to begin."""
        return not self._exchange and not self.unacknowledged()

    @property
    def silence(self) -> int:
        """Probes in a row that nothing has answered."""
        return self._download.timers.attempt

    @property
    def open(self) -> bool:
        """More of the request is taken while it is answered, as in a WebSocket."""
        return self._open

    @property
    def token(self) -> bytes:
        """The newest continuation: an address token for later flows."""
        held = self._download.best or self._download.fresh
        return b"" if held is None else held.blob

    @property
    def stats(self) -> FlowStats:
        stats = self._download.stats
        stats.srtt = self._round_trip.estimate
        stats.probe_timeout = self._round_trip.probe_timeout(0)
        return stats

    def cancel(self) -> list[bytes]:
        """Nobody waits any more: the datagrams that tell the server so. The flow is over."""
        return self._covered(self._farewell())

    def _farewell(self) -> list[bytes]:
        held = self._download.best or self._download.fresh
        active, self._exchange = self._exchange, False
        self._download.drop()
        if not active or held is None or self.error:
            return []
        return [wire.encode_cancel(wire.Cancel(self.id, held.blob)) + held.ticket]

    def refused_by_network(self, now: float) -> None:
        """Nothing listens at the server's port (ICMP): perhaps it is restarting."""
        self._patience.unreachable(now)

    # ---- arrivals

    def receive(self, datagram: bytes, now: float) -> None:
        """Take one datagram; whatever its bytes are, nothing is raised."""
        self.receive_train(datagram, len(datagram), now)

    def receive_train(self, train: bytes, segment: int, now: float) -> None:
        """Datagrams that lie end to end, `segment` bytes each, but the last may be shorter."""
        at, datagrams = 0, memoryview(train)
        while at < len(train):
            at += segment * self._take(datagrams, at, segment, now)

    def _take(self, train: wire.Buffer, at: int, segment: int, now: float) -> int:
        """Take the datagram at `at`, or a run of DATA; returns how many datagrams that were."""
        taken = 1
        if not self._exchange:
            return taken
        try:
            datagram = train[at : at + segment]
            if datagram[: wire.START_BYTES] != self._data_start:
                self._control(bytes(datagram), now)
                return taken
            download = self._download
            run = wire.run_of_one(datagram)
            if at + segment < len(train) and download.is_in_order(run.data):
                whole = wire.with_neighbours(run, train, at, segment)
                if download.takes_whole(whole):
                    run, taken = whole, whole.stop - whole.start
            download.stats.datagrams_in += taken
            if run.data.flags & wire.FLAG_PROBE:
                download.path.carried(len(datagram))
            else:
                self._data(run, now)
        except (WireError, ContinuationError):
            pass
        except FlowError as error:  # of the bytes kept
            self._give_up(error)
        return taken

    def _control(self, datagram: bytes, now: float) -> None:
        """Anything but DATA."""
        kind = wire.kind_of(datagram)
        if wire.flow_of(datagram) != self.id:
            return
        self._download.stats.datagrams_in += 1
        if kind == Kind.ACK:
            self._ack(wire.decode_ack(datagram), now)
        elif kind == Kind.NEED:
            self._need(wire.decode_need(datagram), now)
        elif kind == Kind.WAIT and self._download.waits(wire.decode_wait(datagram), now):
            self._news(now, gained=False)
            self._patience.works(now)
        elif kind == Kind.REFUSED:
            self._refused(wire.decode_refused(datagram), now)
        elif kind == Kind.PREFERRED:
            preferred = wire.decode_preferred(datagram)
            if self._refusals.answers(preferred.echo):
                self.preferred = unpack_origin(preferred.address)

    def _data(self, run: wire.Run, now: float) -> None:
        download = self._download
        before = download.stream.received
        if download.receive(run, now):
            self._is_request_open()
            self._news(now, gained=download.stream.received > before)
        if download.finished():
            self._exchange = self._open = False
            assert download.best is not None
            self._requests.discard(download.best.continuation.request_wanted)
            self._uploader.stop()
            self.eof = download.closes

    def _is_request_open(self) -> None:
        """A response comes, so the request is whole, unless the response says otherwise."""
        best, line = self._download.best, self._download.line
        if best is not None and best.line is line:
            self._open = best.continuation.open
        if not self._open:
            self._uploader.stop()
        elif best is not None and best.line is line:
            self._take_on(best.continuation.request_wanted, 0)

    def _take_on(self, held: int, room: int) -> None:
        """A server has the open request's bytes up to `held` for good, and takes more."""
        self._open, held = True, min(held, self._requests.end)
        self._uploader.begin(held, held + room)
        self._requests.release(held)

    def _ack(self, ack: wire.Ack, now: float) -> None:
        download, start = self._download, self._requests.start
        opener, held = download.opener, None
        if ack.room >= 0 and opener is not None and opener.held is None:
            return  # no request begins for good from a HELLO, which would have to be said again
        if ack.continuation:
            c, blob, ticket = sealing.parse_told(ack.continuation)
            if download.incarnation is None:
                download.incarnation = c.incarnation
            elif c.incarnation != download.incarnation or c.ordinal < self._floor:
                return
            held = download.fresh = Held(c, blob, now, None, ticket)
            if ack.room >= 0 and opener is not None:
                opener.renew(held)  # the one before stands for bytes that are about to be released
            elif ack.complete:
                download.whole_at(held)
        elif not self._uploader.awaits(ack.numbers):
            return  # nothing says that it is of this exchange
        gained = self._patience.reaches(ack.held) or ack.room >= 0
        self._news(now, upload=ack.room < 0, gained=gained)
        if ack.complete:
            self._open = False
            self._uploader.stop()
        elif ack.room >= 0:
            self._take_on(ack.held, ack.room)
        elif ack.held > start and (self._uploader.active if ack.numbers else download.opener):
            self._uploader.begin(ack.held)  # else late news of who has less than another
        replica = -1 if held is None else held.continuation.replica
        self._uploader.acknowledged(ack.numbers, ack.held, now, replica)
        if ack.numbers or ack.room >= 0 or (ack.held > start and not ack.complete):
            timers = download.timers
            timers.attempt = 0
            if download.opener is not None and timers.again_at is None:
                # The opener waits at the server for the rest of the request.
                timers.probe_at = now + self._round_trip.probe_timeout(2)
        elif held is not None:
            download.come_back(held, now)

    def _need(self, need: wire.Need, now: float) -> None:
        """The server lacks request bytes: they go with the next request, or before it."""
        download = self._download
        if not need.ranges or download.incarnation is None:
            return
        self._patience.loses(now)
        again, download.attach = download.attach, True
        if self.unacknowledged() > download.opener_room():
            self._uploader.needed(need.ranges)
        if download.opener is None:
            download.retry(now)
        elif not again:
            download.send_opener(now)

    def _refused(self, refused: wire.Refused, now: float) -> None:
        if not self._refusals.answers(refused.echo):
            return
        download, timers, opener = self._download, self._download.timers, self._download.opener
        if refused.code == Code.EXPIRED and opener and opener.renew(download.fresh):
            # What was presented is old to who was restarted since, and spent there.
            download.retry(now)
            return
        handed_on = download.edition.handed_on
        verdict = self._refusals.judge(refused, handed_on, claim=opener is None)
        if verdict.error is not None:
            self._fail(verdict.error)
        elif verdict.retry_after is not None:  # who refuses one claim may refuse all, for ever
            self._patience.heard = now
            timers.clear()
            if refused.code == Code.EXPIRED and download.opener is None:
                download.reopen(now)
            elif download.opener is not None:
                timers.again_at = now + verdict.retry_after  # refused is not spent
            else:
                timers.probe_at = now + verdict.retry_after

    def _news(self, now: float, *, gained: bool, upload: bool = False) -> None:
        """Some server goes on with this flow. gained: further than any had come."""
        self._patience.hears(now, gained=gained)
        self._refusals.progress(upload=upload)

    def _give_up(self, error: FlowError) -> None:
        """It is the client that cannot go on: the server is told."""
        self._download.out += self._farewell()
        self._fail(error)

    def _fail(self, error: FlowError) -> None:
        self.error = error
        self._exchange = False
        self._download.drop()
        self._uploader.stop()

    # ---- sending

    def transmit(self, now: float) -> list[bytes]:
        """The datagrams to send now."""
        try:
            out = self._advance(now)
        except FlowError as error:  # of the bytes kept
            self._give_up(error)
            out = self._taken()
        datagrams = self._covered(out)
        self._refusals.sent(datagrams)
        self._download.stats.datagrams_out += len(datagrams)
        return datagrams

    def _covered(self, messages: list[bytes]) -> list[bytes]:
        """The datagrams that say this; in a private flow a message ends with its ticket."""
        return messages

    def _taken(self) -> list[bytes]:
        out, self._download.out = self._download.out, []
        return out

    def _advance(self, now: float) -> list[bytes]:
        download = self._download
        if self._exchange:
            if not self._waiting:
                self._patience.rest(now)  # the reader does
            self._expire(now)
        if self._exchange:
            download.advance(now)
        elif self.error is None and not self.eof and not self.idle:
            self._start_exchange(now)
        held = newest(download.best, download.fresh)
        if self._exchange and self._uploader.active and held is not None:
            uploads = self._uploader.transmit
            download.out += uploads(self.id, held.blob, now, download.path.bytes, held.ticket)
        return self._taken()

    def _start_exchange(self, now: float) -> None:
        self._exchange, best = True, self._download.best
        self._open, self._floor = False, 0 if best is None else best.continuation.ordinal
        self._patience.begin(now, self._requests.start)
        self._download.start(now)

    def timeout(self) -> float | None:
        """When `transmit` must be called next, if nothing happens before."""
        if not self._exchange:
            return None
        download, timers = self._download, self._download.timers
        times = [timers.probe_at, timers.again_at, timers.alive_at, self._uploader.deadline()]
        if self._waiting:
            times.append(self._patience.limit)
        if download.line is not None and download.opener is None:
            times.append(download.line.deadline())
        return min((time for time in times if time is not None), default=None)

    @property
    def _waiting(self) -> bool:
        """Is some server's answer due?"""
        return self._download.timers.due or self._uploader.deadline() is not None

    def _expire(self, now: float) -> None:
        timers = self._download.timers
        if self._waiting and now >= self._patience.limit:
            self._fail(self._patience.error())
        elif timers.again_at is not None and now >= timers.again_at:
            self._download.repeat_waiting(now)
        elif timers.probe_at is not None and now >= timers.probe_at:
            self._time_out(now)
        elif timers.alive_at is not None and now >= timers.alive_at:
            timers.alive_at = None
            if self._download.resting and not self._waiting:
                self._download.reopen(now)

    def _time_out(self, now: float) -> None:
        """Nothing was heard: ask again from the newest continuation, ever more rarely."""
        download = self._download
        if download.resting:
            download.timers.rest(now)
            return
        download.stats.timeouts += 1
        attempt = download.timers.attempt = download.timers.attempt + 1
        if attempt > SILENT_PROBES and self._patience.heard is not None:
            download.path.doubt()
        download.retry(now)
