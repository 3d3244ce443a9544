"""Several processes with one store, a run directory or Redis: one owner for each exchange, answers
from any, and what outlives whom."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from tests.http.apps import Effects, get, read_body
from tests.http.peer import QUIET, Clock, Peer, RefusedByServer, Site, body_of, limits
from tests.state.redis_server import RedisServer
from trickles_web.config import HttpConfig
from trickles_web.http.finding import MOST_HOPS
from trickles_web.http.progress import Progress, encode
from trickles_web.http.responses import Finished, Forward, Held
from trickles_web.http.runner import KeptResponse
from trickles_web.http.scope import ASGIApp, Receive, Scope, Send
from trickles_web.state import DirectoryStore, MemoryStore
from trickles_web.state.backing import MEMORY_BYTES
from trickles_web.state.redis import RedisStore
from trickles_web.transport.wire import Kind


def post(name: str, body: bytes = b"abc") -> bytes:
    return get(f"/{name}", f"Content-Length: {len(body)}", method="POST") + body


class Group:
    """Processes that share a store. One can die, and another is started in its place."""

    def __init__(
        self,
        app: ASGIApp,
        where: Path | RedisServer,
        count: int = 3,
        config: HttpConfig = QUIET,
    ) -> None:
        self.app = app
        self.config = config
        self.where = where
        self.clock = Clock()
        self.others: dict[int, Site] = {}
        self.started = 0
        self.count = count
        self.sites: list[Site] = []

    async def __aenter__(self) -> list[Site]:
        for _ in range(self.count):
            self.sites.append(await self._start())
        await self._acquaint()
        return self.sites

    async def __aexit__(self, *_: object) -> None:
        for site in self.sites:
            await site.service.shutdown()
            if isinstance(site.store, RedisStore):
                await site.store.close()
            elif isinstance(site.store, DirectoryStore):
                site.store.close()

    def _open(self, site: Site) -> MemoryStore[KeptResponse]:
        random = site.random.randbytes(8)
        if isinstance(self.where, Path):
            return DirectoryStore(self.where, random, limits(site))
        return RedisStore(self.where.url, "test", random, limits(site), clock=self.clock)

    async def _start(self) -> Site:
        self.started += 1
        site = Site(
            self.app,
            self.config,
            seed=self.started,
            clock=self.clock,
            open=self._open,
            others=self.others,
        )
        if isinstance(site.store, RedisStore):
            site.store.found = site.on_ready
            site.store.peer = "192.0.2.1 8001"
            await site.store.start()
        return site

    async def _acquaint(self) -> None:
        for site in self.sites:
            if isinstance(site.store, RedisStore):
                await site.store._renew_once()

    async def kill(self, site: Site) -> None:
        """As SIGKILL, and until that is known: its lock is released, or its lease has run out; its
        calls go no further, nobody cleans up.
        """
        for run in list(site.service.runner.calls.runs):
            run.stopping = True
            if run.task is not None:
                run.task.cancel()
        if isinstance(site.store, DirectoryStore):
            site.store._life.forget()
        elif isinstance(site.store, RedisStore):
            await site.store.close()
        del self.others[site.store.owner]
        self.sites[self.sites.index(site)] = await self._start()
        await self._acquaint()

    def sees_an_owner(self, site: Site) -> bool:
        """Of exchange (7, 0); as of some moments ago."""
        seen = site.store.elsewhere((7, 0)) != 0
        self.clock.ms += 600  # answers of Redis hold for a second
        site.store.knows((7, 0), self.clock())
        return seen

    def peer(self, pick: Callable[[], Site] | Site, incarnation: int = 7) -> Peer:
        peer = Peer((lambda: pick) if isinstance(pick, Site) else pick, incarnation)
        peer.store = self.sites[0].store.id
        return peer


class Executions:
    """Each execution takes a while and has an effect; the answer has its number and a token."""

    def __init__(self, size: int = 0) -> None:
        self.count: Counter[str] = Counter()
        self.size = size
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await read_body(receive)
        self.count[scope["path"]] += 1
        await self.go_on.wait()
        answer = b"%d %b " % (self.count[scope["path"]], body) + os.urandom(8 + self.size)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": answer})


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(5000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it never came")


def test_an_answer_outlives_its_process(where: Path | RedisServer) -> None:
    """A page with a random token, of several bursts, and an unsafe request's answer."""

    async def main() -> None:
        app = Executions(size=40_000)
        group = Group(app, where)
        async with group:
            for number, request in enumerate((get("/page"), post("act"))):
                producer = group.sites[0]
                peer = group.peer(lambda: group.sites[0], number)
                peer.piece = lambda: 1000
                died = False

                async def die(producer: Site = producer, peer: Peer = peer) -> None:
                    nonlocal died
                    if not died and len(peer.got) >= 5000:
                        died = True
                        await group.kill(producer)

                response = await peer.exchange(request, between=die)
                assert died
                assert len(body_of(response)) >= 40_000
            assert app.count == {"/page": 1, "/act": 1}

    asyncio.run(main())


