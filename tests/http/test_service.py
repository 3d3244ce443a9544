"""The service from datagram to bytes, as long as nothing is lost."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.http.apps import Effects, counting, echo, get, hello, stream
from tests.http.peer import QUIET, Peer, RefusedByServer, Site, body_of
from trickles_web.http.progress import first_contact
from trickles_web.http.responses import Finished, Held, Need, Pending, Refuse
from trickles_web.http.runner import SMALLEST_BUFFER
from trickles_web.http.scope import ASGIApp, Receive, Scope, Send
from trickles_web.transport.origin import pack_origin
from trickles_web.transport.wire import Code, Kind


def run(app: ASGIApp, story: Callable[[Site, Peer], Awaitable[None]], **options: Any) -> None:
    async def main() -> None:
        site = Site(app, **options)
        await story(site, Peer(lambda: site))
        await site.service.shutdown()

    asyncio.run(main())


def test_get_and_keep_alive() -> None:
    async def story(site: Site, peer: Peer) -> None:
        for _ in range(3):
            answer = await peer.exchange(get())
            assert answer == (
                b"HTTP/1.1 200 OK\r\n"
                b"date: Tue, 14 Nov 2023 22:13:20 GMT\r\n"
                b"server: trickles-web\r\n"
                b"content-length: 5\r\n"
                b"Content-Type: text/plain\r\n"
                b"\r\n"
                b"hello"
            )
            assert not peer.closed
        assert peer.answers == 3
        assert len(peer.progress) < 64
        assert len(site.store) == 1, "the flow has moved on"

    run(hello, story)


def test_head_and_old_version() -> None:
    async def story(site: Site, peer: Peer) -> None:
        answer = await peer.exchange(get(method="HEAD"))
        assert answer.endswith(b"content-length: 5\r\nContent-Type: text/plain\r\n\r\n")
        answer = await peer.exchange(get(version="1.0"))
        assert answer.endswith(b"connection: close\r\n\r\nhello")
        assert peer.closed

    run(hello, story)


@pytest.mark.parametrize("chunks", [1, 3, 200])
def test_streams(chunks: int) -> None:
    async def story(site: Site, peer: Peer) -> None:
        peer.piece = lambda: 30_000
        answer = await peer.exchange(get(f"/?{chunks}=8192"))
        assert body_of(answer) == stream(chunks, 8192)

    run(counting, story)


def test_scope_is_that_of_uvicorn() -> None:
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        await hello(scope, receive, send)

    async def story(site: Site, peer: Peer) -> None:
        site.service.runner.lifespan.state["pool"] = "open"
        await peer.exchange(get("/a%20b%C3%A9?x=%20y", "X-Y: z"))

    run(app, story, config=replace(QUIET, root_path="/root"))
    assert seen == [
        {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "server": ("192.0.2.1", 8000),
            "client": ("192.0.2.7", 40_000),
            "scheme": "http",
            "method": "GET",
            "root_path": "/root",
            "path": "/root/a bé",
            "raw_path": b"/root/a%20b%C3%A9",
            "query_string": b"x=%20y",
            "headers": [(b"host", b"test"), (b"x-y", b"z")],
            "state": {"pool": "open"},
            "extensions": {"http.response.pathsend": {}, "trickles.checkpoint": {}},
        }
    ]


BODY = bytes(range(256)) * 600
UPLOAD = get("/", f"Content-Length: {len(BODY)}", method="POST") + BODY


@settings(max_examples=40, deadline=None)
@given(
    cuts=st.lists(st.integers(0, len(UPLOAD)), min_size=1, max_size=12),
    shuffle=st.randoms(use_true_random=False),
)
def test_any_split_over_datagrams(cuts: list[int], shuffle: Any) -> None:
    edges = sorted({0, *cuts, len(UPLOAD)})
    ranges = list(itertools.pairwise(edges))
    ranges += ranges[: len(ranges) // 2]
    shuffle.shuffle(ranges)
    expected: list[bytes] = []

    async def story(site: Site, peer: Peer) -> None:
        expected.append(body_of(await Peer(lambda: site, 1).exchange(UPLOAD)))
        expected.append(body_of(await peer.exchange(UPLOAD, cuts=ranges)))
        assert site.store.spools == 0

    run(echo, story)
    assert expected[0] == expected[1]


def test_bytes_after_the_request_are_left_alone() -> None:
    async def story(site: Site, peer: Peer) -> None:
        peer.begin(get("/1"))
        answer = await site.ask(peer.redeemed(data=get("/1") + get("/2")))
        assert not isinstance(answer, Held | Need | Refuse | Pending)
        assert answer.request_wanted == len(get("/1"))
        peer.take(site, answer)
        # Not before the response is here: the client must not lose its way back to it.
        half = peer.redeemed(offset=len(get("/1")), data=get("/2"), received=10)
        assert (await site.ask(half)) is answer

    run(hello, story)


def test_a_repeat_finds_the_same_run() -> None:
    effects = Effects()

    async def story(site: Site, peer: Peer) -> None:
        request = get("/", "Content-Length: 3", method="POST") + b"abc"
        peer.begin(request)
        redeemed = peer.redeemed(data=request, whole=True)
        first = [site.service.answer(redeemed, site.clock()) for _ in range(3)]
        assert all(isinstance(answer, Pending) for answer in first)
        answer = await site.ask(redeemed)
        assert not isinstance(answer, Held | Need | Refuse | Pending)
        other = request.replace(b"abc", b"abd")
        assert await site.ask(peer.redeemed(data=other, whole=False)) == Refuse(Code.CONFLICT)

    run(effects, story)
    assert effects.executed == [b"abc"]


def test_differing_overlap_and_wrong_digest() -> None:
    async def story(site: Site, peer: Peer) -> None:
        peer.begin(UPLOAD)
        assert isinstance(await site.ask(peer.redeemed(Kind.UPLOAD, 50, UPLOAD[50:99])), Held)
        assert isinstance(await site.ask(peer.redeemed(Kind.UPLOAD, 0, UPLOAD[:60])), Held)
        wrong = bytes(9)
        assert await site.ask(peer.redeemed(Kind.UPLOAD, 70, wrong)) == Refuse(Code.CONFLICT)
        peer = Peer(peer.pick, 8)
        peer.begin(get())
        redeemed = peer.redeemed(data=get(), request_digest=b"12345678")
        assert await site.ask(redeemed) == Refuse(Code.CONFLICT)

    run(echo, story)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (get("/", "A : b"), 400),
        (get("/" + "a" * 17_000), 414),
        (get("/", "Content-Length: 99999999", method="POST"), 413),
        (get("/", "Transfer-Encoding: gzip", method="POST"), 501),
    ],
)
def test_error_pages_end_the_flow(request_: bytes, status: int) -> None:
    async def story(site: Site, peer: Peer) -> None:
        answer = await peer.exchange(request_)
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert b"\r\nconnection: close\r\n" in answer
        assert peer.closed

    run(hello, story)


def test_an_early_error_stops_the_upload() -> None:
    async def story(site: Site, peer: Peer) -> None:
        request = get("/", "Content-Length: 99999999", method="POST")
        peer.begin(request + b"x" * 10_000)
        held = await site.ask(peer.redeemed(Kind.UPLOAD, 0, request + b"x" * 900))
        assert isinstance(held, Held)
        assert held.complete
        answer = await peer.exchange(request, cuts=[(0, len(request))])
        assert answer.startswith(b"HTTP/1.1 413 ")

    run(hello, story)


# Addresses that have proved nothing


def test_strangers_come_back_first() -> None:
    ran = Effects()

    async def story(site: Site, peer: Peer) -> None:
        peer.begin(get())
        stranger = {"validated": False, "may_run": False}
        hello_ = peer.redeemed(Kind.HELLO, data=get(), **stranger)
        assert await site.ask(hello_) == Held(0, b"")
        assert await site.ask(peer.redeemed(Kind.UPLOAD, data=get()[:9], **stranger)) == Held(
            0, b""
        )
        assert (site.store.used, ran.executed) == (0, [])

    run(ran, story)


def test_a_token_runs_safe_and_whole_requests_only() -> None:
    ran = Effects()

    async def story(site: Site, peer: Peer) -> None:
        post = get("/", "Content-Length: 1", method="POST") + b"x"
        for data in (post, get()[:20]):
            peer.begin(data)
            redeemed = peer.redeemed(Kind.HELLO, 0, data, validated=False)
            assert await site.ask(redeemed) == Held(0, b"")
        assert (site.store.used, ran.executed) == (0, [])
        peer = Peer(peer.pick, 9)
        peer.begin(get())
        answer = await site.ask(peer.redeemed(Kind.HELLO, data=get(), validated=False))
        assert not isinstance(answer, Held | Need | Refuse | Pending)

    run(ran, story)
    assert ran.executed == [b""]


def test_open_to_strangers() -> None:
    async def story(site: Site, peer: Peer) -> None:
        peer.begin(get())
        stranger = {"validated": False, "may_run": False}
        answer = await site.ask(peer.redeemed(Kind.HELLO, data=get(), **stranger))
        assert isinstance(answer, Finished)
        peer = Peer(peer.pick, 9)
        post = get("/", method="POST")
        peer.begin(post)
        assert await site.ask(peer.redeemed(Kind.HELLO, data=post, **stranger)) == Held(0, b"")

    run(hello, story, open_to_strangers=True)


# Errors of the application


@pytest.mark.parametrize("where", ["before", "started", "chunk", "nothing", "result", "misuse"])
def test_an_error_before_the_first_answer_is_a_500(
    where: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> object:
        if where == "before":
            raise ValueError("app broke")
        if where == "nothing":
            return None
        if where == "misuse":
            await send({"type": "http.response.body"})
        await send({"type": "http.response.start", "status": 200})
        if where == "chunk":
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
        if where == "result":
            return "a result"
        raise ValueError("app broke")

    async def story(site: Site, peer: Peer) -> None:
        answer = await peer.exchange(get())
        assert answer.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
        assert answer.endswith(b"\r\n\r\nInternal Server Error")
        assert not peer.closed

    run(app, story)
    words = {
        "nothing": "ASGI callable returned without starting response.",
        "result": "ASGI callable should return None, but returned 'a result'.",
        "misuse": "Expected ASGI message 'http.response.start', but got 'http.response.body'.",
    }
    assert words.get(where, "app broke") in caplog.text


def test_an_error_after_the_head_breaks_off(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        for _ in range(5):
            await send({"type": "http.response.body", "body": b"x" * 100, "more_body": True})
            await asyncio.sleep(0)
        raise ValueError("too late")

    async def story(site: Site, peer: Peer) -> None:
        with pytest.raises(RefusedByServer) as refused:
            await peer.exchange(get())
        assert refused.value.code is Code.FAILED
        assert b"x" * 100 in peer.got
        assert peer.end is None

    run(app, story)
    assert "too late" in caplog.text


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([{"body": b"abcdef"}], "Response content longer than Content-Length"),
        ([{"body": b"ab"}], "Response content shorter than Content-Length"),
        ([{"body": b"abc"}, {"body": b""}], "after response already completed"),
        ([{"type": "http.response.trailers"}], "Expected ASGI message 'http.response.body'"),
    ],
)
def test_misuse_raises_in_the_application(messages: list[dict[str, Any]], words: str) -> None:
    raised: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-length", b"3")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        try:
            for message in messages:
                await send({"type": "http.response.body", **message})
        except RuntimeError as error:
            raised.append(str(error))

    async def story(site: Site, peer: Peer) -> None:
        await peer.exchange(get())

    run(app, story)
    assert len(raised) == 1
    assert words in raised[0]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_chunks_may_be_anything_like_bytes(kind: Callable[[bytes], Any]) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-length", b"6")] if scope["path"] == "/counted" else []
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for chunk in (b"abc", b"de"):
            await send({"type": "http.response.body", "body": kind(chunk), "more_body": True})
        await send({"type": "http.response.body", "body": kind(b"f")})

    async def story(site: Site, peer: Peer) -> None:
        for path in ("/", "/counted"):
            assert body_of(await peer.exchange(get(path))) == b"abcdef"

    run(app, story)


# Backpressure, leaving, shutting down


def test_send_waits_for_the_client() -> None:
    most = 0
    config = replace(QUIET, response_buffer_bytes=100_000)

    async def story(site: Site, peer: Peer) -> None:
        def look() -> None:
            nonlocal most
            most = max(most, site.store.used)

        peer.piece = lambda: 50_000
        answer = await peer.exchange(get("/?1000=8192"), between=look)
        assert body_of(answer) == stream(1000, 8192)

    run(counting, story, config=config)
    # The buffer, what is kept behind the client, one trimming step, one chunk.
    assert most < 100_000 + 262_144 + 65_536 + 65_536


def test_a_full_store_makes_runs_wait_not_hang() -> None:
    config = replace(QUIET, store_bytes=200_000)

    async def story(site: Site, peer: Peer) -> None:
        peers = [Peer(peer.pick, i, piece=lambda: 40_000) for i in range(5)]
        tasks = (p.exchange(get("/?100=8192")) for p in peers)
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        for answer in answers:
            if isinstance(answer, bytes):
                assert body_of(answer) == stream(100, 8192)
            else:  # evicted between its last byte's making and its reading
                assert isinstance(answer, RefusedByServer)
                assert answer.code is Code.GONE
        assert any(isinstance(answer, bytes) for answer in answers)

    run(counting, story, config=config)


@pytest.mark.parametrize("how", ["cancel", "silence"])
def test_a_client_that_leaves(how: str) -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        seen.append((await receive())["type"])
        await send({"type": "http.response.body", "body": b"y", "more_body": True})
        seen.append("ran on")

    async def story(site: Site, peer: Peer) -> None:
        peer.begin(get())
        answer = await site.ask(peer.redeemed(data=get()))
        assert seen == []
        assert not isinstance(answer, Held | Need | Refuse | Pending)
        peer.take(site, answer)
        if how == "cancel":
            site.service.cancel(peer.redeemed(Kind.CANCEL))
        else:
            site.clock.ms += 30_000
            site.service.runner.sweep(site.clock())
            assert isinstance(site.service.answer(peer.redeemed(), site.clock()), Pending)
            site.clock.ms += 59_000
            site.service.runner.sweep(site.clock())
            site.clock.ms += 2_000
            site.service.runner.sweep(site.clock())
        for _ in range(5):
            await asyncio.sleep(0)
        assert seen == ["http.disconnect", "ran on"]
        assert len(site.store) == 0

    run(app, story)


def test_disconnect_comes_after_the_response() -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def listen() -> None:
            while True:
                message = await receive()
                seen.append(message["type"])
                if message["type"] == "http.disconnect":
                    return

        listener = asyncio.create_task(listen())
        await asyncio.sleep(0)
        await hello(scope, receive, send)
        seen.append("sent")
        await listener

    async def story(site: Site, peer: Peer) -> None:
        await peer.exchange(get())
        for _ in range(3):
            await asyncio.sleep(0)

    run(app, story)
    assert seen == ["http.request", "sent", "http.disconnect"]


def test_shutdown_cancels_after_the_grace() -> None:
    ended: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append("cancelled")

    async def story(site: Site, peer: Peer) -> None:
        peer.begin(get())
        assert isinstance(site.service.answer(peer.redeemed(data=get()), site.clock()), Pending)
        await asyncio.sleep(0)
        await site.service.shutdown()

    run(app, story)
    assert ended == ["cancelled"]


def test_too_many_runs_are_a_503() -> None:
    async def story(site: Site, peer: Peer) -> None:
        answer = await peer.exchange(get())
        assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")

    run(hello, story, config=replace(QUIET, max_running=0))


def test_one_network_runs_half_of_the_calls_at_most() -> None:
    go_on = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await go_on.wait()
        await hello(scope, receive, send)

    async def story(site: Site, peer: Peer) -> None:
        def begin(incarnation: int, host: str) -> asyncio.Task[bytes]:
            client = Peer(peer.pick, incarnation, (host, 40_000))
            return asyncio.create_task(client.exchange(get()))

        hosts = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "127.0.0.1", "127.0.0.1", "192.0.3.1"]
        tasks = [begin(n, host) for n, host in enumerate(hosts)]
        refused = [tasks[2], tasks[5]]
        done, _ = await asyncio.wait(refused)
        assert all(b" 503 Service Unavailable\r\n" in task.result() for task in done)
        assert not any(task.done() for task in tasks if task not in refused)
        go_on.set()
        for task in tasks:
            assert (body_of(await task) == b"hello") == (task not in refused)
        for n in range(10, 20):
            assert body_of(await begin(n, hosts[0])) == b"hello"

    run(app, story, config=replace(QUIET, max_running=4))


def test_behind_a_gateway_networks_are_those_of_its_clients() -> None:
    async def story(site: Site, peer: Peer) -> None:
        for n, host in enumerate(["192.0.2.1", "192.0.3.1"]):
            client = Peer(peer.pick, n, ("127.0.0.1", 40_000))
            client.progress = first_contact(pack_origin(host, 50_000), site.store.id)
            await client.exchange(get())
        assert site.store._shares._shares.keys() == {"192.0.2", "192.0.3"}

    run(hello, story)


def test_what_clients_send_and_get_is_held_by_their_networks() -> None:
    async def story(site: Site, peer: Peer) -> None:
        def held() -> dict[Any, int]:
            return {prefix: share.used for prefix, share in site.store._shares._shares.items()}

        uploading = Peer(peer.pick, 1, ("192.0.3.1", 40_000))
        uploading.begin(get("/", "Content-Length: 5000", method="POST") + bytes(5000))
        await uploading.upload([(0, 1000)])
        assert held().keys() == {"192.0.3"}
        await peer.exchange(get())
        assert held().keys() == {"192.0.3", "192.0.2"}
        before = held()["192.0.3"]
        await uploading.upload([(1000, 3000)])
        assert held()["192.0.3"] >= before + 2000
        refused = Peer(peer.pick, 2, ("192.0.4.1", 40_000))
        assert b" 400 " in await refused.exchange(b"GET / HTTP/1.1\r\n\r\n")
        assert held().keys() == {"192.0.3", "192.0.2", "192.0.4"}
        assert sum(held().values()) == site.store.used

    run(hello, story)


def test_a_network_whose_responses_take_half_of_the_store_waits_for_its_clients() -> None:
    """Before it is full, and nobody else waits."""
    made: Counter[str] = Counter()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(40):
            made[scope["path"]] += 10_000
            message = {"type": "http.response.body", "body": bytes(10_000), "more_body": True}
            await send(message)
        await send({"type": "http.response.body", "body": b""})

    async def story(site: Site, peer: Peer) -> None:
        for n, host in enumerate(["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.3.1"]):
            client = Peer(peer.pick, n, (host, 40_000))
            request = get(f"/{n}")
            client.begin(request)
            await site.ask(client.redeemed(data=request, whole=True))
        assert made["/0"] == 400_000
        assert 400_000 < made["/0"] + made["/1"] < 620_000
        assert made["/2"] <= SMALLEST_BUFFER + 10_000
        assert made["/3"] == 400_000

    run(app, story, config=replace(QUIET, store_bytes=1_200_000))


def test_a_full_ledger_lets_its_client_ask_again() -> None:
    """Without a claim no answer is final: a copy of the request may run when there is room."""
    effects = Effects()

    async def story(site: Site, peer: Peer) -> None:
        site.store.ledger.capacity = 1
        request = get("/", method="POST")
        assert body_of(await peer.exchange(request)) == b"1"
        late = Peer(peer.pick, 8)
        late.begin(request)
        for _ in range(2):
            answer = await site.ask(late.redeemed(data=request, whole=True))
            assert isinstance(answer, Refuse) and answer.code is Code.BUSY
        await asyncio.sleep(0)
        assert len(effects.executed) == 1
        site.store.ledger.capacity = 2
        for _ in range(2):
            answer = await site.ask(late.redeemed(data=request, whole=True))
        assert len(effects.executed) == 2
        await asyncio.sleep(0)
        assert isinstance(answer, Finished)

    run(effects, story)


def test_access_log(caplog: pytest.LogCaptureFixture) -> None:
    async def story(site: Site, peer: Peer) -> None:
        await peer.exchange(get("/a%20b?c=%20"))

    with caplog.at_level(logging.INFO, "trickles.access"):
        run(hello, story, config=replace(QUIET, access_log=True))
    assert caplog.messages == ['192.0.2.7:40000 - "GET /a%20b?c=%20 HTTP/1.1" 200']
    assert caplog.records[0].args == ("192.0.2.7:40000", "GET", "/a%20b?c=%20", "1.1", 200)


def test_memory_of_finished_responses_is_bounded() -> None:
    async def story(site: Site, peer: Peer) -> None:
        for incarnation in range(500):
            await Peer(peer.pick, incarnation).exchange(get())
        assert len(site.store) == 50
        assert site.store.used < 50 * 1000
        site.clock.ms += 70_000
        for incarnation in range(500, 530):
            await Peer(peer.pick, incarnation).exchange(get())
        assert len(site.store) == 30

    run(hello, story, config=replace(QUIET, store_responses=50))
