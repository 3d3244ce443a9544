"""Soft state lost at any moment: right bytes, or an error that says what happened; unsafe requests
at most once."""

from __future__ import annotations

import asyncio
import hashlib
from random import Random

import pytest

from tests.http.apps import Effects, counting, get, hello, read_body, stream
from tests.http.peer import Peer, RefusedByServer, Site, body_of
from trickles_web.http.responses import Held, Need, Pending, Refuse
from trickles_web.http.scope import ASGIApp, Receive, Scope, Send
from trickles_web.transport.wire import Code, Kind

POST = get("/", "Content-Length: 3", method="POST") + b"abc"


async def mixed(scope: Scope, receive: Receive, send: Send) -> None:
    """A page of a size given in the path, at once or in pieces."""
    body = await read_body(receive)
    size = int(scope["path"][1:])
    data = hashlib.shake_128(scope["raw_path"] + body).digest(size)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["query_string"] == b"slow":
        for i in range(0, size, 1000):
            piece = {"type": "http.response.body", "body": data[i : i + 1000], "more_body": True}
            await send(piece)
            await asyncio.sleep(0)
        data = b""
    await send({"type": "http.response.body", "body": data})


@pytest.mark.parametrize("seed", range(60))
def test_wiped_at_random(seed: int) -> None:
    """Two replicas, a random one for each datagram, random wipes: about one in each exchange."""
    random = Random(seed)

    async def main() -> tuple[int, int]:
        sites = [Site(mixed, seed=seed * 2 + i) for i in range(2)]
        right = refused = 0

        def disturb() -> None:
            if random.random() < 0.3:
                random.choice(sites).wipe()
            for site in sites:
                site.clock.ms += 400

        for incarnation in range(8):
            peer = Peer(
                lambda: random.choice(sites),
                incarnation,
                piece=lambda: random.choice((1, 100, 1500, 70_000)),
            )
            for _ in range(4):
                size = random.choice((0, 5, 3000, 5000))
                path = f"/{size}" + random.choice(("", "?slow"))
                request = get(path)
                cuts = None
                if random.random() < 0.3:
                    middle = random.randrange(1, len(request))
                    cuts = [(0, middle), (middle, len(request))]
                expected = hashlib.shake_128(f"/{size}".encode()).digest(size)
                try:
                    answer = await peer.exchange(request, cuts=cuts, between=disturb)
                except RefusedByServer as error:
                    # Some byte was handed on, and the bytes could not be made again.
                    assert error.code is Code.GONE
                    assert peer.handed_on
                    refused += 1
                    break
                assert body_of(answer) == expected
                right += 1
        for site in sites:
            await site.service.shutdown()
        return right, refused

    right, _ = asyncio.run(main())
    assert right > 0


def lost_after_first_bytes(
    app: ASGIApp, request: bytes, *, hand_on: bool, later_ms: int = 5000
) -> tuple[Peer, bytes | Code]:
    """An exchange whose soft state is lost after the first answer."""

    async def main() -> tuple[Peer, bytes | Code]:
        site = Site(app)
        peer = Peer(lambda: site, piece=lambda: 40)
        wiped = False

        def between() -> None:
            nonlocal wiped
            if peer.got and not wiped:
                wiped = True
                site.wipe()
                site.clock.ms += later_ms

        result: bytes | Code
        try:
            result = await peer.exchange(request, hand_on=hand_on, between=between)
        except RefusedByServer as error:
            result = error.code
        await site.service.shutdown()
        return peer, result

    return asyncio.run(main())


def test_a_small_response_is_made_again_with_its_date() -> None:
    _, answer = lost_after_first_bytes(hello, get(), hand_on=True)
    assert isinstance(answer, bytes)
    assert b"date: Tue, 14 Nov 2023 22:13:20 GMT" in answer
    assert answer.endswith(b"hello")