@pytest.mark.parametrize("request_bytes", [get("/slow"), post("slow")])
def test_a_running_call_has_one_owner(where: Path | RedisServer, request_bytes: bytes) -> None:
    async def main() -> None:
        app = Executions()
        app.go_on.clear()
        group = Group(app, where)
        async with group as (a, b, c):
            first = asyncio.create_task(group.peer(a).exchange(request_bytes))
            await until(lambda: group.sees_an_owner(b))
            # The same request, as its client repeats it, elsewhere.
            repeats = [group.peer(site) for site in (b, c)]
            for peer in repeats:
                peer.repeats = True
            second, third = (asyncio.create_task(peer.exchange(request_bytes)) for peer in repeats)
            await asyncio.sleep(0)
            app.go_on.set()
            answers = {await first, await second, await third}
            assert len(answers) == 1
            assert sum(app.count.values()) == 1

    asyncio.run(main())


def test_copies_made_on_the_way_run_once_where_that_is_asked_for(
    where: Path | RedisServer,
) -> None:
    """No copy says that it is one, and each comes to another process."""

    async def main() -> None:
        app = Executions()
        app.go_on.clear()
        group = Group(app, where, config=replace(QUIET, never_rerun=("/slow",)))
        async with group as sites:
            tasks = []
            for site in sites:
                tasks.append(asyncio.create_task(group.peer(site).exchange(get("/slow"))))
                await until(lambda: app.count["/slow"] == 1)
            await asyncio.sleep(0)
            app.go_on.set()
            answers = {await task for task in tasks}
            assert len(answers) == 1
            assert app.count == {"/slow": 1}

    asyncio.run(main())


def test_copies_that_ask_for_their_claim_at_once_get_the_same_answer(
    where: Path | RedisServer,
) -> None:
    """Each was told that nobody has the exchange, before any claim was made."""

    async def main() -> None:
        app = Executions()
        app.go_on.clear()
        group = Group(app, where)
        async with group as sites:
            tasks = [asyncio.create_task(group.peer(s).exchange(post("act"))) for s in sites]
            await until(lambda: app.count["/act"] == 1)
            await asyncio.sleep(0)
            app.go_on.set()
            answers = {await task for task in tasks}
            assert len(answers) == 1
            assert body_of(answers.pop()).startswith(b"1 abc ")
            assert app.count == {"/act": 1}

    asyncio.run(main())


def test_an_unsafe_call_that_died_is_unknown_everywhere(where: Path | RedisServer) -> None:
    async def main() -> None:
        app = Executions()
        app.go_on.clear()
        group = Group(app, where)
        async with group as (a, b, c):
            running = asyncio.create_task(group.peer(a).exchange(post("act")))
            await until(lambda: app.count["/act"] == 1)
            await group.kill(a)
            running.cancel()
            app.go_on.set()
            answers = set()
            for site in (b, c):
                answers.add(await group.peer(site).exchange(post("act")))
            answer = answers.pop()
            assert not answers
            assert answer.startswith(b"HTTP/1.1 500 ")
            assert b"trickles-outcome: unknown\r\n" in answer
            assert app.count == {"/act": 1}

    asyncio.run(main())


def test_a_safe_call_that_died_runs_again(where: Path | RedisServer) -> None:
    async def main() -> None:
        app = Executions()
        app.go_on.clear()
        group = Group(app, where)
        async with group as (a, b, _):
            running = asyncio.create_task(group.peer(a).exchange(get("/page")))
            await until(lambda: group.sees_an_owner(b))
            await group.kill(a)
            running.cancel()
            app.go_on.set()
            answer = await group.peer(b).exchange(get("/page"))
            assert body_of(answer).startswith(b"2 ")

    asyncio.run(main())


