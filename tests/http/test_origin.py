"""Who asks when a gateway speaks: the application is told by every process, for every exchange."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.http.apps import counting, get, hello, read_body
from tests.http.peer import ADDRESS, QUIET, Peer, Site
from trickles_web.config import HttpConfig
from trickles_web.http.progress import decode, encode, first_contact
from trickles_web.http.responses import Held
from trickles_web.http.scope import ASGIApp, Receive, Scope, Send
from trickles_web.transport.origin import pack_origin
from trickles_web.transport.wire import Kind

CLIENT = ("198.51.100.4", 51_000)
ORIGIN = pack_origin(*CLIENT)
TRUSTING = replace(QUIET, forwarded_allow_ips=ADDRESS[0])
FORWARDED = ("X-Forwarded-For: 203.0.113.5", "X-Forwarded-Proto: https")


class Seen:
    """Remembers who asked; then answers as `app` does."""

    def __init__(self, app: ASGIApp = hello) -> None:
        self.clients: list[tuple[Any, str]] = []
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.clients.append((scope["client"], scope["scheme"]))
        await self.app(scope, receive, send)


def through_a_gateway(site: Site, origin: bytes = ORIGIN, **options: Any) -> Peer:
    """A flow that has just got its first continuation."""
    return Peer(lambda: site, progress=first_contact(origin, site.store.id), **options)


def run(
    app: ASGIApp, story: Callable[[Site, Peer], Awaitable[None]], config: HttpConfig = TRUSTING
) -> None:
    async def main() -> None:
        site = Site(app, config)
        await story(site, through_a_gateway(site))
        await site.service.shutdown()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("trusted", "extra", "expected"),
    [
        ("", (), (ADDRESS, "http")),
        ("127.0.0.1", FORWARDED, (ADDRESS, "http")),
        ("198.51.100.4", FORWARDED, (ADDRESS, "http")),
        ("192.0.2.7", (), (CLIENT, "http")),
        ("192.0.2.7", FORWARDED, (CLIENT, "http")),
        ("192.0.2.7,198.51.100.0/24", FORWARDED, (("203.0.113.5", 0), "https")),
        ("*", FORWARDED, (("203.0.113.5", 0), "https")),
    ],
)
def test_the_gateway_is_judged_and_then_its_client(
    trusted: str, extra: tuple[str, ...], expected: Any
) -> None:
    seen = Seen()

    async def story(site: Site, peer: Peer) -> None:
        await peer.exchange(get("/", *extra))

    run(seen, story, replace(QUIET, forwarded_allow_ips=trusted))
    assert seen.clients == [expected]


def test_without_proxy_headers_it_counts_all_the_same() -> None:
    seen = Seen()

    async def story(site: Site, peer: Peer) -> None:
        await peer.exchange(get("/", *FORWARDED))

    run(seen, story, replace(TRUSTING, proxy_headers=False))
    assert seen.clients == [(CLIENT, "http")]


def test_an_ipv6_client() -> None:
    seen = Seen()

    async def main() -> None:
        site = Site(seen, TRUSTING)
        origin = pack_origin("2001:db8::5", 443)
        peer = through_a_gateway(site, origin)
        await peer.exchange(get())
        direct = Peer(lambda: site, 8)
        await direct.exchange(get())
        assert len(peer.progress) == len(direct.progress) + 1 + len(origin) == 46 + 12 + 19

    asyncio.run(main())
    assert seen.clients == [(("2001:db8::5", 443), "http"), (ADDRESS, "http")]


def test_it_goes_on_from_exchange_to_exchange(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(5000))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/page":
            await hello(scope, receive, send)
        elif scope["path"] == "/stream":
            await counting(scope, receive, send)
        elif scope["path"] == "/file":
            headers = [(b"content-length", b"5000")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.pathsend", "path": str(tmp_path / "file")})
        else:
            await read_body(receive)
            raise RuntimeError("an error page")

    seen = Seen(app)
    post = get("/act", "Content-Length: 3", method="POST") + b"abc"
    requests = [get("/page"), get("/file"), get("/stream?3=100"), post, get("/page")]

    async def story(site: Site, peer: Peer) -> None:
        peer.piece = lambda: 700
        for request in requests:
            await peer.exchange(request, cuts=[(0, 10), (10, len(request))])
            assert decode(peer.progress).origin == ORIGIN
        assert not peer.closed

    run(seen, story)
    assert seen.clients == [(CLIENT, "http")] * len(requests)


def test_every_replica_and_every_rerun_is_told() -> None:
    seen = Seen(counting)

    async def main() -> None:
        sites = [Site(seen, TRUSTING, seed=seed) for seed in range(3)]
        turn = 0

        def pick() -> Site:
            nonlocal turn
            turn += 1
            return sites[turn % 3]

        lost: set[int] = set()

        def lose_what_is_partly_here() -> None:
            if peer.got and peer.start not in lost:
                lost.add(peer.start)
                for site in sites:
                    site.wipe()

        peer = through_a_gateway(sites[0], piece=lambda: 150)
        peer.pick = pick
        for _ in range(3):
            between = lose_what_is_partly_here
            await peer.exchange(get("/?3=100"), hand_on=False, between=between)
        assert len(lost) == 3
        for site in sites:
            await site.service.shutdown()

    asyncio.run(main())
    assert len(seen.clients) >= 6
    assert set(seen.clients) == {(CLIENT, "http")}


def test_a_stranger_comes_back_with_it() -> None:
    async def story(site: Site, peer: Peer) -> None:
        peer.begin(get())
        stranger: dict[str, Any] = {"validated": False, "may_run": False, "store": site.store.id}
        answer = await site.ask(peer.redeemed(Kind.HELLO, 0, get(), **stranger))
        assert answer == Held(0, first_contact(ORIGIN, site.store.id))
        # A request that may have been here when its continuation was young: sealed as well.
        stranger |= {"repeated": True, "fresh": False}
        answer = await site.ask(peer.redeemed(Kind.REQUEST, 0, get(), **stranger))
        assert isinstance(answer, Held)
        p = decode(answer.progress)
        assert (p.origin, p.doubtful, p.store) == (ORIGIN, True, site.store.id)

    run(hello, story)


def test_nothing_is_sealed_where_nobody_is_spoken_for() -> None:
    assert first_contact(b"", 7) == b""
    assert len(first_contact(ORIGIN, 7)) == len(encode(decode(b""))) + 7


def test_the_access_log_names_it(caplog: pytest.LogCaptureFixture) -> None:
    async def story(site: Site, peer: Peer) -> None:
        await peer.exchange(get("/a"))

    with caplog.at_level(logging.INFO, "trickles.access"):
        run(hello, story, replace(TRUSTING, access_log=True))
    assert caplog.messages == ['198.51.100.4:51000 - "GET /a HTTP/1.1" 200']
