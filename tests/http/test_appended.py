"""Large responses go to the store as they are produced: what outlives their process, and when."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.http.apps import get, read_body
from tests.http.peer import QUIET, RefusedByServer, Site, body_of
from tests.http.test_shared import Group, post, until
from tests.state.redis_server import RedisServer
from trickles_web.http.checkpoints import EXTENSION
from trickles_web.http.scope import Receive, Scope, Send
from trickles_web.state import DirectoryStore, directory, parts
from trickles_web.state.redis import RedisStore
from trickles_web.transport.wire import Code, Kind

CHUNK = 50_000
CHUNKS = 60


class Page:
    """3 MB that no two calls agree on. Of each, the second half waits for `go_on`."""

    def __init__(self, **more: object) -> None:
        self.made: list[bytes] = []
        self.more = more
        """Keys of every chunk's message."""
        self.at_half_time: Callable[[], None] = lambda: None
        self.go_on = asyncio.Event()
        self.ended = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await read_body(receive)
        number = len(self.made)
        self.made.append(b"")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for n in range(CHUNKS):
            if n == CHUNKS // 2:
                await self.go_on.wait()
                self.at_half_time()
            chunk = os.urandom(CHUNK)
            self.made[number] += chunk
            message = {"type": "http.response.body", "body": chunk, "more_body": True}
            await send(message | self.more)
        await send({"type": "http.response.body", "body": b""})
        self.ended.set()


class Story:
    """A client that has half of the response when something happens to its producer."""

    def __init__(self, app: Page, where: Path | RedisServer) -> None:
        self.app = app
        self.where = where
        self.group = Group(app, where)
        self.files: list[str] = []
        """What the directory has of the response once the application has ended."""

    async def tell(self, request: bytes, end: str) -> bytes:
        """What the client gets: its producer is killed, forgets all, or goes on.

        Raises RefusedByServer.
        """
        async with self.group:
            producer = self.group.sites[0]
            peer = self.group.peer(lambda: self.group.sites[0])
            peer.piece = lambda: 100_000

            async def between() -> None:
                if self.app.go_on.is_set() or len(peer.got) < CHUNK * CHUNKS // 2:
                    return
                self.app.go_on.set()
                await self.app.ended.wait()
                await until(lambda: producer.store.settled((7, 0)))
                if isinstance(self.where, Path):
                    self.files = sorted(path.name for path in self.where.glob("7-0.*"))
                if end == "killed":
                    await self.group.kill(producer)
                elif end == "forgets":
                    producer.wipe()

            return await asyncio.wait_for(peer.exchange(request, between=between), 60)


REQUESTS = pytest.mark.parametrize(
    "request_bytes", [get("/page"), post("act")], ids=["GET", "POST"]
)


@REQUESTS
@pytest.mark.parametrize("end", ["killed", "forgets", "goes on"])
def test_a_large_answer_outlives_its_process(
    where: Path | RedisServer, request_bytes: bytes, end: str
) -> None:
    async def main() -> None:
        app = Page()
        answer = await Story(app, where).tell(request_bytes, end)
        assert [body_of(answer)] == app.made, "made once, and given as it was made"

    asyncio.run(main())


