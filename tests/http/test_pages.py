"""Pages of the server's own, from continuations alone: soft state is lost between every two
datagrams, and another process answers each of them."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from http import HTTPStatus
from typing import Any

import pytest

from tests.http.apps import Effects, get, hello
from tests.http.peer import QUIET, Peer, RefusedByServer, Site, body_of
from trickles_web.config import HttpConfig
from trickles_web.http.names import digest
from trickles_web.http.progress import Progress, called
from trickles_web.http.responses import Finished, Held
from trickles_web.transport.wire import Code, Kind

POST = get("/", "Content-Length: 3", method="POST") + b"abc"
FULL = replace(QUIET, max_running=0)

PAGES: dict[str, tuple[bytes, HttpConfig]] = {
    "400": (b"GET / HTTP/1.1\nHost: test\n\n", QUIET),
    "400 to a POST": (b"POST / HTTP/1.1\nHost: test\n\n", QUIET),
    "413": (get("/", "Content-Length: 99", method="POST"), replace(QUIET, max_body_bytes=9)),
    "414": (get("/" + "a" * 500), replace(QUIET, max_target_bytes=100)),
    "431": (get("/", "A: " + "a" * 500), replace(QUIET, max_head_bytes=300)),
    "505": (get(version="2.0"), QUIET),
    "503": (get(), FULL),
    "503 without a body": (get(method="HEAD"), FULL),
    "503 to a POST": (POST, FULL),
    "503 to the last": (get("/", "Connection: close"), FULL),
    "503 undated": (get(), replace(FULL, date_header=False, server_header=False)),
}


async def page_of(
    request: bytes, config: HttpConfig, *, piece: int, hand_on: bool, loses: bool
) -> tuple[bytes, Peer]:
    """What two processes answer, a piece at a time."""
    sites = [Site(hello, config, seed=seed) for seed in (1, 2)]
    turn = 0

    def pick() -> Site:
        nonlocal turn
        turn += 1
        return sites[turn % 2 if loses else 0]

    def lose() -> None:
        for site in sites:
            site.clock.ms += 1500
            if loses:
                site.wipe()

    peer = Peer(pick, piece=lambda: piece, store=sites[loses].store.id)
    page = await peer.exchange(request, hand_on=hand_on, between=lose)
    assert not any(site.service.runner.calls.runs for site in sites)
    return page, peer


@pytest.mark.parametrize("hand_on", [True, False])
@pytest.mark.parametrize("piece", [1, 60, 1000])
@pytest.mark.parametrize("name", PAGES)
def test_no_byte_changes_and_nothing_runs(name: str, piece: int, hand_on: bool) -> None:
    async def main() -> None:
        request, config = PAGES[name]
        options: Any = {"piece": piece, "hand_on": hand_on}
        expected, _ = await page_of(request, config, loses=False, **options)
        page, peer = await page_of(request, config, loses=True, **options)
        assert page == expected
        assert page.startswith(b"HTTP/1.1 " + name[:3].encode())
        assert peer.answers == -(-len(page) // piece)
        assert len(peer.progress) == 46 + 12 + 2

    asyncio.run(main())


@pytest.mark.parametrize("hand_on", [True, False])
def test_an_unknown_outcome_is_told_to_the_end(hand_on: bool) -> None:
    """Once it is being told, the ledger is not needed for that."""
    effects = Effects(pauses=0)

    async def main() -> None:
        site = Site(effects)
        await Peer(lambda: site).exchange(POST)
        site.store.drop((7, 0))  # the answer; the claim stays
        peer = Peer(lambda: site, piece=lambda: 20)
        page = await peer.exchange(POST, hand_on=hand_on, between=site.wipe)
        assert page.startswith(b"HTTP/1.1 500 ")
        assert b"\r\ntrickles-outcome: unknown\r\n" in page
        assert body_of(page) == b"Whether this request was executed is not known."

    asyncio.run(main())
    assert effects.executed == [b"abc"]


@pytest.mark.parametrize("status", [status.value for status in HTTPStatus if status >= 400])
def test_any_page_is_made_again(status: int) -> None:
    """Also those that only a store in trouble brings about."""

    async def main() -> None:
        here, there = Site(hello), Site(hello, seed=2)
        for closes, head_only, unknown in itertools.product((True, False), repeat=3):
            peer = Peer(lambda: here)
            peer.begin(get())
            p = called(Progress(), len(get()), digest(get()), 1_700_000_000)
            p.head_only = head_only
            how = {"closes": closes, "unknown": unknown}
            first = here.service.runner.page(
                (7, 0), p, status, peer.redeemed(), here.clock(), **how
            )
            assert isinstance(first, Finished)
            peer.progress = first.progress
            again = there.service.answer(peer.redeemed(), there.clock())
            assert isinstance(again, Finished)
            assert again.data.all() == first.data.all()
            assert (again.progress, again.closes) == (first.progress, closes)

    asyncio.run(main())


def test_the_flow_goes_on_behind_it() -> None:
    async def main() -> None:
        full, free = Site(hello, FULL), Site(hello)
        sites = [full]
        peer = Peer(lambda: sites[0], piece=lambda: 30)
        page = await peer.exchange(POST, between=full.wipe)
        assert page.startswith(b"HTTP/1.1 503 ")
        assert not peer.closed
        sites[0] = free
        assert body_of(await peer.exchange(get())) == b"hello"
        await free.service.shutdown()

    asyncio.run(main())


def test_who_would_write_it_otherwise_does_not() -> None:
    async def main() -> None:
        sites = [Site(hello, FULL)]
        peer = Peer(lambda: sites[-1], piece=lambda: 30)

        def pass_it_on() -> None:
            if len(sites) == 1:
                sites.append(Site(hello, replace(FULL, server_header=False)))

        with pytest.raises(RefusedByServer) as refused:
            await peer.exchange(get(), between=pass_it_on)
        assert refused.value.code is Code.GONE

    asyncio.run(main())


def test_the_request_is_not_gathered_again() -> None:
    async def main() -> None:
        site = Site(hello, FULL)
        peer = Peer(lambda: site)
        await peer.exchange(get())
        site.wipe()
        answer = await site.ask(peer.redeemed(Kind.UPLOAD, 0, get()[:20]))
        assert answer == Held(len(get()), peer.progress, complete=True)
        assert site.store.spools == 0

    asyncio.run(main())
