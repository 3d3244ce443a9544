"""The application of the scenarios `chaos` and `soak`: answers of all kinds, told right or wrong.

GET /bytes/SEED/LENGTH      that many bytes, in one message
GET /chunks/SEED/LENGTH     the same in ten messages, with pauses
GET /file/NAME              a file of $MIXTURE_FILES, as Starlette sends it, whole or in ranges
GET /events/COUNT           server-sent events with checkpoints
POST /NAME                  writes NAME into $MIXTURE_EXECUTIONS; answers the digest of the body
WebSocket                   echoes

What a body is made of follows from its seed: any run of it gives the same bytes.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path
from typing import Any

from apps.hello import Receive, Scope, Send, lifespan
from trickles_web.resumable import Chunks, resumable_stream

FILES, EXECUTIONS = "MIXTURE_FILES", "MIXTURE_EXECUTIONS"
PIECES = 10
PAUSE_S = 0.01


def content(seed: int, length: int) -> bytes:
    return hashlib.shake_128(b"mixture %d" % seed).digest(length)


def event(number: int) -> bytes:
    return b"id: %d\ndata: %d\n\n" % (number, number)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "websocket":
        await _echo(receive, send)
    elif scope["method"] == "POST":
        await _execute(scope["path"][1:], receive, send)
    else:
        kind, *rest = scope["path"][1:].split("/")
        if kind == "file":
            await _file(rest[0], scope, receive, send)
        elif kind == "events":
            await _events(scope, receive, send)
        else:
            data = content(*map(int, rest))
            await _answer(data, send, PIECES if kind == "chunks" else 1)


async def _answer(data: bytes, send: Send, pieces: int = 1) -> None:
    length = [(b"content-length", str(len(data)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": length})
    size = -(-len(data) // pieces)
    for at in range(0, size * pieces, size):
        more = at + size < size * pieces
        await send({"type": "http.response.body", "body": data[at : at + size], "more_body": more})
        if more:
            await asyncio.sleep(PAUSE_S)


async def _file(name: str, scope: Scope, receive: Receive, send: Send) -> None:
    from starlette.responses import FileResponse

    await FileResponse(Path(os.environ[FILES], name))(scope, receive, send)


@resumable_stream("text/event-stream")
async def _events(scope: Scope, state: bytes | None) -> Chunks:
    """The state is the next number."""
    number, count = int(state or 0), int(scope["path"].rpartition("/")[2])
    while number < count:
        yield event(number), str(number + 1)
        number += 1
        await asyncio.sleep(PAUSE_S)


async def _execute(name: str, receive: Receive, send: Send) -> None:
    """One write(2) for each execution: those of several processes do not mix."""
    digest, more = hashlib.sha256(), True
    while more:
        message: Any = await receive()
        if message["type"] == "http.disconnect":
            return
        digest.update(message["body"])
        more = message["more_body"]
    await asyncio.to_thread(_note, name)
    await asyncio.sleep(PAUSE_S)
    await _answer(digest.hexdigest().encode(), send)


def _note(name: str) -> None:
    with open(os.environ[EXECUTIONS], "ab", buffering=0) as file:
        file.write(name.encode() + b"\n")


def executions(file: Path) -> list[str]:
    """The name of each request that was executed, as often as it was."""
    return file.read_text("ascii").split()


async def _echo(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "bytes": message["bytes"]})
