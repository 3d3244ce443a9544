"""The other side of a `Service` in tests: what endpoint, transport and client do between them,
without sockets, clocks or sealing. Bytes are asserted on, never calls."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random

from trickles_web.config import HttpConfig
from trickles_web.http.names import NAME_KEY_BYTES, Names, digest
from trickles_web.http.responses import Forward, Held, Need, Pending, Refuse
from trickles_web.http.runner import KeptResponse
from trickles_web.http.scope import ASGIApp
from trickles_web.http.service import Service
from trickles_web.state import Limits, MemoryStore
from trickles_web.transport.note import UNBOUND, Note
from trickles_web.transport.redeemed import Redeemed
from trickles_web.transport.upload import PROBE_ROOM
from trickles_web.transport.wire import OPEN_END, Code, Kind

Said = KeptResponse | Held | Need | Refuse
"""What the endpoint answers to the client."""

ADDRESS = ("192.0.2.7", 40_000)
QUIET = HttpConfig(lifespan="off", access_log=False)
START_MS = 1_700_000_000_000
UPLOADED = 1200
"""Bytes of an open request sent at once."""
SHORTLY_S = 0.02
"""An answer to an upload comes by then, or the client would send it again."""


class Clock:
    """Wall-clock ms, moved by hand."""

    def __init__(self) -> None:
        self.ms = START_MS

    def __call__(self) -> int:
        return self.ms


def limits(site: Site) -> Limits:
    """What every store is made with."""
    return Limits(
        most_bytes=site.config.store_bytes,
        most_responses=site.config.store_responses,
        ttl_ms=site.config.response_ttl_ms,
        disk_bytes=site.config.spool_disk_bytes,
        lent_bytes=site.config.spool_memory_bytes,
    )


def in_memory(site: Site) -> MemoryStore[KeptResponse]:
    return MemoryStore(site.random.randbytes(4), limits(site))


@dataclass
class Site:
    """A service with its store, and the events that its `on_ready` sets."""

    app: ASGIApp
    config: HttpConfig = QUIET
    clock: Clock = field(default_factory=Clock)
    seed: int = 1
    open_to_strangers: bool = False
    open: Callable[[Site], MemoryStore[KeptResponse]] = in_memory
    others: dict[int, Site] = field(default_factory=dict)
    """Those that the store is shared with, by owner."""

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self.store = self.open(self)
        if self.store.owner:
            self.others[self.store.owner] = self
        self.ready: dict[int, asyncio.Event] = {}
        self.service = Service(
            self.app,
            self.config,
            self.store,
            on_ready=self.on_ready,
            clock=self.clock,
            random=self.random.randbytes,
            names=Names((b"k" * NAME_KEY_BYTES,)),
            server=("192.0.2.1", 8000),
            open_to_strangers=self.open_to_strangers,
        )

    def on_ready(self, incarnation: int) -> None:
        self.ready.setdefault(incarnation, asyncio.Event()).set()

    def wipe(self) -> None:
        self.store.wipe(self.random.randbytes(4))

    async def ask(self, redeemed: Redeemed) -> Said:
        """The answer, once it is not Pending any more, from whoever gives it."""
        event = self.ready.setdefault(redeemed.incarnation, asyncio.Event())
        for _ in range(1000):
            event.clear()
            answer = self.service.answer(redeemed, self.clock())
            if isinstance(answer, Forward):
                redeemed.hops += 1
                return await self.others[answer.owner].ask(redeemed)
            if not isinstance(answer, Pending):
                return answer
            await asyncio.wait_for(event.wait(), 5)
        raise AssertionError("woken 1,000 times for nothing")

    async def tell(self, redeemed: Redeemed) -> Said | None:
        """The answer, or None if it does not come soon: uploads do not wait at the server."""
        try:
            async with asyncio.timeout(SHORTLY_S):
                return await self.ask(redeemed)
        except TimeoutError:
            return None


class RefusedByServer(Exception):
    def __init__(self, code: Code) -> None:
        super().__init__(code.name)
        self.code = code


@dataclass
class Peer:
    """One flow: what an honest client keeps, and the progress in its newest continuation."""

    pick: Callable[[], Site]
    incarnation: int = 7
    address: tuple[str, int] = ADDRESS
    progress: bytes = b""
    stream: bytes = b""
    request_start: int = 0
    start: int = 0
    got: bytes = b""
    edition: int = 0
    end: int | None = None
    read: int = 0
    """Bytes of `got` that the reader has."""
    note: Note | None = None
    """The last whose bytes are all here."""
    attach: bool = False
    """Some server lacks the request, and perhaps the note."""
    store: int = 0
    authorised_at: int = 0
    wanted: int = 0
    closed: bool = False
    piece: Callable[[], int] = lambda: 1 << 20
    answers: int = 0
    repeats: bool = False
    """What is sent first was sent before, to somebody else."""
    sent: bool = False
    patience: int = 0
    """How often NOT_MINE is taken for an invitation to try another server."""
    open: bool = False
    """More of the request is taken while it is answered."""
    held: int = 0
    """Of an open request its owner has what is below, and may never ask for it again."""
    room: int = 0
    """So many bytes more are taken for now."""
    first: int = 1 << 20
    """Bytes of a request that leave before there is an answer, where it is not cut."""

    def redeemed(
        self,
        kind: Kind = Kind.REQUEST,
        offset: int | None = None,
        data: bytes = b"",
        *,
        whole: bool = False,
        **changes: object,
    ) -> Redeemed:
        """A datagram as the transport would hand it up, from an address that is proven."""
        start = self.request_start if offset is None else offset
        received = self.start + len(self.got)
        name = digest(self.stream[self.request_start : start + len(data)]) if whole else None
        redeemed = Redeemed(
            kind=kind,
            flow=b"\0" * 8,
            incarnation=self.incarnation,
            address=self.address,
            progress=self.progress,
            request_offset=start,
            request_bytes=data,
            request_digest=name,
            wants=((received, OPEN_END),),
            received=received,
            edition=self.edition,
            handed_on=self.handed_on,
            repeated=self.repeats or self.sent,
            noted=self.attach,
            note=self.note if self.attach else None,
            validated=True,
            may_run=True,
            fresh=True,
            store=self.store,
            authorised_at=self.authorised_at,
        )
        for name_, value in changes.items():
            setattr(redeemed, name_, value)
        return redeemed

    @property
    def handed_on(self) -> bool:
        return self.read > 0

    def begin(self, request: bytes) -> None:
        """A new exchange of this flow; what the last one did not take comes first."""
        self.request_start = self.wanted
        self.stream += request
        self.start += len(self.got)
        self.got, self.edition, self.end, self.read = b"", 0, None, 0
        self.sent = False
        self.note, self.attach, self.open = None, False, False
        self.store = self.store or self.pick().store.id

    async def upload(self, cuts: list[tuple[int, int]]) -> None:
        """Send these ranges of the request stream as UPLOADs."""
        for start, stop in cuts:
            site = self.pick()
            answer = await site.ask(
                self.redeemed(Kind.UPLOAD, start, self.stream[start:stop], whole=False)
            )
            if isinstance(answer, Refuse):
                raise RefusedByServer(answer.code)
            assert isinstance(answer, Held), answer
            self.progress = answer.progress

    async def upload_on(self) -> None:
        """More of an open request, as far as its owner takes it now."""
        while self.open and self.held < len(self.stream):
            before, stop = self.held, self.held + min(UPLOADED, max(self.room, PROBE_ROOM))
            piece = self.stream[before:stop]
            answer = await self.pick().tell(self.redeemed(Kind.UPLOAD, before, piece))
            if isinstance(answer, Refuse):
                raise RefusedByServer(answer.code)
            if answer is None:
                return
            assert isinstance(answer, Held), answer
            self.keep(answer)
            if self.held == before:
                return

    def keep(self, answer: Held) -> None:
        """What an ACK does: a continuation, and news of an open request."""
        assert not self.open or answer.complete or answer.held >= self.held, "taken back"
        self.progress = answer.progress
        self.open, self.room = answer.room >= 0, max(0, answer.room)
        if self.open:
            self.held = answer.held

    async def exchange(
        self,
        request: bytes,
        *,
        cuts: list[tuple[int, int]] | None = None,
        hand_on: bool = True,
        between: Callable[[], Awaitable[None] | None] = lambda: None,
    ) -> bytes:
        """The whole response. Raises RefusedByServer."""
        self.begin(request)
        base = self.request_start
        await self.upload([(base + a, base + b) for a, b in cuts or ()])
        data = self.stream[base : base + self.first] if cuts is None else b""
        offset = base if cuts is None else len(self.stream)
        parked: Redeemed | None = None
        for _ in range(2000):
            site, whole = self.pick(), not self.open and offset + len(data) == len(self.stream)
            asked = parked or self.redeemed(Kind.REQUEST, offset, data, whole=whole)
            asked.hops = 0
            answer = await site.ask(asked)
            parked = None
            self.answers += 1
            self.sent = True
            if isinstance(answer, Refuse):
                if answer.code is not Code.NOT_MINE or not self.patience:
                    raise RefusedByServer(answer.code)
                self.patience -= 1  # the same bytes under the same continuation
            elif isinstance(answer, Need):
                assert not self.open
                self.attach = True
                await self.upload(list(answer.ranges))
            elif isinstance(answer, Held):
                self.keep(answer)
                parked = asked if self.open else None  # it stays at the server
            else:
                self.take(site, answer)
                data, offset = b"", self.wanted
                if hand_on:
                    self.hand_on(answer)
                if self.end == self.start + len(self.got):
                    return self.got
            disturbed = between()
            if disturbed is not None:
                await disturbed
            await self.upload_on()
            if self.open:
                data, offset = b"", self.held
        raise AssertionError("no end of the exchange")

    def take(self, site: Site, response: KeptResponse) -> None:
        """What a burst does: bytes from where the client is, and a continuation."""
        assert response.edition
        assert len(response.progress) <= 700
        if self.edition not in (0, response.edition):
            joins = response.joins - self.start
            assert self.read <= joins <= len(self.got), "two byte strings mixed"
            self.got = self.got[:joins]
        at = self.start + len(self.got)
        stop = min(response.available, at + self.piece())
        assert response.start == self.start
        if stop > at:
            data = bytes(response.read(at, stop))
            assert len(data) == stop - at
            self.got += data
        self.edition = response.edition
        self.end = response.end
        self.progress = response.progress
        self.authorised_at = response.authorised_at
        assert not self.open or response.request_wanted >= self.held
        self.open, self.held = response.open, response.request_wanted
        self.wanted = response.request_wanted
        self.closed = response.closes
        self.store = site.store.id

    def hand_on(self, response: KeptResponse) -> None:
        """Let the reader have what no later edition can contradict."""
        received = self.start + len(self.got)
        note = response.noted(received)
        if note is None or note.firm == UNBOUND or self.end == received:
            self.read = len(self.got)
        elif note.progress and note.firm <= received:
            self.note, self.read = note, max(self.read, note.firm - self.start)


def body_of(response: bytes) -> bytes:
    """The body of a response with Content-Length or chunks."""
    head, _, body = response.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" not in head.lower():
        return body
    out = b""
    while True:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        if not length:
            assert body == b"\r\n"
            return out
        out += body[:length]
        assert body[length : length + 2] == b"\r\n"
        body = body[length + 2 :]
