"""What a WebSocket is to its application and to its client (RFC 6455, the ASGI specification)."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from wsproto.events import (
    BytesMessage,
    CloseConnection,
    Message,
    Ping,
    Request,
    TextMessage,
)
from wsproto.extensions import PerMessageDeflate
from wsproto.frame_protocol import FrameProtocol, Opcode

from tests.behaviours.apps import body, describe, start
from tests.behaviours.rows_of_executions import seen
from tests.behaviours.rows_of_requests import HTTP, WS, ask, closes, post, scope
from tests.behaviours.rows_of_responses import noted
from tests.behaviours.ways import Application, Check, Outcome, Row, Stage, World
from tests.http.peer import ADDRESS, QUIET
from tests.http.talking import ACCEPTED, Line, Talk
from trickles_web.errors import ClientGone
from trickles_web.http.scope import Message as AsgiMessage
from trickles_web.http.scope import Receive, Scope, Send

KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE = ("Connection: Upgrade", "Upgrade: websocket")
HANDSHAKE = ask(*UPGRADE, KEY, "Sec-WebSocket-Version: 13")

ACCEPT: AsgiMessage = {"type": "websocket.accept"}
BYE = CloseConnection(1000, "bye")
LARGE = "grüße " * 20_000

Play = Callable[[World], Awaitable[None]]

# Applications


async def echoes(stage: Stage, scope: Scope, receive: Receive, send: Send) -> None:
    """Until its client leaves; notes how."""
    assert (await receive())["type"] == "websocket.connect"
    await send(ACCEPT)
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", **{k: message[k] for k in message if k != "type"}})
    stage.seen.append(f"{message['code']} {message.get('reason')}")
    assert await receive() == message


def says(*messages: AsgiMessage) -> Application:
    """Sends these at once, then listens until its client has left, and notes what it heard."""

    async def app(stage: Stage, scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)
        message = {"type": ""}
        while message["type"] != "websocket.disconnect":
            message = dict(await receive())
            said = (message.get("text"), message.get("code"), message.get("reason"))
            stage.seen.append((message["type"].removeprefix("websocket."), *said))

    return app


def returns_after(*messages: AsgiMessage) -> Application:
    async def app(stage: Stage, scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    return app


def raises_after(*messages: AsgiMessage) -> Application:
    async def app(stage: Stage, scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)
        raise ValueError("on purpose")

    return app


async def tells_its_scope(stage: Stage, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        assert (await receive())["type"] == "lifespan.startup"
        scope["state"]["pool"] = "open"
        await send({"type": "lifespan.startup.complete"})
        assert (await receive())["type"] == "lifespan.shutdown"
        await send({"type": "lifespan.shutdown.complete"})
        return
    told = dict(scope)
    for name in ("raw_path", "query_string"):
        told[name] = told[name].decode()
    told["headers"] = [[name.decode(), value.decode()] for name, value in scope["headers"]]
    await send(ACCEPT)
    await send({"type": "websocket.send", "text": json.dumps(told)})


def tries(*messages: AsgiMessage) -> Application:
    """Notes the error of each message that was wrong, and goes on."""

    async def app(stage: Stage, scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            try:
                await send(message)
            except RuntimeError as error:
                stage.seen.append(str(error))

    return app


async def sends_to_nobody(stage: Stage, scope: Scope, receive: Receive, send: Send) -> None:
    """Goes on sending after its client has left."""
    await send(ACCEPT)
    while (await receive())["type"] != "websocket.disconnect":
        pass
    try:
        await send({"type": "websocket.send", "text": "hello"})
    except OSError as error:
        stage.seen.append(type(error).__name__)
        raise


async def waits_to_be_left(stage: Stage, scope: Scope, receive: Receive, send: Send) -> None:
    await send(ACCEPT)
    await receive()
    stage.seen.append("accepted")
    message = await receive()
    stage.seen.append(f"{message['type']} {message['code']}")


# Checks


def heard(*expected: tuple[Any, ...]) -> Check:
    """All that the client heard."""

    def check(outcome: Outcome) -> None:
        assert outcome.code is None
        assert outcome.heard == list(expected)
        assert outcome.replies[-1].closed

    return check


def answered(**expected: bytes | None) -> Check:
    """Headers of the answer to the handshake."""

    def check(outcome: Outcome) -> None:
        for name, value in expected.items():
            values = outcome.reply.all(name.replace("_", "-").encode())
            assert values == ([] if value is None else [value])

    return check


def denied(status: int, **headers: bytes | None) -> Check:
    """A page of the server ends the flow, and the application was never called."""

    def check(outcome: Outcome) -> None:
        assert (outcome.reply.status, outcome.seen) == (status, [])
        assert outcome.reply.all(b"connection") == [b"close"]
        assert outcome.reply.closed
        assert outcome.reply.body
        answered(**headers)(outcome)

    return check


def told(**expected: object) -> Check:
    """What the application found in its scope."""

    def check(outcome: Outcome) -> None:
        kind, text = outcome.heard[1]
        found = json.loads(text)
        assert kind == "text"
        assert {name: found.get(name) for name in expected} == expected

    return check


def closes_with(code: int) -> Check:
    """Whatever the reason is called."""

    def check(outcome: Outcome) -> None:
        assert outcome.code is None
        accepted, (kind, found, _) = outcome.heard
        assert (accepted, kind, found) == (ACCEPTED, "close", code)

    return check


def hears_of(code: int) -> Check:
    """So does the application."""

    def check(outcome: Outcome) -> None:
        assert outcome.seen[-1][:3] == ("disconnect", None, code)

    return check


def has_twice(name: bytes, *values: bytes) -> Check:
    def check(outcome: Outcome) -> None:
        assert outcome.reply.all(name) == list(values)

    return check


# What clients do


def plays(*lines: Line, request: Request | None = None) -> Play:
    async def play(world: World) -> None:
        await converse(world, lines, request)

    return play


async def converse(world: World, lines: tuple[Line, ...], request: Request | None) -> None:
    peer = world.peer()
    talk = Talk(peer, lines, request)
    try:
        await world.exchange(peer, talk.request, talk.between)
    finally:
        talk.between()
        world.outcome.heard = talk.heard
    await world.settle()


async def leaves(world: World) -> None:
    """Without a word, once the application has accepted."""
    peer = world.peer()
    talk = Talk(peer, [])

    class Left(Exception):
        pass

    def leave() -> None:
        talk.between()
        if talk.heard:
            raise Left

    try:
        await world.exchange(peer, talk.request, leave)
    except Left:
        await world.stage.saw("accepted")
        await world.cancel(peer)
    await world.stage.saw("websocket.disconnect 1006")


async def vanishes(world: World) -> None:
    """Not even that is said: silence is all there is."""
    peer = world.peer()
    talk = Talk(peer, [])
    peer.begin(talk.request)
    await peer.pick().ask(peer.redeemed(data=talk.request, whole=True))
    await world.stage.saw("accepted")
    for site in world.sites:
        site.clock.ms += site.config.client_silence_ms + 1
        site.service.runner.sweep(site.clock())
    await world.stage.saw("websocket.disconnect 1006")


def frame(opcode: Opcode, payload: bytes, last: bool = True) -> bytes:
    """A frame of a client, whatever it holds."""
    framing = FrameProtocol(client=True, extensions=[])
    return bytes(framing._serialize_frame(opcode, payload, fin=last))


def row(name: str, app: Application, play: Play, *checks: Check, **config: object) -> Row:
    settings = replace(QUIET, **config)  # type: ignore[arg-type]
    return Row(name, app, b"", checks, settings, play=play, ways=("one", "replicas"))


def plain(name: str, request: bytes, *checks: Check, **config: object) -> Row:
    settings = replace(QUIET, **config)  # type: ignore[arg-type]
    return Row(name, describe, request, checks, settings, ways=("one", "replicas"))


GOODBYE = ("close", 1000, "bye")
OFFERS = Request(host="test", target="/a%20b?c=d", subprotocols=["first", "second"])
DEFLATES = Request(host="test", target="/", extensions=[PerMessageDeflate()])


def closing(code: int, reason: str = "") -> AsgiMessage:
    return {"type": "websocket.close", "code": code, "reason": reason}


def text(data: str) -> AsgiMessage:
    return {"type": "websocket.send", "text": data}


MESSAGES = [
    row(
        "a text message",
        *(echoes, plays(ACCEPTED, TextMessage("hällo"), ("text", "hällo"), BYE)),
        heard(ACCEPTED, ("text", "hällo"), GOODBYE),
        seen("1000 bye"),
    ),
    row(
        "messages without a pause",
        *(echoes, plays(ACCEPTED, *[Message(f"{i}") for i in range(100)], ("text", "99"), BYE)),
        heard(ACCEPTED, *[("text", f"{i}") for i in range(100)], GOODBYE),
    ),
    row(
        "a binary message",
        *(echoes, plays(ACCEPTED, BytesMessage(b"\0\xff"), ("bytes", b"\0\xff"), BYE)),
        heard(ACCEPTED, ("bytes", b"\0\xff"), GOODBYE),
    ),
    row(
        "empty messages",
        *(echoes, plays(ACCEPTED, Message(""), Message(b""), ("bytes", b""), BYE)),
        heard(ACCEPTED, ("text", ""), ("bytes", b""), GOODBYE),
    ),
    row(
        "a large message",
        *(echoes, plays(ACCEPTED, TextMessage(LARGE), ("text", LARGE), BYE)),
        heard(ACCEPTED, ("text", LARGE), GOODBYE),
    ),
    row(
        "a fragmented message, and a ping in it",
        echoes,
        plays(
            *(ACCEPTED, TextMessage("a", message_finished=False), Ping(b"in between")),
            *(TextMessage("b", message_finished=False), TextMessage("c"), ("text", "abc"), BYE),
        ),
        heard(ACCEPTED, ("pong", b"in between"), ("text", "abc"), GOODBYE),
    ),
    row(
        "a ping",
        *(echoes, plays(ACCEPTED, Ping(b"are you there?"), ("pong", b"are you there?"), BYE)),
        heard(ACCEPTED, ("pong", b"are you there?"), GOODBYE),
    ),
    row(
        "compressed messages",
        echoes,
        plays(ACCEPTED, TextMessage(LARGE), ("text", LARGE), BYE, request=DEFLATES),
        heard(ACCEPTED, ("text", LARGE), GOODBYE),
        answered(
            sec_websocket_extensions=b"permessage-deflate; client_max_window_bits=15; "
            b"server_max_window_bits=15"
        ),
    ),
    row(
        "compression is refused",
        echoes,
        plays(ACCEPTED, TextMessage("a"), ("text", "a"), BYE, request=DEFLATES),
        heard(ACCEPTED, ("text", "a"), GOODBYE),
        answered(sec_websocket_extensions=None),
        ws_per_message_deflate=False,
    ),
    row(
        "a compression that nobody understands",
        echoes,
        plays(
            *(ACCEPTED, TextMessage("a"), ("text", "a"), BYE),
            request=Request(
                host="test",
                target="/",
                extra_headers=[
                    (b"Sec-WebSocket-Extensions", b"permessage-deflate; client_max_window_bits=x")
                ],
            ),
        ),
        heard(ACCEPTED, ("text", "a"), GOODBYE),
        answered(sec_websocket_extensions=None),
    ),
]

ENDS = [
    row(
        "closed by the client",
        *(says(ACCEPT), plays(ACCEPTED, CloseConnection(4000, "enough"))),
        heard(ACCEPTED, ("close", 4000, "enough")),
        seen(("connect", None, None, None), ("disconnect", None, 4000, "enough")),
    ),
    row(
        "closed by the client without a code",
        *(echoes, plays(ACCEPTED, frame(Opcode.CLOSE, b""))),
        *(heard(ACCEPTED, ("close", 1005, "")), seen("1005 ")),
    ),
    row(
        "closed by the server",
        *(says(ACCEPT, closing(4001, "no more")), plays()),
        heard(ACCEPTED, ("close", 4001, "no more")),
        seen(("connect", None, None, None), ("disconnect", None, 4001, "no more")),
    ),
    row(
        "closed by the server with a code that none is",
        *(raises_after(ACCEPT, closing(99_999)), plays()),
        heard(ACCEPTED, ("close", 1011, "")),
    ),
    row(
        "closed by the server before all was read",
        returns_after(ACCEPT, closing(1000, "bye")),
        plays(ACCEPTED, *[frame(Opcode.TEXT, b"unread")] * 100),
        heard(ACCEPTED, GOODBYE),
    ),
    row("returns", returns_after(ACCEPT), plays(), heard(ACCEPTED, ("close", 1000, ""))),
    row("raises", raises_after(ACCEPT), plays(), heard(ACCEPTED, ("close", 1011, ""))),
    row(
        "raises before it accepts",
        *(raises_after(), plays()),
        heard(("rejected", 500), ("body", b"Internal Server Error")),
    ),
    row(
        "returns before it accepts",
        *(returns_after(), plays()),
        heard(("rejected", 500), ("body", b"Internal Server Error")),
    ),
    row(
        "closes before it accepts",
        *(says({"type": "websocket.close"}), plays()),
        heard(("rejected", 403), ("body", b"Forbidden")),
        seen(("connect", None, None, None), ("disconnect", None, 1006, "")),
    ),
    row(
        "a client that cancels its WebSocket",
        *(waits_to_be_left, leaves, seen("accepted", "websocket.disconnect 1006")),
    ),
    row(
        "a client that vanishes",
        *(waits_to_be_left, vanishes, seen("accepted", "websocket.disconnect 1006")),
    ),
    row(
        "sending after the client has left",
        *(sends_to_nobody, plays(ACCEPTED, BYE), heard(ACCEPTED, GOODBYE)),
        seen(ClientGone.__name__),
    ),
    row(
        "sending after too large a message",
        *(sends_to_nobody, plays(ACCEPTED, TextMessage("a" * 1001)), closes_with(1009)),
        seen(ClientGone.__name__),
        ws_max_bytes=1000,
    ),
    row(
        "too large a message",
        *(says(ACCEPT), plays(ACCEPTED, TextMessage("a" * 1001))),
        heard(ACCEPTED, ("close", 1009, "Message exceeds the maximum size (1000 bytes)")),
        ws_max_bytes=1000,
    ),
    row(
        "too large in fragments",
        says(ACCEPT),
        plays(ACCEPTED, *[TextMessage("ä" * 50, message_finished=False)] * 11),
        heard(ACCEPTED, ("close", 1009, "Message exceeds the maximum size (1000 bytes)")),
        ws_max_bytes=1000,
    ),
    row(
        "text that is no UTF-8",
        *(says(ACCEPT), plays(ACCEPTED, frame(Opcode.TEXT, b"\xff")), closes_with(1007)),
        hears_of(1007),
    ),
    row(
        "a frame without a mask",
        *(says(ACCEPT), plays(ACCEPTED, b"\x81\x01a"), closes_with(1002)),
        hears_of(1002),
    ),
]

HANDSHAKES = [
    row(
        "subprotocol and headers",
        says({**ACCEPT, "subprotocol": "second", "headers": [(b"x-a", b"1"), (b"x-a", b"2")]}),
        plays(("accepted", "second"), BYE, request=OFFERS),
        heard(("accepted", "second"), GOODBYE),
        answered(sec_websocket_protocol=b"second", server=b"trickles-web"),
        has_twice(b"x-a", b"1", b"2"),
    ),
    row(
        "a subprotocol that was not offered",
        *(tries({**ACCEPT, "subprotocol": "third"}, ACCEPT), plays(request=OFFERS)),
        heard(ACCEPTED, ("close", 1000, "")),
        noted("unexpected subprotocol"),
    ),
    row(
        "a header with CR and LF",
        *(raises_after({**ACCEPT, "headers": [(b"x", b"a\r\nb: c")]}), plays()),
        heard(("rejected", 500), ("body", b"Internal Server Error")),
    ),
    row(
        "a denial with a body",
        says(
            {**start(401, (b"x-why", b"no token")), "type": "websocket.http.response.start"},
            {**body(b"not ", more=True), "type": "websocket.http.response.body"},
            {**body(b"you"), "type": "websocket.http.response.body"},
        ),
        plays(),
        heard(("rejected", 401), ("body", b"not you")),
        answered(x_why=b"no token", connection=b"close"),
        seen(("connect", None, None, None), ("disconnect", None, 1006, "")),
    ),
    row(
        "a denial that raises before any of it was sent",
        raises_after({**start(401), "type": "websocket.http.response.start"}),
        plays(),
        heard(("rejected", 500), ("body", b"Internal Server Error")),
    ),
    row(
        "messages out of place",
        tries(
            *(text("too early"), start(), ACCEPT, ACCEPT, closing(1000, "bye")),
            *(text("too late"), closing(1000)),
        ),
        *(plays(), heard(ACCEPTED, GOODBYE)),
        noted(
            *("but got 'websocket.send'", "but got 'http.response.start'"),
            *("but got 'websocket.accept'", "after sending 'websocket.close'"),
            "after sending 'websocket.close'",
        ),
    ),
    row(
        "the scope of a WebSocket",
        tells_its_scope,
        plays(request=OFFERS),
        told(
            type="websocket",
            asgi={"version": "3.0", "spec_version": "2.4"},
            http_version="1.1",
            scheme=WS,
            server=["192.0.2.1", 8000],
            client=list(ADDRESS),
            root_path="/r",
            path="/r/a b",
            raw_path="/r/a%20b",
            query_string="c=d",
            subprotocols=["first", "second"],
            state={"pool": "open"},
            extensions={"websocket.http.response": {}},
            method=None,
        ),
        lifespan="on",
        root_path="/r",
    ),
    row(
        "a proxy's X-Forwarded-Proto for a WebSocket",
        tells_its_scope,
        plays(
            request=Request(
                host="test", target="/", extra_headers=[(b"X-Forwarded-Proto", b"https")]
            )
        ),
        told(scheme="wss"),
        forwarded_allow_ips=ADDRESS[0],
    ),
    plain("no key", ask(*UPGRADE, "Sec-WebSocket-Version: 13"), denied(400)),
    plain(
        "another version",
        ask(*UPGRADE, KEY, "Sec-WebSocket-Version: 8"),
        denied(426, sec_websocket_version=b"13"),
    ),
    plain("no version of WebSocket", ask(*UPGRADE, KEY), denied(400)),
    plain(
        "a handshake with a body",
        HANDSHAKE.replace(b"\r\n\r\n", b"\r\nContent-Length: 1\r\n\r\na"),
        denied(400),
    ),
    plain("a POST is not upgraded", post(b"ab", *UPGRADE, KEY), scope(method="POST", body="ab")),
    plain(
        "h2c is not spoken",
        ask("Connection: Upgrade", "Upgrade: h2c"),
        *(scope(method="GET"), closes(False)),
    ),
    plain(
        "HTTP/1.0 is not upgraded", HANDSHAKE.replace(b"HTTP/1.1", b"HTTP/1.0"), scope(method="GET")
    ),
    plain("no WebSockets", HANDSHAKE, scope(method="GET", scheme=HTTP), closes(False), ws="none"),
]

ROWS = [*MESSAGES, *ENDS, *HANDSHAKES]
