"""Request bodies of more than a request may have in memory."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from tests.http.apps import echo, get, hello, read_body
from tests.http.peer import QUIET, Peer, RefusedByServer, Site, body_of
from trickles_web.http.responses import Held
from trickles_web.http.scope import ASGIApp, Receive, Scope, Send
from trickles_web.state.backing import MEMORY_BYTES
from trickles_web.transport.wire import Code, Kind

PIECE = 50_000
BODY = Random(1).randbytes(3 * MEMORY_BYTES)
ANSWER = f"{len(BODY)} {hashlib.sha256(BODY).hexdigest()}".encode()
ON_DISK = replace(QUIET, spool_memory_bytes=0)
SMALL_DISK = replace(ON_DISK, spool_disk_bytes=2 * MEMORY_BYTES)


def with_length(method: str) -> bytes:
    return get("/", f"Content-Length: {len(BODY)}", method=method) + BODY


def in_chunks(method: str) -> bytes:
    parts = (BODY[at : at + 70_001] for at in range(0, len(BODY), 70_001))
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    return get("/", "Transfer-Encoding: chunked", method=method) + chunks + b"0\r\n\r\n"


framings = pytest.mark.parametrize("framing", [with_length, in_chunks])


def cuts_of(request: bytes) -> list[tuple[int, int]]:
    return [(at, min(at + PIECE, len(request))) for at in range(0, len(request), PIECE)]


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def run(app: ASGIApp, story: Callable[[Site, Peer], Awaitable[None]], **options: Any) -> None:
    """Nothing may be left on disk, nor a file open, when all is over."""

    async def main() -> None:
        site = Site(app, **{"config": ON_DISK, **options})
        before = descriptors()
        await story(site, Peer(lambda: site))
        await site.service.shutdown()
        site.wipe()
        assert (site.store.disk.used, site.store.disk.lent) == (0, 0)
        assert site.store.used == 0
        assert descriptors() == before

    asyncio.run(main())


@framings
@pytest.mark.parametrize("order", ["forwards", "backwards", "shuffled"])
@pytest.mark.parametrize("lent", [0, MEMORY_BYTES, 1 << 30])
def test_arrives_whole(framing: Callable[[str], bytes], order: str, lent: int) -> None:
    request = framing("POST")
    cuts = cuts_of(request)
    if order == "shuffled":
        Random(2).shuffle(cuts)

    async def story(site: Site, peer: Peer) -> None:
        for _ in range(2):
            answer = await peer.exchange(request, cuts=cuts[:: -1 if order == "backwards" else 1])
            assert body_of(answer) == b"POST " + ANSWER
            assert (site.store.disk.used, site.store.disk.lent) == (0, 0)

    run(echo, story, config=replace(QUIET, spool_memory_bytes=lent))


@framings
def test_is_not_in_memory(framing: Callable[[str], bytes]) -> None:
    request = framing("POST")

    async def story(site: Site, peer: Peer) -> None:
        peer.begin(request)
        await peer.upload(cuts_of(request)[:-1])
        assert site.store.disk.used > 2 * MEMORY_BYTES
        assert site.store.used < 10_000

    run(hello, story)


def test_is_in_memory_while_there_is_room() -> None:
    async def story(site: Site, peer: Peer) -> None:
        other = Peer(lambda: site, incarnation=8)
        request = with_length("POST")
        for each in (peer, other):
            each.begin(request)
            await each.upload(cuts_of(request)[:-1])
        assert len(request) < site.store.disk.used + PIECE < 2 * len(request), "the second one"
        assert 2 * MEMORY_BYTES - PIECE < site.store.disk.lent < 2 * MEMORY_BYTES
        assert 0 < site.store.used - site.store.disk.lent - MEMORY_BYTES < 10_000, "accounted for"

    run(hello, story, config=replace(QUIET, spool_memory_bytes=2 * MEMORY_BYTES))


@framings
def test_wiped_while_it_arrives_and_while_it_is_answered(
    framing: Callable[[str], bytes],
) -> None:
    request, wipes = framing("GET"), iter(range(2))

    async def story(site: Site, peer: Peer) -> None:
        def between() -> None:
            if next(wipes, None) is not None:
                site.wipe()

        answer = await peer.exchange(request, cuts=cuts_of(request), between=between)
        assert body_of(answer) == b"GET " + ANSWER

    run(echo, story)


@framings
@pytest.mark.parametrize("read", ["nothing", "some", "all and goes on", "fails", "cancelled"])
def test_whoever_reads_it_it_goes(framing: Callable[[str], bytes], read: str) -> None:
    sites: list[Site] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if read == "cancelled":
            await asyncio.Event().wait()
        if read == "all and goes on":
            await read_body(receive)
            assert sites[0].store.disk.used == 0
        elif read != "nothing":
            assert len((await receive())["body"]) == 65_536
        assert read != "fails"
        await hello(scope, receive, send)

    request = framing("POST")

    async def story(site: Site, peer: Peer) -> None:
        sites.append(site)
        if read == "cancelled":
            peer.begin(request)
            await peer.upload(cuts_of(request))
            waiting = asyncio.ensure_future(site.ask(peer.redeemed(offset=len(request))))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            assert site.store.disk.used > 0
            return
        answer = await peer.exchange(request, cuts=cuts_of(request))
        assert answer.startswith(b"HTTP/1.1 500 " if read == "fails" else b"HTTP/1.1 200 ")
        assert site.store.disk.used == 0

    run(app, story)


@framings
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_full_disk_is_a_503(
    framing: Callable[[str], bytes], method: str, caplog: pytest.LogCaptureFixture
) -> None:
    request = framing(method)

    async def story(site: Site, peer: Peer) -> None:
        peer.address = ("127.0.0.1", 4711)  # others may have half of it
        peer.begin(request)
        said = []
        for start, stop in cuts_of(request):
            held = await site.ask(peer.redeemed(Kind.UPLOAD, start, request[start:stop]))
            assert isinstance(held, Held)
            peer.progress = held.progress
            said.append(held.complete)
        assert said == sorted(said)
        assert said[-1], "no more of it, please"
        answer = await site.ask(peer.redeemed(offset=len(request), whole=True))
        peer.take(site, answer)  # type: ignore[arg-type]
        assert peer.got.startswith(b"HTTP/1.1 503 ")
        assert peer.closed
        assert site.store.disk.used == 0
        other = Peer(lambda: site, incarnation=8)
        answer_ = await other.exchange(get())
        assert answer_.startswith(b"HTTP/1.1 200 ")

    run(echo, story, config=SMALL_DISK)
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING] == [
        f"HTTP request refused: more than {2 * MEMORY_BYTES} bytes of requests on disk."
    ]


@framings
def test_no_room_to_run_it_again(framing: Callable[[str], bytes]) -> None:
    request = framing("GET")

    async def story(site: Site, peer: Peer) -> None:
        def between() -> None:
            if peer.got and not site.store.disk.most_bytes < len(request):
                site.wipe()
                site.store.disk.most_bytes = MEMORY_BYTES

        peer.piece = lambda: 10
        with pytest.raises(RefusedByServer) as refused:
            await peer.exchange(request, cuts=cuts_of(request), between=between)
        assert refused.value.code is Code.BUSY
        assert site.store.disk.used == 0

    run(echo, story)
