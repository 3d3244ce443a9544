"""WebSocket frames: any bytes from the client, and what the application and the client make of it.

The application sends back each message that it gets. What is held against the server:

- nothing is raised in it, and nothing is left running;
- what it says, another reader of frames understands, whatever came in;
- the client hears the messages that the application got, in order, until one of them closes;
- where the bytes are cut on their way up makes no difference to the application, but for the code
  of the end: frames that break several rules are closed for the one that wsproto sees first.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from wsproto import ConnectionType, WSConnection
from wsproto.events import BytesMessage, CloseConnection, Request, TextMessage
from wsproto.extensions import PerMessageDeflate

from tests.http.peer import QUIET, Peer, Site
from trickles_web.errors import ClientGone
from trickles_web.http.scope import Receive, Scope, Send

CONFIG = replace(QUIET, ws_max_bytes=300)
MOST_TURNS = 100
"""Of the loop, until all that was sent is answered."""
FORMS = 4
BROKEN = frozenset((1002, 1007))
"""Codes (RFC 6455 §7.4.1) of an end for what the client did wrong."""
CONTROL_BITS = 0x80
"""An unmasked frame: the server must not take it."""

Heard = list[str | bytes]


def frames(data: bytes) -> bytes:
    """Of each frame its first byte and its length, then content: a client's, with a mask of 0."""
    out, at = bytearray(), 0
    while at + 2 <= len(data):
        first, length = data[at : at + 2]
        content = data[at + 2 : at + 2 + length]
        size = len(content)
        masked = 0 if length == CONTROL_BITS else 0x80
        out.append(first)
        out += bytes((masked | size,)) if size < 126 else bytes((masked | 126, 0, size))
        out += (bytes(4) if masked else b"") + content
        at += 2 + length
    return bytes(out)


class Echo:
    """The application, and what it got."""

    def __init__(self) -> None:
        self.got: Heard = []
        self.code: int | None = None
        """Of the end, if there was one."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            data = message.get("bytes")
            self.got.append(message["text"] if data is None else data)
            with contextlib.suppress(ClientGone):
                await send({**message, "type": "websocket.send"})
        self.code = message["code"]


def websocket_frames(data: bytes) -> None:
    """By the first byte: deflated or not, as frames or as they are."""
    form, rest = data[:1], data[1:]
    deflated, as_frames = divmod(form[0] % FORMS, 2) if form else (0, 0)
    stream = frames(rest) if as_frames else rest
    third = len(stream) // 3
    whole, *cut = (
        _LOOP.run(_conversation(pieces, bool(deflated)))
        for pieces in ([stream], [stream[:third], stream[third : -third or None], stream[-third:]])
        if len(pieces) == 1 or third
    )
    assert all(other == whole for other in cut), "cut elsewhere, it is not the same"


_LOOP = asyncio.Runner()


async def _conversation(pieces: Sequence[bytes], deflated: bool) -> tuple[Heard, int | None]:
    """What the application got: messages, and the code of the end."""
    application = Echo()
    site = Site(application, CONFIG)
    peer = Peer(lambda: site)
    client = WSConnection(ConnectionType.CLIENT)
    extensions = [PerMessageDeflate()] if deflated else []
    asked = client.send(Request(host="test", target="/", extensions=extensions))
    peer.begin(asked)
    asking = peer.redeemed(data=asked, whole=True)
    for _ in range(2):  # Held, and then what waits for more
        await site.ask(asking)
    (run,) = site.service.runner.calls.runs
    offset = len(asked)
    for piece in pieces:
        run.take(offset, piece)
        offset += len(piece)
        for _ in range(MOST_TURNS):
            before = len(application.got), run.available
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            if (len(application.got), run.available) == before and run.begun:
                break
    client.receive_data(bytes(run.data.read(0, run.available)))
    heard, closed = _heard(client.events())
    assert heard == application.got[: len(heard)]
    assert closed or application.code or heard == application.got, "it is not sent back"
    code = min(BROKEN) if application.code in BROKEN else application.code
    found = application.got.copy(), code
    run.leave()
    for _ in range(MOST_TURNS):
        if not site.service.runner.calls.runs:
            break
        await asyncio.sleep(0)
    assert not site.service.runner.calls.runs, "the call goes on for ever"
    return found


def _heard(events: Iterator[Any]) -> tuple[Heard, bool]:
    """Messages, and were they ended by a close? Raises what wsproto does when frames are wrong."""
    heard: Heard = []
    part: str | bytes = ""
    for event in events:
        if isinstance(event, CloseConnection):
            return heard, True
        if isinstance(event, TextMessage | BytesMessage):
            piece = event.data if isinstance(event, TextMessage) else bytes(event.data)
            part = part + piece if part else piece  # type: ignore[operator]
            if event.message_finished:
                heard.append(part)
                part = ""
    return heard, False
