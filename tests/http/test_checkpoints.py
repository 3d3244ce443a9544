"""Responses that outlive the process which makes them: checkpoints, and calls that go on."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.http.apps import get
from tests.http.peer import Peer, RefusedByServer, Site, body_of
from tests.http.test_shared import Group
from trickles_web.http.checkpoints import (
    EXTENSION,
    LONGEST_STRETCH,
    MOST_STATE,
    Checkpoint,
    Checkpoints,
    decode,
)
from trickles_web.http.progress import Body, ProgressError
from trickles_web.http.progress import decode as decode_progress
from trickles_web.http.responses import Need, Refuse
from trickles_web.http.runner import KeptResponse
from trickles_web.http.scope import Receive, Scope, Send
from trickles_web.resumable import resumable_stream
from trickles_web.transport.note import UNBOUND
from trickles_web.transport.wire import Code


class Counting:
    """Events 0, 1, 2 ... `count`, each with a token that no two calls agree on."""

    def __init__(
        self, count: int, size: int = 0, headers: tuple[tuple[bytes, bytes], ...] = ()
    ) -> None:
        self.count = count
        self.size = size
        self.headers = list(headers)
        self.calls: list[bytes | None] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        state = scope["extensions"][EXTENSION].get("state")
        self.calls.append(state)
        token = os.urandom(6).hex()
        await send({"type": "http.response.start", "status": 200, "headers": self.headers})
        for number in range(int(state or 0), self.count):
            event = f"{number:6} {token:{12 + self.size}}\n".encode()
            await send(
                {
                    "type": "http.response.body",
                    "body": event,
                    "more_body": True,
                    EXTENSION: b"%d" % (number + 1),
                }
            )
            await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b""})


def numbers(body: bytes) -> list[int]:
    return [int(line.split()[0]) for line in body.splitlines()]


def tokens(body: bytes) -> set[bytes]:
    return {line.split()[1] for line in body.splitlines()}


def run(story: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(_bounded(story))


async def _bounded(story: Callable[[], Awaitable[None]]) -> None:
    await asyncio.wait_for(story(), 60)


LENGTH = (b"content-length", b"%d" % (400 * 20))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
def test_no_event_is_lost_or_repeated(tmp_path: Path, seed: int, framing: str) -> None:
    random = Random(seed)
    app = Counting(400, headers=(LENGTH,) if framing == "length" else ())
    version = "1.0" if framing == "close" else "1.1"

    async def story() -> None:
        group = Group(app, tmp_path / "run")

        async def disturb() -> None:
            group.clock.ms += 100
            if random.random() < 0.15:
                owners = [site for site in group.sites if site.service.runner.calls.runs]
                await group.kill(random.choice(owners or group.sites))

        async with group:
            peer = group.peer(lambda: random.choice(group.sites))
            peer.piece = lambda: random.choice((1, 30, 200, 900))
            body = body_of(await peer.exchange(get("/", version=version), between=disturb))
        assert numbers(body) == list(range(400))
        assert len(tokens(body)) > 1, "nothing was killed"
        assert len(app.calls) > 4, "it outlives more processes than ordinary responses may"

    run(story)


def test_a_large_stream_is_forgotten_behind_the_client() -> None:
    app = Counting(3000, size=1000)

    async def story() -> None:
        site = Site(app)
        peer = Peer(lambda: site, piece=lambda: 100_000)
        sizes: list[int] = []
        body = body_of(await peer.exchange(get(), between=lambda: sizes.append(site.store.used)))
        assert numbers(body) == list(range(3000))
        assert max(sizes) < site.config.response_buffer_bytes + 1_000_000
        assert sizes[-1] < 800_000

    run(story)


async def begun(app: Any, request: bytes = get(), piece: int = 300) -> tuple[Site, Peer]:
    """A client that has handed on the beginning of a response, whose owner then forgot all."""
    site = Site(app)
    peer = Peer(lambda: site, piece=lambda: piece)
    peer.begin(request)
    answer = await site.ask(peer.redeemed(data=request, whole=True))
    for _ in range(3):
        assert not isinstance(answer, Refuse | Need), answer
        peer.take(site, answer)  # type: ignore[arg-type]
        peer.hand_on(answer)  # type: ignore[arg-type]
        answer = await site.ask(peer.redeemed(offset=len(request)))
    for run in list(site.service.runner.calls.runs):
        run.stopping = True
        assert run.task is not None
        run.task.cancel()
    site.wipe()
    return site, peer


def test_a_server_without_anything_asks_for_the_note() -> None:
    async def story() -> None:
        site, peer = await begun(Counting(400))
        request = peer.redeemed(offset=len(get()))
        assert site.service.answer(request, site.clock()) == Need([(0, len(get()))])

    run(story)


def test_who_handed_on_and_has_no_note_is_refused() -> None:
    async def story() -> None:
        site, peer = await begun(Counting(400))
        peer.attach, peer.note = True, None
        assert peer.handed_on
        answer = site.service.answer(peer.redeemed(data=get()), site.clock())
        assert answer == Refuse(Code.GONE)

    run(story)


def test_a_late_copy_starts_no_call() -> None:
    """A call that went on from a later checkpoint is there: nobody wants that of the earlier."""

    async def story() -> None:
        app = Counting(400)
        site, peer = await begun(app)
        peer.attach = True
        late = peer.redeemed(data=get())
        assert peer.note is not None
        newer = peer.note._replace(firm=peer.note.firm + 25)
        answer = await site.ask(peer.redeemed(data=get(), note=newer))
        assert not isinstance(answer, Refuse | Need)
        calls = len(app.calls)
        assert site.service.answer(late, site.clock()) == Refuse(Code.CLOSED)
        assert len(app.calls) == calls

    run(story)


def test_a_later_checkpoint_replaces_a_call() -> None:
    """Two servers went on with it; the client follows one, and comes back to the other."""

    async def story() -> None:
        app = Counting(400)
        site, peer = await begun(app)
        peer.attach = True
        await site.ask(peer.redeemed(data=get()))
        assert peer.note is not None
        newer = peer.note._replace(firm=peer.note.firm + 25)
        answer = await site.ask(peer.redeemed(data=get(), note=newer))
        assert answer.joins == newer.firm  # type: ignore[union-attr]
        assert sum(not call.gone for call in site.service.runner.calls.runs) == 1

    run(story)


def test_another_framing_ends_the_response(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        app = Counting(400)
        site, peer = await begun(app)
        app.headers = [LENGTH]
        with pytest.raises(RefusedByServer, match="FAILED"):
            peer.attach = True
            answer = await site.ask(peer.redeemed(data=get()))
            assert isinstance(answer, Refuse)
            raise RefusedByServer(answer.code)
        assert "not framed as the one that it goes on with" in caplog.text

    run(story)


@pytest.mark.parametrize(
    ("request_bytes", "headers"),
    [
        (get(method="POST"), ()),
        (get(method="HEAD"), ()),
        (get(), ((b"Content-Encoding", b"gzip"),)),
    ],
    ids=["unsafe", "HEAD", "encoded"],
)
def test_where_checkpoints_are_ignored(
    request_bytes: bytes, headers: tuple[tuple[bytes, bytes], ...]
) -> None:
    async def story() -> None:
        site = Site(Counting(50, headers=headers))
        peer = Peer(lambda: site, piece=lambda: 300)
        seen: list[KeptResponse | None] = []
        await peer.exchange(
            request_bytes, between=lambda: seen.append(site.store.response((7, 0), site.clock()))
        )
        assert all(kept is None or kept.noted(1 << 40) is None for kept in seen)
        assert decode_progress(peer.progress).kind is Body.MEMORY

    run(story)


@pytest.mark.parametrize("state", [bytes(MOST_STATE + 1), "text"])
def test_a_state_that_is_none(state: object) -> None:
    raised: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            await send(
                {"type": "http.response.body", "body": b"x", "more_body": True, EXTENSION: state}
            )
        except RuntimeError as error:
            raised.append(str(error))
        await send({"type": "http.response.body", "body": b"still here"})

    async def story() -> None:
        site = Site(app)
        assert body_of(await Peer(lambda: site).exchange(get())) == b"still here"

    run(story)
    assert raised == ["A checkpoint is of type bytes, at most 512 of them."]


def test_a_response_that_makes_no_more_of_them_is_an_ordinary_one() -> None:
    piece = bytes(50_000)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for number in range(40):
            message = {"type": "http.response.body", "body": piece, "more_body": True}
            await send(message | ({EXTENSION: b"x"} if number == 3 else {}))
            await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b""})

    async def story() -> None:
        site = Site(app)
        peer = Peer(lambda: site, piece=lambda: 60_000)
        kinds: list[Body] = []
        lag: list[int] = []

        def look() -> None:
            kinds.append(decode_progress(peer.progress).kind)
            lag.append(len(peer.got) - peer.read)

        body = body_of(await peer.exchange(get(), between=look))
        assert len(body) == 40 * len(piece)
        assert Body.CHECKPOINT in kinds
        assert kinds[-1] is Body.MEMORY
        assert lag[-1] == 0
        assert max(lag) <= LONGEST_STRETCH + 2 * len(piece)

    run(story)


@given(
    st.builds(
        Checkpoint,
        st.integers(0, 0xFFFF_FFFF),
        st.integers(200, 999),
        st.booleans(),
        st.booleans(),
        st.integers(-1, 1 << 60),
        st.integers(0, 1 << 60),
        st.binary(max_size=MOST_STATE),
    )
)
def test_round_trip(checkpoint: Checkpoint) -> None:
    assert decode(checkpoint.encode()) == checkpoint


@given(st.binary(max_size=40))
def test_arbitrary_bytes_raise_progress_errors_only(data: bytes) -> None:
    try:
        decode(data)
    except ProgressError:
        return


@given(
    st.lists(st.integers(0, 3000), min_size=1, max_size=300),
    st.integers(0, 100_000),
    st.integers(0, 100_000),
)
def test_the_last_checkpoint_at_hand(steps: list[int], received: int, beyond: int) -> None:
    """Of those that are kept, one is not much below what was asked for; and few are kept."""
    checkpoints = Checkpoints(10, 10)
    offset, offsets = 10, []
    for step in steps:
        offset += step
        offsets.append(offset)
        checkpoints.add(offset, b"%d" % offset)
    received = min(received, offset)
    checkpoints.forget(received)
    stop = min(received + beyond, offset)
    note = checkpoints.at(stop)
    assert note.firm in offsets
    assert note.progress == b"%d" % note.firm
    if note.firm > stop:
        assert note.firm <= offsets[0] + 4096 + 3000  # the first that was kept
    else:
        assert stop - note.firm < 2 * 4096 + 3000
    assert checkpoints.size <= (offset // 2048 + 3) * 130
    assert checkpoints.at(UNBOUND).firm == offset


def test_a_stream_that_fails_at_once_is_a_page_and_the_flow_goes_on() -> None:
    @resumable_stream("text/event-stream")
    async def failing(scope: Scope, state: bytes | None):  # type: ignore[no-untyped-def]
        yield b"data: 1\n\n", "1"
        raise RuntimeError("boom")

    async def main() -> None:
        site = Site(failing)
        peer = Peer(lambda: site)
        for _ in range(2):
            answer = await peer.exchange(get("/"))
            assert answer.startswith(b"HTTP/1.1 500 ")
        await site.service.shutdown()

    asyncio.run(main())