def test_a_request_in_pieces_is_gathered_by_one(where: Path | RedisServer) -> None:
    async def main() -> None:
        app = Executions()
        group = Group(app, where)
        async with group as (a, b, c):
            request = post("big", bytes(range(256)) * 40)
            peer = group.peer(a)
            peer.begin(request)
            await peer.upload([(0, 3000)])
            for site, low, high in ((b, 3000, 6000), (c, 6000, 9000)):
                piece = peer.redeemed(Kind.UPLOAD, low, request[low:high])
                answer = site.service.answer(piece, group.clock())
                assert answer == Forward(a.store.owner)
                held = await site.ask(piece)
                assert isinstance(held, Held)
                assert held.held == high

    asyncio.run(main())


def test_of_two_that_gather_the_one_with_less_gives_way(where: Path | RedisServer) -> None:
    """They began at once, or could not hear of each other: else each would answer for ever that
    the other's part is missing.
    """

    async def main() -> None:
        group = Group(Executions(), where)
        async with group as (a, b, _):
            request = post("big", bytes(range(256)) * 40)
            peer = group.peer(a)
            peer.begin(request)

            async def upload(site: Site, low: int, high: int, hops: int = 0) -> Held | Forward:
                piece = peer.redeemed(Kind.UPLOAD, low, request[low:high], hops=hops)
                answer = site.service.answer(piece, group.clock())
                if isinstance(answer, Forward):
                    return answer
                held = await site.ask(piece)
                assert isinstance(held, Held)
                peer.progress = held.progress
                return held

            await upload(b, 0, 3000)
            peer.progress = b""
            await upload(a, 0, 6000, hops=MOST_HOPS)  # nobody to pass it on to is known there
            assert await upload(b, 6000, 7000) == Forward(a.store.owner)
            await upload(b, 3000, 9000, hops=MOST_HOPS)
            assert await upload(a, 6000, 7000) == Forward(b.store.owner)
            left = await upload(b, 9000, len(request))
            assert isinstance(left, Held)
            assert left.complete

    asyncio.run(main())


def test_nothing_goes_round_in_circles(where: Path | RedisServer) -> None:
    """The continuation names one process, the store another, and neither has anything left."""

    async def main() -> None:
        group = Group(Executions(), where)
        async with group as (a, b, c):
            peer = group.peer(c)
            peer.repeats = True
            peer.progress = encode(Progress(owner=a.store.owner))
            b.store.announce((7, 0), group.clock())
            await until(lambda: group.sees_an_owner(a))
            answer = await asyncio.wait_for(peer.exchange(get("/page")), 10)
            assert body_of(answer).startswith(b"1 ")

    asyncio.run(main())


def test_cancelling_reaches_the_owner(where: Path | RedisServer) -> None:
    async def main() -> None:
        app = Executions()
        app.go_on.clear()
        group = Group(app, where)
        async with group as (a, b, _):
            peer = group.peer(a)
            running = asyncio.create_task(peer.exchange(post("act")))
            await until(lambda: app.count["/act"] == 1)
            peer.progress = encode(Progress(owner=a.store.owner))
            datagram = peer.redeemed(Kind.CANCEL)
            assert b.service.cancel(datagram) == Forward(a.store.owner)
            assert a.service.cancel(datagram) is None
            assert all(run.gone for run in a.service.runner.calls.runs)
            running.cancel()
            app.go_on.set()

    asyncio.run(main())