@REQUESTS
def test_beyond_the_bound_it_is_lost_with_its_process(
    where: Path | RedisServer, request_bytes: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (directory, parts):
        monkeypatch.setattr(module, "MOST_APPENDED", CHUNK * CHUNKS)  # less than with the head

    async def main() -> None:
        app = Page()
        story = Story(app, where)
        with pytest.raises(RefusedByServer) as refused:
            await story.tell(request_bytes, "killed")
        unsafe = request_bytes.startswith(b"POST")
        assert refused.value.code is (Code.UNKNOWN if unsafe else Code.GONE)
        assert [name for name in story.files if ".c" not in name and ".o" not in name] == []
        assert len(app.made) == 1

    asyncio.run(main())


@REQUESTS
def test_a_store_that_failed_costs_the_client_nothing(
    where: Path | RedisServer, request_bytes: bytes
) -> None:
    """It is empty, or gone, when the second half is produced."""

    async def main() -> None:
        app = Page()

        def lose() -> None:
            if isinstance(where, Path):
                for path in where.glob("*.b-*"):
                    path.unlink()
            else:
                where.stop()
                where.start()

        app.at_half_time = lose
        answer = await Story(app, where).tell(request_bytes, "goes on")
        assert [body_of(answer)] == app.made

    asyncio.run(main())


def test_what_others_can_go_on_with_is_not_kept(tmp_path: Path) -> None:
    async def main() -> None:
        app = Page(**{EXTENSION: b"state"})
        story = Story(app, tmp_path / "run")
        assert body_of(await story.tell(get(), "goes on")) == app.made[0]
        assert [name for name in story.files if ".r" in name or ".b" in name] == []

    asyncio.run(main())


def test_nothing_is_kept_for_a_client_that_is_gone(tmp_path: Path) -> None:
    where = tmp_path / "run"

    async def main() -> None:
        app = Page()
        group = Group(app, where, count=1)
        async with group as (site,):
            peer = group.peer(site)
            peer.begin(get())
            await site.ask(peer.redeemed(data=get(), whole=True))
            assert len(list(where.glob("*.b-*"))) == 1
            assert site.service.cancel(peer.redeemed(Kind.CANCEL)) is None
            app.go_on.set()
            await app.ended.wait()
            assert list(where.glob("7-0.*")) == []

    asyncio.run(main())


def room_taken(site: Site) -> int:
    """Bytes of parts on their way, or in the directory."""
    store = site.store
    if isinstance(store, RedisStore):
        return store._parts.used
    assert isinstance(store, DirectoryStore)
    return sum(path.stat().st_size for path in store.directory.glob("*.b-*"))


@pytest.mark.parametrize(
    "end", ["checkpoint", "checkpoint, and goes on", "wiped", "silent", "cancelled"]
)
def test_what_will_not_be_published_takes_no_room(where: Path | RedisServer, end: str) -> None:
    """Of a response much is appended; then it turns out that others will not be given it."""
    go_on, ended, last = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        chunk = {"type": "http.response.body", "body": bytes(100_000), "more_body": True}
        await send(chunk)
        await go_on.wait()
        await send(chunk | ({EXTENSION: b"state"} if "checkpoint" in end else {}))
        if "goes on" not in end:
            await send({"type": "http.response.body", "body": b""})
        ended.set()
        await last.wait()

    async def main() -> None:
        group = Group(app, where, count=1)
        async with group as (site,):
            peer = group.peer(site)
            peer.begin(get())
            await site.ask(peer.redeemed(data=get(), whole=True))
            assert room_taken(site) > 100_000
            if end == "wiped":
                site.wipe()
                for path in where.glob("*.b-*") if isinstance(where, Path) else ():
                    path.unlink()  # as the sweep does
            elif end == "silent":
                site.service.runner.sweep(group.clock() + QUIET.client_silence_ms + 1)
                assert room_taken(site) == 0
            elif end == "cancelled":
                site.service.cancel(peer.redeemed(Kind.CANCEL))
            go_on.set()
            await ended.wait()
            await until(lambda: room_taken(site) == 0)
            last.set()

    asyncio.run(main())


def test_a_small_or_whole_answer_is_not_appended(tmp_path: Path) -> None:
    """Neither one that is complete at once, nor one of less than a piece."""
    where = tmp_path / "run"

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        chunks = [bytes(1_000_000)] if scope["path"] == "/whole" else [bytes(10_000)] * 6
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for n, chunk in enumerate(chunks, start=1):
            more = n < len(chunks)
            await send({"type": "http.response.body", "body": chunk, "more_body": more})

    async def main() -> None:
        group = Group(app, where, count=1)
        async with group as (site,):
            for path in ("/whole", "/small"):
                peer = group.peer(site)
                peer.begin(get(path))
                await site.ask(peer.redeemed(data=get(path), whole=True))
                assert [file.suffix for file in where.glob("7-0.*")] == [".r"]
                site.store.drop((7, 0))

    asyncio.run(main())


def test_an_error_page_takes_the_place_of_what_nobody_has(tmp_path: Path) -> None:
    """The application fails when much was appended, and none of it answered."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(CHUNK * 2), "more_body": True})
        raise OSError("after all")

    async def main() -> None:
        group = Group(app, tmp_path / "run")
        async with group as (a, b, _):
            request = post("act")
            first = await group.peer(a).exchange(request)
            assert first.startswith(b"HTTP/1.1 500 ")
            await group.kill(a)
            assert await group.peer(b).exchange(request) == first

    asyncio.run(main())
