"""Paths where no method counts as safe: claimed before they run, never from HELLO, at most once."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from random import Random

import pytest

from tests.http.apps import Effects, get, hello
from tests.http.peer import QUIET, Peer, RefusedByServer, Site, body_of
from trickles_web.errors import UsageError
from trickles_web.http.progress import decode
from trickles_web.http.reader import read_whole
from trickles_web.http.request import Request, check_globs
from trickles_web.http.responses import Held
from trickles_web.http.scope import Receive, Scope, Send
from trickles_web.transport.wire import Code, Kind

ONCE = replace(QUIET, never_rerun=("/once/*", "/[ab]?"))


@pytest.mark.parametrize(
    ("target", "safe"),
    [
        ("/once/1", False),
        ("/once/", False),
        ("/once/1/2", False),
        ("/once/1?x=y", False),
        ("/%6Fnce/%31", False),
        ("http://test/once/1", False),
        ("/a1", False),
        ("/b%C3%A4", False),
        ("/b%ff", False),
        ("/once", True),
        ("/Once/1", True),
        ("/?/once/1", True),
        ("/once%3F/1", True),
        ("/x/once/1", True),
        ("/c1", True),
        ("/a", True),
        ("/a12", True),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("parser", ["h11", "httptools"])
def test_the_decoded_path_is_matched_without_the_query(
    parser: str, method: str, target: str, safe: bool
) -> None:
    request = read_whole(replace(ONCE, http=parser), get(target, method=method)).outcome
    assert isinstance(request, Request)
    assert request.safe == safe
    assert read_whole(QUIET, get(target, method=method)).outcome.safe  # type: ignore[union-attr]


def test_a_star_matches_all() -> None:
    config = replace(QUIET, never_rerun=("*",))
    for data in (get(), get("*", method="OPTIONS"), get("/a/b"), get("/", method="POST")):
        request = read_whole(config, data).outcome
        assert isinstance(request, Request)
        assert not request.safe


def test_globs_that_match_nothing_are_errors() -> None:
    check_globs(["/", "/*", "*", "*.php", "?x", "[/]x"])
    for glob in ("", "admin/*", "http://test/*", " /"):
        with pytest.raises(UsageError, match="--never-rerun: no path matches"):
            check_globs([glob])


def test_it_needs_a_fresh_continuation() -> None:
    effects = Effects()

    async def main() -> None:
        site = Site(effects, ONCE)
        for path, runs in (("/once/1", 0), ("/often", 1)):
            peer = Peer(lambda: site, runs)
            peer.begin(get(path))
            answer = await site.ask(peer.redeemed(Kind.HELLO, 0, get(path)))
            assert isinstance(answer, Held) == (not runs)
            assert len(effects.executed) == runs
        peer = Peer(lambda: site, 2)
        peer.begin(get("/once/1"))
        old = peer.redeemed(data=get("/once/1"), fresh=False)
        assert isinstance(await site.ask(old), Held)
        assert len(effects.executed) == 1
        assert len(site.store.ledger) == 0
        peer = Peer(lambda: site, 3)
        await peer.exchange(get("/once/1"))
        assert len(effects.executed) == 2
        assert len(site.store.ledger) == 1
        assert decode(peer.progress).unsafe
        await site.service.shutdown()

    asyncio.run(main())


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_an_outcome_that_is_lost_is_unknown(method: str) -> None:
    effects = Effects(pauses=0)

    async def main() -> None:
        site = Site(effects, ONCE)
        request = get("/once/1", method=method)
        await Peer(lambda: site).exchange(request)
        site.store.drop((7, 0))
        page = await Peer(lambda: site).exchange(request)
        assert page.startswith(b"HTTP/1.1 500 ")
        assert b"\r\ntrickles-outcome: unknown\r\n" in page
        assert (body_of(page) == b"") == (method == "HEAD")

    asyncio.run(main())
    assert effects.executed == [b""]


def test_a_lost_ledger_never_runs_it_again() -> None:
    effects = Effects()

    async def main() -> None:
        site = Site(effects, ONCE)
        peer = Peer(lambda: site, piece=lambda: 40)
        with pytest.raises(RefusedByServer) as refused:
            await peer.exchange(get("/once/1"), hand_on=False, between=site.wipe)
        assert refused.value.code is Code.NOT_MINE
        await site.service.shutdown()

    asyncio.run(main())
    assert effects.executed == [b""]


@pytest.mark.parametrize("seed", range(20))
def test_at_most_once_whatever_is_lost(seed: int) -> None:
    random = Random(seed)
    count: Counter[str] = Counter()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        count[scope["path"]] += 1
        await hello(scope, receive, send)

    async def main() -> None:
        sites = [Site(app, ONCE, seed=seed * 2 + i) for i in range(2)]
        for number in range(12):

            def disturb(number: int = number) -> None:
                if random.random() < 0.2:
                    random.choice(sites).wipe()
                if random.random() < 0.2:
                    random.choice(sites).store.drop((number, 0))

            peer = Peer(lambda: random.choice(sites), number, patience=10)
            peer.store = random.choice(sites).store.id
            peer.piece = lambda: random.choice((1, 60, 5000))
            try:
                answer = await peer.exchange(get(f"/once/{number}"), between=disturb)
                assert body_of(answer) == b"hello" or b"trickles-outcome: unknown" in answer
            except RefusedByServer as error:
                assert error.code in (Code.NOT_MINE, Code.UNKNOWN, Code.GONE)
        for site in sites:
            await site.service.shutdown()

    asyncio.run(main())
    assert set(count.values()) == {1}
