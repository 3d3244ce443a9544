"""One row of the table, the three ways to show it, and what came of it."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from tests.http.peer import QUIET, Peer, RefusedByServer, Site, body_of
from tests.http.test_shared import Group
from tests.state.redis_server import RedisServer
from trickles_web.config import HttpConfig
from trickles_web.errors import ResponseGone
from trickles_web.http.responses import Forward
from trickles_web.http.runner import KeptResponse
from trickles_web.http.scope import Receive, Scope, Send
from trickles_web.state import MemoryStore
from trickles_web.state.redis import RedisStore
from trickles_web.transport.wire import Code, Kind

DATAGRAM = 1200
"""Bytes: requests longer than this come in pieces."""

ALL = ("one", "replicas", "forgetful")


@dataclass
class Stage:
    """What the application, its test and all its processes share."""

    file: Path
    seen: list[Any] = field(default_factory=list)
    """What the application noted."""
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def saw(self, note: object) -> None:
        """Return when the application has noted this."""
        async with asyncio.timeout(5):
            while note not in self.seen:
                await asyncio.sleep(0.001)


Application = Callable[[Stage, Scope, Receive, Send], Awaitable[object]]
Check = Callable[["Outcome"], None]


@dataclass(frozen=True)
class Row:
    """`requests` are of one flow, one after the other; the checks look at what came of them."""

    name: str
    app: Application
    requests: bytes | Sequence[bytes]
    checks: Check | Sequence[Check]
    config: HttpConfig = QUIET
    play: Callable[[World], Awaitable[None]] | None = None
    """What the client does, if not just that."""
    ways: Sequence[str] = ALL
    remade: bool = True
    """False: once a byte of it was read and the rest is lost, the response breaks off (GONE)."""


class Reply:
    """A response, taken apart."""

    def __init__(self, data: bytes, closed: bool) -> None:
        head, separator, self.raw = data.partition(b"\r\n\r\n")
        assert separator
        line, *lines = head.split(b"\r\n")
        found = re.fullmatch(rb"HTTP/1\.1 (\d{3}) .*", line)
        assert found, line
        self.status = int(found[1])
        pairs = [line.split(b": ", 1) for line in lines]
        self.headers = [(name.lower(), value) for name, value in pairs]
        self.body = body_of(data) if self.raw else b""
        self.closed = closed

    def all(self, name: bytes) -> list[bytes]:
        """The values of a header, in order."""
        return [value for other, value in self.headers if other == name]


@dataclass
class Outcome:
    """What a client got, until the flow ended with `code` if it did."""

    seen: list[Any]
    replies: list[Reply] = field(default_factory=list)
    code: Code | None = None
    part: bytes = b""
    """What there was of the response that broke off."""
    heard: list[tuple[Any, ...]] = field(default_factory=list)
    """What a WebSocket client heard, see `Talk`."""

    @property
    def reply(self) -> Reply:
        """The last one."""
        assert self.code is None
        return self.replies[-1]


def forget(store: MemoryStore[KeptResponse]) -> None:
    """Lose all soft state but the ledger, responses that it points to, and running calls."""
    for key in list(store._spools):
        store.close_spool(key)
    for key in list(store._finished):
        if store.claimed(key) is None:
            store._forget(key)


class World:
    """Servers, and clients that reach any of them with any datagram."""

    def __init__(self, row: Row, stage: Stage, random: Random, sites: list[Site]) -> None:
        self.row = row
        self.stage = stage
        self.random = random
        self.sites = sites
        self.group: Group | None = None
        self.forgetful = False
        self.outcome = Outcome(stage.seen)
        self._datagrams = 0
        self._losses: set[int] = set()
        """Before which datagrams of an exchange memory is lost."""
        self._slow = 0
        """Up to this one the client asks for little."""

    @property
    def request(self) -> bytes:
        """Of a row that has but one."""
        assert isinstance(self.row.requests, bytes)
        return self.row.requests

    def pick(self) -> Site:
        """Who gets the next datagram, and in the third way, what it remembers by then."""
        site = self.random.choice(self.sites)
        self._datagrams += 1
        if self._datagrams in self._losses:
            forget(site.store)
        return site

    def peer(self, incarnation: int = 7) -> Peer:
        def piece() -> int:
            sizes = (25, 40) if self._datagrams < self._slow else (40, 400, 70_000)
            return self.random.choice(sizes)

        first = 1 << 20 if self.row.config.request_buffering else DATAGRAM
        peer = Peer(self.pick, incarnation, piece=piece, first=first)
        peer.store = self.sites[0].store.id
        return peer

    async def exchange(
        self,
        peer: Peer,
        request: bytes,
        between: Callable[[], Awaitable[None] | None] = lambda: None,
    ) -> bool:
        """One more reply, or the code that ended the flow and False."""
        cuts = None
        length = len(peer.stream) - peer.wanted + len(request)
        gathers = self.row.config.request_buffering or self.random.random() < 0.5
        if length > DATAGRAM and gathers:
            starts = range(0, length, DATAGRAM)
            cuts = [(start, min(start + DATAGRAM, length)) for start in starts]
            self.random.shuffle(cuts)
        self._datagrams = 0
        hand_on = True
        if self.forgetful:  # once on average, and while there is something to forget
            self._slow = 5 + len(cuts or ())
            count = self.random.choice((0, 1, 1, 2))
            self._losses = set(self.random.sample(range(2, self._slow + 1), count))
            hand_on = self.random.random() < 0.5
        try:
            answer = await peer.exchange(request, cuts=cuts, between=between, hand_on=hand_on)
        except (RefusedByServer, ResponseGone) as error:
            self.outcome.code = error.code if isinstance(error, RefusedByServer) else Code.GONE
            self.outcome.part = peer.got
            return False
        self.outcome.replies.append(Reply(answer, peer.closed))
        return True

    async def settle(self) -> None:
        """Return when no application call runs any more."""
        async with asyncio.timeout(5):
            while any(site.service.runner.calls.runs for site in self.sites):
                await asyncio.sleep(0.001)

    async def cancel(self, peer: Peer) -> None:
        """The client leaves; whoever hears of it tells the owner."""
        datagram = peer.redeemed(Kind.CANCEL)
        site = self.pick()
        answer = site.service.cancel(datagram)
        if isinstance(answer, Forward):
            assert site.others[answer.owner].service.cancel(datagram) is None

    async def play(self) -> None:
        if self.row.play is not None:
            await self.row.play(self)
            return
        requests = self.row.requests
        for attempt in range(10):
            peer = self.peer(7 + attempt)
            self.outcome = Outcome(self.stage.seen)
            for request in [requests] if isinstance(requests, bytes) else requests:
                if not await self.exchange(peer, request):
                    break
            if self.row.remade or not self.forgetful or self.outcome.code is not Code.GONE:
                return
            assert peer.handed_on  # as it must be; the user asks again
        raise AssertionError("never whole")


class Replicas(Group):
    """Three processes and one Redis."""

    def __init__(self, app: Any, where: RedisServer, config: HttpConfig) -> None:
        super().__init__(app, where)
        self.config = config

    async def _start(self) -> Site:
        self.started += 1
        site = Site(
            *(self.app, self.config, self.clock),
            seed=self.started,
            open=self._open,
            others=self.others,
        )
        assert isinstance(site.store, RedisStore)
        site.store.found = site.on_ready
        site.store.peer = "192.0.2.1 8001"
        await site.store.start()
        await site.service.startup()
        return site


@contextlib.asynccontextmanager
async def world_of(
    row: Row, way: str, parser: str, stage: Stage, server: RedisServer
) -> AsyncIterator[World]:
    """The servers of this way, started."""
    random = Random(f"{row.name} {way} {parser}")
    app, config = partial(row.app, stage), replace(row.config, http=parser)
    if way == "replicas":
        server.flush()
        group = Replicas(app, server, config)
        async with group as sites:
            world = World(row, stage, random, sites)
            world.group = group
            yield world
    else:
        site = Site(app, config)
        await site.service.startup()
        world = World(row, stage, random, [site])
        world.forgetful = way == "forgetful"
        yield world
        await site.service.shutdown()
