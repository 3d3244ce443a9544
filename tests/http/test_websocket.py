"""WebSockets from datagram to message: what the table of behaviours has no room for."""

from __future__ import annotations

import asyncio
import logging
import struct
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.events import BytesMessage, CloseConnection, Ping, Request, TextMessage
from wsproto.extensions import PerMessageDeflate

from tests.http.apps import get
from tests.http.peer import QUIET, Peer, Site
from tests.http.talking import ACCEPTED, Line, Talk
from trickles_web.errors import ClientGone
from trickles_web.http import websocket
from trickles_web.http.intake import WINDOW
from trickles_web.http.responses import Held, Need, Refuse
from trickles_web.http.run import RUN_OVERHEAD, Run
from trickles_web.http.scope import ASGIApp, Receive, Scope, Send
from trickles_web.http.websocket import FED_BYTES, MOST_WAITING_BYTES
from trickles_web.transport.wire import Kind

BUFFER = 10_000
TIGHT = replace(QUIET, response_buffer_bytes=BUFFER)
OVERHEADS = 16_384
"""Of a call and of an entry in the store."""

Story = Callable[[Site, Peer], Awaitable[None]]


def run(app: ASGIApp, story: Story, **options: Any) -> None:
    """No call is left at the end."""

    async def main() -> None:
        site = Site(app, **options)
        peer = Peer(lambda: site)
        async with asyncio.timeout(20):
            await story(site, peer)
            await ended(site)
        await site.service.shutdown()
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


async def ended(site: Site) -> None:
    """Return when no call runs any more."""
    while site.service.runner.calls.runs:
        await asyncio.sleep(0.001)


def only_run(site: Site) -> Run:
    (found,) = site.service.runner.calls.runs
    return found


async def begin(site: Site, peer: Peer, lines: list[Line], **request: Any) -> Talk:
    """The handshake: the client has read nothing but the answer to it."""
    talk = Talk(peer, lines, Request(host="test", target="/", **request))
    peer.begin(talk.request)
    asked = peer.redeemed(data=talk.request, whole=True)
    answer = await site.ask(asked)
    if isinstance(answer, Held):
        peer.keep(answer)
        answer = await site.ask(asked)  # it is parked there
    assert not isinstance(answer, Held | Need | Refuse)
    end = bytes(answer.read(answer.start, answer.available)).index(b"\r\n\r\n") + 4
    piece, peer.piece = peer.piece, lambda: end
    peer.take(site, answer)
    peer.piece = piece
    talk.between()
    return talk


async def go_on(peer: Peer, talk: Talk) -> None:
    """From what has come so far to the end of the flow."""
    while peer.end != peer.start + len(peer.got):
        site = peer.pick()
        answer = await site.ask(peer.redeemed(offset=peer.held))
        if isinstance(answer, Held):
            peer.keep(answer)
        else:
            assert not isinstance(answer, Need | Refuse), answer
            peer.take(site, answer)
        talk.between()
        await peer.upload_on()


async def receives(scope: Scope, receive: Receive, send: Send) -> None:
    """All there is."""
    await send({"type": "websocket.accept"})
    while (await receive())["type"] != "websocket.disconnect":
        pass


# Backpressure


def test_a_client_that_does_not_read_stops_the_application() -> None:
    sent = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        await send({"type": "websocket.accept"})
        for _ in range(1000):
            await send({"type": "websocket.send", "bytes": bytes(1000)})
            sent += 1000

    async def story(site: Site, peer: Peer) -> None:
        peer.piece = lambda: 2000
        talk = await begin(site, peer, [])
        for _ in range(100):
            await asyncio.sleep(0)
        assert sent <= BUFFER + 1000
        assert site.store.used <= BUFFER + 2000 + OVERHEADS
        hear, most = talk.between, 0

        def between() -> None:
            nonlocal most
            most = max(most, sent - len(peer.got))
            hear()

        talk.between = between  # type: ignore[method-assign]
        await go_on(peer, talk)
        assert most <= BUFFER + 1000
        assert talk.heard == [ACCEPTED, *[("bytes", bytes(1000))] * 1000, ("close", 1000, "")]

    run(app, story, config=TIGHT)


