"""Hostile UPLOADs and REQUESTs against an open request: nothing raised, no memory beyond the
window, and the application never sees what the first bytes did not say."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.http.apps import get
from tests.http.peer import QUIET, Peer, Site
from trickles_web.http import intake
from trickles_web.http.progress import Progress, encode
from trickles_web.http.responses import Finished, Held, Pending, Refuse
from trickles_web.http.run import RUN_OVERHEAD, Run
from trickles_web.http.scope import Receive, Scope, Send
from trickles_web.state.spool import SPOOL_OVERHEAD
from trickles_web.transport.wire import Code, Kind

OPEN = replace(QUIET, request_buffering=False)
BODY = random.Random(3).randbytes(12_000)
WINDOW = 3000


class Reading:
    """Reads a message whenever it may, and answers when it has the whole body."""

    def __init__(self) -> None:
        self.got = b""
        self.calls = 0
        self.may_read = asyncio.Semaphore(0)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.calls += 1
        more = True
        while more:
            await self.may_read.acquire()
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            self.got += message["body"]
            more = message["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})


Story = Callable[[Site, Peer, Reading], Awaitable[None]]


def tell(story: Story, framing: str = f"Content-Length: {len(BODY)}") -> None:
    """One call is begun, of which only the head was sent."""

    async def main() -> None:
        app = Reading()
        site = Site(app, OPEN)
        peer = Peer(lambda: site)
        peer.begin(get("/", framing, method="POST"))
        peer.wanted = len(peer.stream)
        answer = site.service.answer(peer.redeemed(data=peer.stream), site.clock())
        assert isinstance(answer, Held), answer
        assert (answer.held, answer.room >= 0) == (peer.wanted, True)
        peer.progress = answer.progress
        await asyncio.sleep(0)  # now the application was called, on any version of Python
        await story(site, peer, app)
        for _ in range(20):
            app.may_read.release()
        await site.service.shutdown()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(intake, "WINDOW", WINDOW)
        asyncio.run(main())


def running(site: Site) -> Run:
    (run,) = site.service.runner.calls.runs
    return run


lies = st.lists(
    st.tuples(
        st.sampled_from(["true", "true", "true", "false", "read"]),
        st.sampled_from([Kind.UPLOAD, Kind.REQUEST]),
        st.one_of(st.integers(-200, 13_000), st.integers(0, (1 << 62) - 1)),
        st.integers(0, 2000),
    ),
    max_size=30,
)


@settings(max_examples=150)
@given(lies)
def test_whatever_is_sent(sent: list[tuple[str, Kind, int, int]]) -> None:
    async def story(site: Site, peer: Peer, app: Reading) -> None:
        start, told = peer.wanted, peer.wanted
        run = running(site)
        for what, kind, at, size in sent:
            if what == "read":
                app.may_read.release()
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            offset = max(0, start + at) if at < 13_000 else at
            stream = peer.stream[:start] + BODY + b"behind" * 400
            data = stream[offset : offset + size]
            if what == "false":
                data = bytes(byte ^ 1 for byte in data) or b"far away" * (size // 8)
            redeemed = peer.redeemed(kind, offset, data)
            answer = site.service.answer(redeemed, site.clock())
            if isinstance(answer, Refuse):
                assert answer.code is Code.CONFLICT
            elif isinstance(answer, Held):
                assert told <= answer.held <= start + len(BODY)
                told = answer.held
                assert answer.complete == (answer.held == start + len(BODY))
            else:
                assert isinstance(answer, Pending | Run)
            body = 2 * WINDOW + 3 * 2048 + 2000
            assert run.size <= RUN_OVERHEAD + run._request.size + SPOOL_OVERHEAD + body
        assert app.calls == 1
        if not any(what == "false" for what, *_ in sent):
            assert BODY.startswith(app.got)

    tell(story)


def test_an_upload_beyond_the_room_is_answered_but_not_taken() -> None:
    async def story(site: Site, peer: Peer, app: Reading) -> None:
        start = peer.wanted

        def upload(offset: int, size: int) -> Held:
            piece = BODY[offset : offset + size]
            redeemed = peer.redeemed(Kind.UPLOAD, start + offset, piece)
            answer = site.service.answer(redeemed, site.clock())
            assert isinstance(answer, Held)
            return answer

        answer = upload(0, 1000)
        assert (answer.held, answer.room, answer.taken) == (start + 1000, 2000, True)
        answer = upload(1000, 5000)
        assert (answer.held, answer.room, answer.taken) == (start + WINDOW, 0, False)
        answer = upload(WINDOW, 100)
        assert (answer.held, answer.room, answer.taken) == (start + WINDOW, 0, False)
        app.may_read.release()
        await asyncio.sleep(0)
        answer = upload(WINDOW, 100)
        assert (answer.held, answer.room, answer.taken) == (start + 3100, WINDOW - 100, True)

    tell(story)


def test_nothing_is_kept_for_an_address_that_proved_nothing() -> None:
    async def story(site: Site, peer: Peer, app: Reading) -> None:
        for kind in (Kind.UPLOAD, Kind.REQUEST):
            redeemed = peer.redeemed(kind, peer.wanted, BODY[:500], validated=False)
            answer = site.service.answer(redeemed, site.clock())
            assert isinstance(answer, Held)
            assert (answer.held, answer.complete) == (peer.wanted, False)
            assert (answer.room, answer.taken) == (WINDOW, kind is Kind.REQUEST)

    tell(story)


def test_uploads_of_another_exchange_change_nothing() -> None:
    """Under continuations of the flow that name one before or after."""

    async def story(site: Site, peer: Peer, app: Reading) -> None:
        for exchange in (1, 2, 0xFFFF_FFFF):
            other = encode(Progress(exchange=exchange, store=site.store.id))
            data = BODY[:500]
            redeemed = peer.redeemed(Kind.UPLOAD, peer.wanted, data, progress=other)
            answer = site.service.answer(redeemed, site.clock())
            assert isinstance(answer, Held | Refuse)
        run = running(site)
        assert run.intake is not None
        assert run.intake.held == peer.wanted
        assert app.calls == 1

    tell(story)


@pytest.mark.parametrize("kind", [Kind.UPLOAD, Kind.REQUEST])
def test_what_is_sent_to_a_dead_owner_is_kept_by_nobody(kind: Kind) -> None:
    async def story(site: Site, peer: Peer, app: Reading) -> None:
        heir = Site(app, OPEN, seed=2)
        for offset in (0, 1000, 11_000):
            data = BODY[offset : offset + 1000]
            redeemed = peer.redeemed(kind, peer.wanted + offset, data)
            answer = heir.service.answer(redeemed, heir.clock())
            assert answer == Refuse(Code.UNKNOWN if kind is Kind.UPLOAD else Code.NOT_MINE)
        assert heir.store.used == 0
        assert heir.store.spools == len(heir.store) == 0
        assert app.calls == 1

    tell(story)


def test_bytes_behind_the_end_belong_to_nobody() -> None:
    async def story(site: Site, peer: Peer, app: Reading) -> None:
        start, run = peer.wanted, running(site)
        wire = b"5\r\nhello\r\n0\r\n\r\nPOST /next HTTP/1.1\r\n"
        redeemed = peer.redeemed(Kind.UPLOAD, start, wire)
        answer = site.service.answer(redeemed, site.clock())
        assert isinstance(answer, Held)
        assert (answer.held, answer.complete) == (start + 15, True)
        app.may_read.release()
        await asyncio.sleep(0)
        app.may_read.release()
        await asyncio.sleep(0)
        assert app.got == b"hello"
        assert run.complete
        assert not run.closes
        assert run.request_wanted == start + 15

    tell(story, "Transfer-Encoding: chunked")


def test_the_last_bytes_of_a_request_sent_again_are_not_the_next_one() -> None:
    """All of the answer has come, but nothing that seals its end."""

    async def story(site: Site, peer: Peer, app: Reading) -> None:
        start = peer.wanted
        wire = b"5\r\nhello\r\n0\r\n\r\n"
        site.service.answer(peer.redeemed(Kind.UPLOAD, start, wire), site.clock())
        for _ in range(3):
            app.may_read.release()
            await asyncio.sleep(0)
        kept = site.store.response((peer.incarnation, 0), site.clock())
        assert isinstance(kept, Finished)
        for offset, behind in ((start + 10, b""), (start + 10, b"POST /next"), (start, b"")):
            redeemed = peer.redeemed(
                offset=offset,
                data=wire[offset - start :] + behind,
                received=kept.available,
                edition=kept.edition,
                wants=((kept.available - 1, 1),),
            )
            assert site.service.answer(redeemed, site.clock()) is kept
        peer.progress = kept.progress  # which seals its end
        following = get("/next", "Content-Length: 3", method="POST")
        redeemed = peer.redeemed(
            offset=start + len(wire),
            data=following,
            received=kept.available,
            wants=((kept.available, 1000),),
        )
        answer = site.service.answer(redeemed, site.clock())
        assert isinstance(answer, Held)
        assert answer.held == start + len(wire) + len(following)
        await asyncio.sleep(0)
        assert app.calls == 2

    tell(story, "Transfer-Encoding: chunked")