def test_a_stream_is_made_again_only_if_nothing_was_handed_on() -> None:
    _, answer = lost_after_first_bytes(counting, get("/?50=100"), hand_on=False)
    assert isinstance(answer, bytes)
    assert body_of(answer) == stream(50, 100)
    _, answer = lost_after_first_bytes(counting, get("/?50=100"), hand_on=True)
    assert answer is Code.GONE


@pytest.mark.parametrize("hand_on", [True, False])
def test_a_page_that_differs_each_time(hand_on: bool) -> None:
    count = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal count
        count += 1
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"page %d" % count * 100})

    _, answer = lost_after_first_bytes(app, get(), hand_on=hand_on)
    if hand_on:
        assert answer is Code.GONE
    else:
        assert isinstance(answer, bytes)
        assert body_of(answer) == b"page 2" * 100


def test_runs_again_three_times_at_most() -> None:
    calls = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal calls
        calls += 1
        await counting(scope, receive, send)

    async def main() -> None:
        site = Site(app)
        peer = Peer(lambda: site, piece=lambda: 10)
        seen = b""

        def wipe_after_an_answer() -> None:
            nonlocal seen
            if peer.progress != seen:
                seen = peer.progress
                site.wipe()

        with pytest.raises(RefusedByServer) as refused:
            await peer.exchange(get("/?50=100"), hand_on=False, between=wipe_after_an_answer)
        assert refused.value.code is Code.GONE
        await site.service.shutdown()

    asyncio.run(main())
    assert calls == 4


def test_need_names_what_is_missing() -> None:
    async def main() -> None:
        site = Site(hello)
        peer = Peer(lambda: site)
        request = get()
        peer.begin(request)
        answer = await site.ask(peer.redeemed(data=request))
        assert not isinstance(answer, Held | Need | Refuse | Pending)
        peer.progress = answer.progress
        site.wipe()
        assert await site.ask(peer.redeemed(offset=len(request))) == Need([(0, len(request))])
        part = peer.redeemed(Kind.UPLOAD, 5, request[5:9])
        assert await site.ask(part) == Held(0, peer.progress)
        redeemed = peer.redeemed(offset=len(request))
        assert await site.ask(redeemed) == Need([(0, 5), (9, len(request))])
        wrong = b"HEAD" + request[4:]
        assert await site.ask(peer.redeemed(data=wrong)) == Refuse(Code.CONFLICT)
        await site.service.shutdown()

    asyncio.run(main())


# Unsafe requests


def test_a_lost_ledger_never_runs_it_again() -> None:
    effects = Effects()
    _, answer = lost_after_first_bytes(effects, POST, hand_on=False)
    assert answer is Code.NOT_MINE
    assert effects.executed == [b"abc"]


@pytest.mark.parametrize("hand_on", [True, False])
def test_an_evicted_response_is_an_unknown_outcome(hand_on: bool) -> None:
    effects = Effects()

    async def main() -> bytes | Code:
        site = Site(effects)
        peer = Peer(lambda: site, piece=lambda: 60)
        peer.begin(POST)
        first = peer.redeemed(data=POST, whole=True)
        answer = await site.ask(first)
        assert not isinstance(answer, Held | Need | Refuse | Pending)
        peer.take(site, answer)
        peer.read = hand_on * len(peer.got)
        await asyncio.sleep(0)
        for _ in range(9):
            await asyncio.sleep(0)
        site.store.drop((7, 0))
        site.clock.ms += 3000
        answers = [await site.ask(peer.redeemed(offset=len(POST))) for _ in range(2)]
        if not hand_on:
            assert not isinstance(answers[0], Held | Need | Refuse | Pending)
            peer.got = b""
            peer.take(site, answers[0])
            peer.read = len(peer.got)
        site.store.drop((7, 0))
        site.clock.ms += 3000
        answers.append(await site.ask(peer.redeemed(offset=len(POST))))
        answers.append(await site.ask(first))
        pages: set[bytes | Code] = set()
        for answer in answers:
            if isinstance(answer, Refuse):
                pages.add(answer.code)
            else:
                assert not isinstance(answer, Held | Need | Pending)
                pages.add(bytes(answer.read(answer.start, answer.available)))
        await site.service.shutdown()
        if hand_on:
            pages.discard(pages.pop() if len(pages) > 1 else b"")
        (page,) = pages
        return page

    page = asyncio.run(main())
    assert effects.executed == [b"abc"]
    if not hand_on:
        assert isinstance(page, bytes)
        assert page.startswith(b"HTTP/1.1 500 ")
        assert b"\r\ntrickles-outcome: unknown\r\n" in page