@pytest.mark.parametrize("seed", range(30))
def test_killed_at_random(where: Path | RedisServer, seed: int) -> None:
    """Any datagram at any process, processes die: right answers, or an unknown outcome."""
    random = Random(seed)

    async def main() -> None:
        app = Executions(size=random.choice((0, 3000, 20_000)))
        group = Group(app, where)
        async with group:
            outcomes: Counter[str] = Counter()

            async def disturb() -> None:
                group.clock.ms += 100
                if random.random() < 0.15:
                    await group.kill(random.choice(group.sites))

            for incarnation in range(10):
                peer = group.peer(lambda: random.choice(group.sites), incarnation)
                peer.piece = lambda: random.choice((100, 1500, 70_000))
                for exchange in range(3):
                    name = f"{incarnation}-{exchange}"
                    body = random.randbytes(random.choice((3, 3, 4000)))
                    request = random.choice((post(name, body), get(f"/{name}")))
                    cuts = None
                    if len(request) > 1000:
                        middle = random.randrange(1, len(request))
                        cuts = [(0, middle), (middle, len(request))]
                    try:
                        answer = await peer.exchange(request, cuts=cuts, between=disturb)
                    except RefusedByServer:
                        outcomes["refused"] += 1
                        assert request.startswith(b"GET"), "an unsafe answer is published"
                        break
                    if answer.startswith(b"HTTP/1.1 500"):
                        outcomes["unknown"] += 1
                        assert b"trickles-outcome: unknown" in answer
                        assert app.count[f"/{name}"] <= 1
                        break
                    outcomes["right"] += 1
                    if request.startswith(b"POST"):
                        assert body_of(answer).startswith(b"1 " + body)
                        assert app.count[f"/{name}"] == 1
            assert outcomes["right"] >= 10, outcomes

    asyncio.run(main())


def test_what_one_replica_is_too_busy_for_no_late_copy_runs_at_another(tmp_path: Path) -> None:
    """The client has read that it was not executed, and asks again."""
    effects = Effects()

    async def main() -> None:
        def shared(site: Site) -> DirectoryStore[KeptResponse]:
            return DirectoryStore(tmp_path / "run", site.random.randbytes(8), limits(site))

        others: dict[int, Site] = {}
        full = Site(effects, replace(QUIET, max_running=0), open=shared, seed=1, others=others)
        free = Site(effects, QUIET, open=shared, seed=2, others=others)
        peer = Peer(lambda: full)
        request = get("/", "Content-Length: 3", method="POST") + b"abc"
        peer.begin(request)
        copy = peer.redeemed(data=request, whole=True)
        answer = await full.ask(peer.redeemed(data=request, whole=True))
        assert isinstance(answer, Finished)
        peer.take(full, answer)
        assert peer.got.startswith(b"HTTP/1.1 503 ")
        await free.ask(copy)
        await asyncio.sleep(0.01)
        assert effects.executed == []
        peer.pick = lambda: free
        await peer.exchange(request)
        assert effects.executed == [b"abc"]

    asyncio.run(main())


@pytest.mark.parametrize("first", ["who has no room", "who has room"])
def test_what_a_full_disk_refuses_runs_nowhere_else(where: Path | RedisServer, first: str) -> None:
    """Both gathered the request, as neither could hear of the other; only one disk is full."""
    request = post("big", bytes(3 * MEMORY_BYTES))
    cuts = [(at, min(at + 50_000, len(request))) for at in range(0, len(request), 50_000)]

    async def main() -> None:
        app = Executions()
        config = replace(QUIET, spool_memory_bytes=0)
        group = Group(app, where, config=config)
        async with group as (full, roomy, _):
            full.store.disk.most_bytes = 2 * MEMORY_BYTES
            peers = group.peer(full), group.peer(roomy)
            for peer in peers:
                peer.address = ("127.0.0.1", 4711)  # no network that has only half
                peer.begin(request)
                site = peer.pick()
                for start, stop in cuts:
                    piece = peer.redeemed(Kind.UPLOAD, start, request[start:stop], hops=MOST_HOPS)
                    held = site.service.answer(piece, group.clock())
                    assert isinstance(held, Held), held
                    peer.progress = held.progress

            async def last(peer: Peer) -> bytes:
                site, asked = peer.pick(), peer.redeemed(offset=len(request), whole=True)
                answer = await site.ask(asked)
                assert isinstance(answer, Finished), answer
                peer.take(site, answer)
                return peer.got

            if first == "who has room":
                app.go_on.clear()
                running = asyncio.create_task(last(peers[1]))
                await until(lambda: app.count["/big"] == 1)
                await group.kill(roomy)
                running.cancel()
                answer = await last(peers[0])
                assert answer.startswith(b"HTTP/1.1 500 ")
                assert b"trickles-outcome: unknown\r\n" in answer
                assert app.count["/big"] == 1
            else:
                answer = await last(peers[0])
                assert answer.startswith(b"HTTP/1.1 503 ")
                assert b"trickles-outcome" not in answer
                assert await last(peers[1]) == answer
                assert app.count["/big"] == 0
            for site in (full, roomy):
                site.wipe()  # their files

    asyncio.run(main())