@pytest.mark.parametrize("size", [0, 100, 20_000])
def test_an_application_that_does_not_receive_stops_the_client(size: int) -> None:
    may_receive = asyncio.Event()
    got: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await may_receive.wait()
        while (message := await receive())["type"] == "websocket.receive":
            got.append(message["text"])
        assert await receive() == message, "for ever"

    async def story(site: Site, peer: Peer) -> None:
        messages = [f"{i}:" + "a" * size for i in range(600_000 // (size + 10))]
        talk = await begin(site, peer, [*map(TextMessage, messages), CloseConnection(1000)])
        await peer.upload_on()
        assert len(peer.stream) > peer.held + 150_000
        assert site.store.used < WINDOW + MOST_WAITING_BYTES + size + FED_BYTES + OVERHEADS
        may_receive.set()
        await go_on(peer, talk)
        await ended(site)
        assert got == messages

    run(app, story)


def test_a_client_that_does_not_read_is_not_answered_without_bound() -> None:
    """But the last of its pings is."""

    async def story(site: Site, peer: Peer) -> None:
        pings = [Ping(b"%0100d" % i) for i in range(6000)]
        pongs = [("pong", bytes(ping.payload)) for ping in pings]
        talk = await begin(site, peer, [*pings, pongs[-1], CloseConnection(1000)])
        await peer.upload_on()
        assert peer.held == len(peer.stream) > 600_000
        assert only_run(site).available - len(peer.got) <= BUFFER + 200
        await go_on(peer, talk)
        assert talk.heard == [ACCEPTED, *talk.heard[1:-2], pongs[-1], ("close", 1000, "")]
        assert set(talk.heard[1:-2]) < set(pongs)

    run(receives, story, config=TIGHT)


def test_a_client_that_leaves_while_the_application_waits_for_it() -> None:
    failed: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        try:
            while True:
                await send({"type": "websocket.send", "bytes": bytes(BUFFER)})
        except OSError as error:
            failed.append(type(error).__name__)

    async def story(site: Site, peer: Peer) -> None:
        await begin(site, peer, [CloseConnection(1000)])
        await peer.upload_on()
        await ended(site)
        assert failed == [ClientGone.__name__]

    run(app, story, config=TIGHT)


def test_what_waits_is_accounted_for_and_freed() -> None:
    may_receive = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await may_receive.wait()
        await receives(scope, receive, send)

    async def story(site: Site, peer: Peer) -> None:
        lines: list[Line] = [TextMessage("a" * 30_000), BytesMessage(b"b" * 20_000)]
        await begin(site, peer, [*lines, TextMessage("c" * 10_000, message_finished=False)])
        await peer.upload_on()
        found = only_run(site)
        assert peer.held == len(peer.stream)
        assert found.size - RUN_OVERHEAD > 60_000
        assert site.store.used > found.size
        await peer_leaves(site, peer)
        assert site.store.used == 0
        may_receive.set()

    run(app, story)


async def peer_leaves(site: Site, peer: Peer) -> None:
    assert site.service.cancel(peer.redeemed(Kind.CANCEL)) is None


@pytest.mark.parametrize("kind", ["text", "bytes"])
def test_a_message_that_inflates_without_bound(kind: str) -> None:
    """100 kB that are 100 MB."""

    async def story(site: Site, peer: Peer) -> None:
        deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
        block = bytes(1 << 20)
        bomb = b"".join(deflate.compress(block) for _ in range(100)) + deflate.flush()
        head = bytes([0x41 if kind == "text" else 0x42, 0xFF]) + struct.pack(">Q", len(bomb))
        head = bytes([head[0] | 0x80, *head[1:]])
        talk = await begin(site, peer, [head + bytes(4) + bomb], extensions=[PerMessageDeflate()])
        tracemalloc.start()
        await peer.upload_on()
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert most < 64 << 20
        await go_on(peer, talk)
        assert talk.heard[1][:2] == ("close", 1009)

    run(receives, story, config=replace(QUIET, ws_max_bytes=1 << 20))


# Ends


def test_a_restart_is_announced(caplog: pytest.LogCaptureFixture) -> None:
    """It is no fault of the application's that sends still."""
    heard: list[object] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        if scope["path"] == "/":
            await send({"type": "websocket.accept"})
        heard.append((await receive())["code"])
        await send({"type": "websocket.send", "text": "too late"})

    async def story(site: Site, peer: Peer) -> None:
        talk = await begin(site, peer, [])
        assert site.service.runner.calls.restarting()
        assert not site.service.runner.calls.restarting()
        await go_on(peer, talk)
        assert talk.heard == [ACCEPTED, ("close", 1012, "")]
        await ended(site)
        assert heard == [1012]
        assert caplog.messages == []

    run(app, story)


def test_a_restart_before_the_handshake_is_answered() -> None:
    asked = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        asked.set()
        await asyncio.sleep(3600)

    async def story(site: Site, peer: Peer) -> None:
        talk = Talk(peer, [])
        first = asyncio.create_task(talk.to_the_end())
        await asked.wait()
        site.service.runner.calls.restarting()
        await first
        assert peer.got.startswith(b"HTTP/1.1 500 ")
        only_run(site).task.cancel()  # type: ignore[union-attr]

    run(app, story)


@pytest.mark.parametrize("returns", [True, False])
def test_a_client_that_does_not_say_goodbye(monkeypatch: pytest.MonkeyPatch, returns: bool) -> None:
    """It is waited for, but not for ever; what it sends until then is nobody's."""
    patience_s = 0.2
    monkeypatch.setattr(websocket, "CLOSE_TIMEOUT_S", patience_s)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        if not returns:
            await send({"type": "websocket.close"})
            await receives_all(receive)

    async def story(site: Site, peer: Peer) -> None:
        loop = asyncio.get_running_loop()
        before = loop.time()
        await begin(site, peer, [TextMessage("a" * 1000)] * 300)
        await peer.upload_on()
        assert peer.held == len(peer.stream), "none of it waits"
        await ended(site)
        assert loop.time() - before >= patience_s

    run(app, story)


def test_a_goodbye_behind_messages_that_nobody_reads() -> None:
    """It is heard when it comes, not when patience ends."""
    may_return = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await may_return.wait()

    async def story(site: Site, peer: Peer) -> None:
        talk = await begin(site, peer, [TextMessage("a" * 1000)] * 300)
        await peer.upload_on()
        may_return.set()
        async with asyncio.timeout(websocket.CLOSE_TIMEOUT_S / 2):
            await go_on(peer, talk)
        assert talk.heard == [ACCEPTED, ("close", 1000, "")]

    run(app, story)


def test_the_last_words_of_a_client_begin_no_other_request() -> None:
    """They may come with a continuation that does not know yet that all is over."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close"})

    async def story(site: Site, peer: Peer) -> None:
        talk = await begin(site, peer, [])
        answer = await site.ask(peer.redeemed(offset=peer.held))
        assert not isinstance(answer, Held | Need | Refuse)
        peer.take(site, answer)
        talk.between()
        again = peer.redeemed(offset=peer.held, data=peer.stream[peer.held :])
        await peer.upload_on()
        await ended(site)
        answer = await site.ask(again)
        assert not isinstance(answer, Held | Need | Refuse)
        assert (answer.end, answer.closes) == (len(peer.got), True)

    run(app, story)


async def receives_all(receive: Receive) -> None:
    assert (await receive())["type"] == "websocket.connect"
    assert (await receive())["type"] == "websocket.disconnect"


# The log


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ("Sec-WebSocket-Version: 13", 400),
        ("Sec-WebSocket-Version: 8\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", 426),
        ("Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", 500),
    ],
)
def test_the_log_says_what_became_of_a_handshake(
    caplog: pytest.LogCaptureFixture, lines: str, status: int
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("on purpose")

    async def story(site: Site, peer: Peer) -> None:
        answer = await peer.exchange(
            get(
                "/a b".replace(" ", "%20") + "?c",
                "Connection: Upgrade",
                "Upgrade: websocket",
                lines,
            )
        )
        assert answer.startswith(b"HTTP/1.1 %d " % status)

    with caplog.at_level(logging.INFO):
        run(app, story, config=replace(QUIET, access_log=True))
    assert f'192.0.2.7:40000 - "WebSocket /a%20b?c" {status}' in caplog.messages
    assert "Exception while answering for an application\n" not in caplog.messages


# Whatever comes


def frame(first: int, payload: bytes, masked: bool) -> bytes:
    """Of a client that may do everything wrong."""
    length = len(payload)
    size = bytes([length]) if length < 126 else b"\x7e" + struct.pack(">H", length)
    head = bytes([first, size[0] | masked * 0x80]) + size[1:]
    return head + b"\0\0\0\0" * masked + payload


FRAMES = st.builds(
    frame,
    st.one_of(
        st.sampled_from([0x81, 0x01, 0x00, 0x80, 0xC1, 0x41, 0xC2, 0x89, 0x8A, 0x88]),
        st.integers(0, 255),
    ),
    st.one_of(
        st.binary(max_size=300),
        st.sampled_from([b"\x03\xe8", b"\x03", b"\x03\xedx", b"\x03\xe8\xff", b"\xff\xff"]),
        st.binary(max_size=100).map(lambda data: zlib.compress(data)[2:-4]),
    ),
    st.sampled_from([True, True, True, False]),
)


@settings(max_examples=300)
@given(frames=st.lists(FRAMES, min_size=1, max_size=12), cut=st.integers(1, 50))
def test_hostile_frames_end_the_flow_at_worst(frames: list[bytes], cut: int) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] != "websocket.disconnect":
            if message["type"] == "websocket.receive":
                (data,) = [message[kind] for kind in ("text", "bytes") if kind in message]
                assert isinstance(data, str if "text" in message else bytes)

    async def story(site: Site, peer: Peer) -> None:
        await begin(site, peer, [], extensions=[PerMessageDeflate()])
        peer.stream += b"".join(frames)
        while peer.open and peer.held < len(peer.stream):
            piece = peer.stream[peer.held : peer.held + cut]
            answer = await site.ask(peer.redeemed(Kind.UPLOAD, peer.held, piece))
            assert isinstance(answer, Held)
            peer.keep(answer)
            await asyncio.sleep(0)
        await peer_leaves(site, peer)

    run(app, story)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["Key", "Version", "Extensions", "Protocol"]),
            st.one_of(
                st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30),
                st.sampled_from(["13", "dGhlIHNhbXBsZSBub25jZQ==", "permessage-deflate", "é"]),
                st.sampled_from(["permessage-deflate; client_max_window_bits=" + x for x in "x8é"]),
            ),
        ),
        max_size=6,
    ),
    st.sampled_from(["test", "a..b", "x" * 70, "[::1]:80", "xn--a", "é"]),
)
def test_whatever_the_handshake_it_is_answered(lines: list[tuple[str, str]], host: str) -> None:
    async def story(site: Site, peer: Peer) -> None:
        head = ["GET / HTTP/1.1", f"Host: {host}", "Connection: upgrade", "Upgrade: websocket"]
        head += [f"Sec-WebSocket-{name}: {value}" for name, value in lines]
        request = "\r\n".join([*head, "", ""]).encode("latin-1")
        peer.begin(request)
        asked = peer.redeemed(data=request, whole=True)
        answer = await site.ask(asked)
        if isinstance(answer, Held):
            answer = await site.ask(asked)
        assert not isinstance(answer, Held | Need | Refuse)
        status = bytes(answer.read(answer.start, answer.available))[:13]
        assert status in {b"HTTP/1.1 %d " % code for code in (101, 400, 426)}
        await peer_leaves(site, peer)

    run(receives, story)


AS_IT_BEGINS = """
import sys
from tests.http.apps import hello
from tests.http.peer import Site
Site(hello)
assert "trickles_web.http.websocket" in sys.modules
"""


def test_nothing_is_imported_when_there_may_be_no_descriptor_left() -> None:
    subprocess.run([sys.executable, "-c", AS_IT_BEGINS], check=True)