def test_an_old_continuation_is_refreshed_before_an_unsafe_request() -> None:
    effects = Effects()

    async def main() -> None:
        site = Site(effects)
        peer = Peer(lambda: site)
        for cut in (0, 20):
            peer.begin(POST)
            base = peer.request_start
            if cut:
                await peer.upload([(base, base + cut)])
            old = peer.redeemed(offset=base + cut, data=POST[cut:], whole=True, fresh=False)
            held = await site.ask(old)
            assert isinstance(held, Held)
            assert effects.executed == [b"abc"] * (peer.request_start > 0)
            peer.progress = held.progress
            answer = await site.ask(peer.redeemed(offset=base + cut, data=POST[cut:]))
            assert not isinstance(answer, Held | Need | Refuse | Pending)
            peer.take(site, answer)
            while peer.end != peer.start + len(peer.got):
                answer = await site.ask(peer.redeemed(offset=len(peer.stream)))
                assert not isinstance(answer, Held | Need | Refuse | Pending)
                peer.take(site, answer)
        await site.service.shutdown()

    asyncio.run(main())
    assert effects.executed == [b"abc", b"abc"]


def test_an_upload_begun_at_another_store_does_not_run_here() -> None:
    """Its acknowledgement would otherwise lead to a second execution."""
    effects = Effects()

    async def main() -> None:
        site = Site(effects)
        peer = Peer(lambda: site)
        peer.begin(POST)
        await peer.upload([(0, 20)])
        site.wipe()
        await peer.upload([(0, 20), (20, len(POST))])
        peer.store = site.store.id
        assert await site.ask(peer.redeemed(offset=len(POST))) == Refuse(Code.NOT_MINE)
        await site.service.shutdown()

    asyncio.run(main())
    assert effects.executed == []


@pytest.mark.parametrize("seed", range(40))
def test_unsafe_requests_run_at_most_once(seed: int) -> None:
    random = Random(seed)
    bodies: list[bytes] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        bodies.append(await read_body(receive))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(random.randrange(4)):
            await send({"type": "http.response.body", "body": b"x" * 50, "more_body": True})
            await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b"done"})

    async def main() -> None:
        sites = [Site(app, seed=seed * 2 + i) for i in range(2)]

        for number in range(12):

            def disturb(number: int = number) -> None:
                if random.random() < 0.2:
                    random.choice(sites).wipe()
                if random.random() < 0.2:
                    random.choice(sites).store.drop((number, 0))

            body = b"%04d" % number
            request = get("/", "Content-Length: 4", method="POST") + body
            peer = Peer(lambda: random.choice(sites), number, patience=10)
            peer.store = random.choice(sites).store.id
            peer.piece = lambda: random.choice((1, 60, 5000))
            middle = random.randrange(1, len(request))
            cuts = None if random.random() < 0.5 else [(0, middle), (middle, len(request))]
            try:
                answer = await peer.exchange(request, cuts=cuts, between=disturb)
                assert b"done" in answer or b"trickles-outcome: unknown" in answer
            except RefusedByServer as error:
                assert error.code in (Code.NOT_MINE, Code.UNKNOWN, Code.GONE)
        for site in sites:
            await site.service.shutdown()

    asyncio.run(main())
    assert len(bodies) == len(set(bodies))
    assert bodies
