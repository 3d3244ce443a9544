"""Between the socket and the two layers above it: what is done with each datagram.

    UPLOADs of one drain that follow each other are taken as one
    datagram -> transport.redeem -> Refusal   its reply, if it has one
                                    Redeemed  -> http.answer -> a response  transport.burst, sent
                                                                Pending     parked, WAIT after 10 ms
                                                                Held        ACK, parked till whole
                                                                Need        NEED, parked likewise
                                                                Forward     given to its owner
                                Refuse      REFUSED
    on_ready(incarnation), UPLOAD            the parked request is asked about again
                                             (at once, or in the next turn of the loop)

There is no connection here: a datagram brings all that is needed to answer it, and what is parked
may be forgotten at any time. No exception of one datagram reaches the loop, or the next datagram.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Final

from trickles_web.errors import ResponseGone
from trickles_web.http.progress import first_contact
from trickles_web.http.responses import Forward, Held, Need, Pending, Refuse
from trickles_web.http.run import Run
from trickles_web.http.runner import Answer
from trickles_web.http.service import Service
from trickles_web.net.forwarding import Relay
from trickles_web.net.parking import SHORTEST_WAIT_MS, WAIT_AFTER_S, Parked, Parking
from trickles_web.net.udp import Peer, Socket, host_and_port
from trickles_web.net.uploads import Arrivals, arrivals
from trickles_web.transport.private.cover import PRIVATE
from trickles_web.transport.redeemed import Train
from trickles_web.transport.server import Redeemed, Refusal, Server
from trickles_web.transport.wire import VERSION, Code, Kind

logger = logging.getLogger("trickles.error")

STRANGERS: Final = frozenset(
    {VERSION << 4 | Kind.HELLO, PRIVATE << 4 | Kind.HELLO, VERSION << 4 | Kind.IDENTIFY}
)
UPLOADS: Final = frozenset({VERSION << 4 | Kind.UPLOAD, PRIVATE << 4 | Kind.UPLOAD})
"""First bytes of these, in clear and private."""
_NAMES: Final = {int(kind): kind.name for kind in Kind}
LOADED_AFTER: Final = 3
"""Drains in a row that ended at their bound: from then on strangers get the short reply only. Who
shows a token is none: a second round trip would be more work for us both."""
SHED_ABOVE: Final = 3 / 8
"""Of the receive buffer. Where more waits, the kernel is about to drop what comes, whosever it is:
better that HELLOs go than what keeps open flows going. It is far more than bursts of honest clients
leave, and from here the rest of the buffer is some tens of milliseconds."""
SHED_TO: Final = 4
"""HELLOs served of each drain then, at a tenth of its cost, until nothing waits any more. A client
repeats a HELLO that is not answered."""
SLICE: Final = 256
"""Parked requests looked at in one turn of the loop."""
MOST_FLUSHES: Final = 256
"""Turns of the loop, so that ending does not take long."""
MOST_TRACEBACKS: Final = 64
"""Distinct failures logged with a traceback; any more are only counted."""


def wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


def _is_awaited(answer: Answer) -> bool:
    """Does this only say how far an open request is here, and the answer proper comes later?"""
    return isinstance(answer, Held) and answer.room >= 0


class Endpoint:
    """Serves what `udp` receives, until `close`."""

    def __init__(
        self,
        server: Server,
        service: Service,
        udp: Socket,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], int] = wall_clock_ms,
        parking: Parking | None = None,
        forwarding: Relay | None = None,
    ) -> None:
        # Not a Counter: that overrides __delitem__, and each increment costs five times as much.
        self.handled: defaultdict[str, int] = defaultdict(int)
        self._server = server
        self._service = service
        self._udp = udp
        self._loop = loop
        self._clock = clock
        self._parking = Parking() if parking is None else parking
        self._forwarding = forwarding
        self._hellos: list[tuple[bytes, Peer]] = []
        self._uploads: list[bytes] = []
        """The last that came, all from one address,"""
        self._uploader: Peer | None = None
        """which is this."""
        self._full_drains = 0
        self._shedding = False
        self._ready: dict[int, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._logged: set[tuple[str, str, int]] = set()
        self._closed = False

    def start(self) -> None:
        self._udp.start(self._deliver, self._drained)
        if self._forwarding is not None:
            self._forwarding.start(self._serve, self._udp.send)

    async def flush(self) -> None:
        """Until what is ready is answered, or at least most of it."""
        for _ in range(MOST_FLUSHES):
            if not self._ready:
                break
            await asyncio.sleep(0)

    def close(self) -> None:
        self._closed = True
        self._udp.close()
        if self._forwarding is not None:
            self._forwarding.close()
        if self._timer is not None:
            self._timer.cancel()

    @property
    def parked(self) -> int:
        return len(self._parking)

    def counters(self) -> Counter[str]:
        """By reason: what was received, answered, refused, dropped, and lost on the way out.

        From any thread.
        """
        total: Counter[str] = Counter()
        parts: list[dict[str, int]] = [self._udp.counters, self.handled, self._server.counters]
        if self._forwarding is not None:
            parts.append(self._forwarding.counters)
        for part in parts:
            total.update(dict(part))  # a copy in one step
        return total

    # -- datagrams in ---------------------------------------------------------------------------

    def _deliver(self, datagram: bytes, peer: Peer) -> None:
        first = datagram[0] if datagram else 0
        if first in UPLOADS:
            if self._uploader != peer:
                self._take_uploads()
                self._uploader = peer
            self._uploads.append(datagram)
            return
        if self._uploads:
            self._take_uploads()
        if first in STRANGERS:
            self._hellos.append((datagram, peer))  # strangers after those who have echoed
        else:
            self._serve(datagram, peer)

    def _drained(self, full: bool) -> None:
        self._full_drains = self._full_drains + 1 if full else 0
        if self._uploads:
            self._take_uploads()
        if self._hellos:
            hellos, self._hellos = self._hellos, []
            for datagram, peer in hellos[: self._admitted(len(hellos))]:
                self._serve(datagram, peer)

    def _admitted(self, count: int) -> int:
        """How many of so many HELLOs are served; the others are not even looked at."""
        if self._full_drains < LOADED_AFTER:
            self._shedding = False
            return count
        self._shedding = self._shedding or self._udp.filled > SHED_ABOVE
        if not self._shedding or count <= SHED_TO:
            return count
        self.handled["HELLO shed under load"] += count - SHED_TO
        return SHED_TO

    def _take_uploads(self) -> None:
        uploads, self._uploads = self._uploads, []
        peer, self._uploader = self._uploader, None
        if peer is None:
            return
        for came in arrivals(self._server, uploads, self._clock()):
            if len(came.datagrams) == 1 or not self._serve_run(came, peer):
                for datagram in came.datagrams:
                    self._serve(datagram, peer)

    def _serve_run(self, came: Arrivals, peer: Peer) -> bool:
        """UPLOADs as one. False: not all of it is taken, so each of them needs its own answer.

        What was taken of it is found again by them, and does no harm.
        """
        try:
            now, run = self._clock(), came.run
            address = host_and_port(peer.sockaddr)
            redeemed = self._server.redeem(run.joined, address, now, came.channel)
            if isinstance(redeemed, Refusal):
                return False
            redeemed.numbers = run.numbers
            answer = self._service.answer(redeemed, now)
            if not isinstance(answer, Held) or not answer.taken:
                return False
            self.handled[_NAMES[Kind.UPLOAD]] += len(run.numbers)
            self._reply(answer, redeemed, peer, now)
            self._uploaded(redeemed.incarnation, answer)
        except Exception as error:
            self._failed(error)
        return True

    def _serve(self, datagram: bytes, peer: Peer) -> None:
        try:
            now = self._clock()
            redeemed = self._server.redeem(datagram, host_and_port(peer.sockaddr), now)
            if isinstance(redeemed, Refusal):
                self._send(redeemed.reply, peer)
            else:
                self._handle(redeemed, peer, now)
        except Exception as error:
            self._failed(error)

    def _handle(self, redeemed: Redeemed, peer: Peer, now: int) -> None:
        kind = redeemed.kind
        redeemed.hops = peer.hops
        self.handled[_NAMES[kind]] += 1
        if redeemed.origin:  # whatever the answer seals, it is to know for whom
            redeemed.progress = first_contact(redeemed.origin, redeemed.store)
        if kind is Kind.CANCEL:
            if redeemed.validated:  # else anybody may have seen its continuation
                self._cancel(redeemed, peer, now)
        elif kind is Kind.HELLO and not redeemed.may_run and self._full_drains >= LOADED_AFTER:
            self.handled["short reply under load"] += 1
            self._send(self._server.acknowledge(redeemed, 0, redeemed.progress, now), peer)
        else:
            answer = self._service.answer(redeemed, now)
            if isinstance(answer, Pending):
                self._park(redeemed, peer, run=answer.run)
            else:
                self._reply(answer, redeemed, peer, now)
            if kind is Kind.UPLOAD:
                self._uploaded(redeemed.incarnation, answer)
            elif isinstance(answer, (Held, Need)) and redeemed.validated:
                self._park(redeemed, peer, incomplete=not _is_awaited(answer))

    def _cancel(self, redeemed: Redeemed, peer: Peer, now: int) -> None:
        self._parking.remove(redeemed.incarnation)
        elsewhere = self._service.cancel(redeemed)
        if elsewhere is not None:
            self._reply(elsewhere, redeemed, peer, now)

    def _uploaded(self, incarnation: int, answer: Answer) -> None:
        if isinstance(answer, Held) and not answer.begins:
            return
        entry = self._parking.get(incarnation)
        if entry is not None and entry.incomplete:
            self._look_again(incarnation)  # maybe the request is whole now

    def _reply(self, answer: Answer, redeemed: Redeemed, peer: Peer, now: int) -> None:
        if redeemed.kind is Kind.HELLO and not isinstance(answer, Forward):
            # First, or the answer would take all that may be sent. Who it is passed on to counts
            # for itself, so nothing may have been sent by then.
            self._send(self._server.prefer(redeemed), peer)
        if isinstance(answer, Held):
            self.handled["ACK"] += 1
            reply = self._server.acknowledge(
                redeemed,
                answer.held,
                answer.progress,
                now,
                complete=answer.complete,
                room=answer.room,
                taken=answer.taken,
            )
            self._send(reply, peer)
        elif isinstance(answer, Need):
            self.handled["NEED"] += 1
            self._send(self._server.need(redeemed, answer.ranges), peer)
        elif isinstance(answer, Forward):
            if self._forwarding is not None:
                self._forwarding.forward(answer.owner, redeemed.datagram, peer)
        elif isinstance(answer, Refuse):
            self._send(self._server.refuse(redeemed, answer.code), peer)
        elif not isinstance(answer, Pending):
            try:
                trains = self._server.burst(redeemed, answer, now)
            except ResponseGone:
                self._send(self._server.refuse(redeemed, Code.GONE), peer)
            else:
                self.handled["burst"] += bool(trains)
                if peer.via is not None:
                    peer.via(trains)
                else:
                    self._udp.send_trains(trains, peer, redeemed.pace)
                if not trains and redeemed.starved:
                    self._send(self._server.come_back(redeemed, now), peer)

    def _send(self, reply: bytes | None, peer: Peer) -> None:
        if reply is not None and peer.via is not None:
            peer.via([Train(len(reply), 1, [reply])])
        elif reply is not None:
            self._udp.send(reply, peer)

    def _failed(self, error: Exception) -> None:
        """Counted, and logged with its traceback the first time it happens at that place."""
        self.handled["internal error"] += 1
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        file, line = (trace.tb_frame.f_code.co_filename, trace.tb_lineno) if trace else ("", 0)
        place = (type(error).__name__, file, line)
        if place not in self._logged and len(self._logged) < MOST_TRACEBACKS:
            self._logged.add(place)
            logger.error("Exception while answering a datagram (logged once)", exc_info=error)

    # -- requests that wait ---------------------------------------------------------------------

    def _park(
        self, redeemed: Redeemed, peer: Peer, *, incomplete: bool = False, run: Run | None = None
    ) -> None:
        if redeemed.kind not in (Kind.REQUEST, Kind.HELLO):
            return
        if redeemed.kind is Kind.REQUEST and not redeemed.validated:
            # It would take the place of who waits there. Who has moved comes back, and then may.
            self._send(self._server.come_back(redeemed, self._clock()), peer)
            return
        now = self._loop.time()
        if self._parking.park(redeemed, peer, now, incomplete=incomplete, run=run):
            if self._timer is None or self._timer_at > now + WAIT_AFTER_S:
                self._schedule()
        elif not incomplete:
            self.handled["no room to park"] += 1
            self._send(self._server.wait(redeemed, SHORTEST_WAIT_MS, self._clock()), peer)

    def on_ready(self, incarnation: int) -> None:
        """The service may have an answer now."""
        entry = self._parking.get(incarnation)
        if entry is not None and not self._closed:
            try:
                self._answer_parked(entry)
            except Exception as error:
                self._parking.remove(incarnation)
                self._failed(error)

    def _look_again(self, incarnation: int) -> None:
        """The same in the next turn of the loop: many datagrams of one request make one look."""
        if not self._ready and not self._closed:
            self._loop.call_soon(self._answer_ready)
        self._ready[incarnation] = None

    def _answer_ready(self) -> None:
        ready, self._ready = self._ready, {}
        for position, incarnation in enumerate(ready):
            if position >= SLICE:
                self._look_again(incarnation)
            else:
                self.on_ready(incarnation)

    def _answer_parked(self, entry: Parked) -> None:
        now = self._clock()
        if entry.run is None:
            answer = self._service.answer(entry.redeemed, now)
        else:
            answer = self._service.go_on(entry.redeemed, entry.run, now)
        if isinstance(answer, Pending):
            self._parking.completed(entry, self._loop.time())
            self._schedule()
        elif _is_awaited(answer):
            self._parking.completed(entry, self._loop.time())
            self._reply(answer, entry.redeemed, entry.peer, now)
            self._schedule()
        elif not (isinstance(answer, (Held, Need)) and entry.incomplete):
            self._parking.remove(entry.redeemed.incarnation)
            self._reply(answer, entry.redeemed, entry.peer, now)

    def _schedule(self) -> None:
        due = self._parking.next_due()
        if due is None or self._closed:
            return
        if self._timer is not None:
            if self._timer_at <= due:
                return
            self._timer.cancel()
        # uvloop gives a Handle, which has no when(), for a time that has passed.
        self._timer = self._loop.call_at(due, self._tick)
        self._timer_at = due

    def _tick(self) -> None:
        """The one timer of everything parked; it runs only while something is."""
        self._timer = None
        try:
            monotonic, now = self._loop.time(), self._clock()
            for entry in self._parking.take_waits(monotonic, SLICE):
                self.handled["WAIT"] += 1
                if entry.redeemed.kind is Kind.HELLO:
                    self._send(self._server.prefer(entry.redeemed), entry.peer)
                wait = entry.wait_ms(monotonic)
                self._send(self._server.wait(entry.redeemed, wait, now), entry.peer)
        except Exception as error:
            self._failed(error)
        self._schedule()
