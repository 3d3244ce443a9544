"""The application that all servers of a comparison run: plain ASGI, so that it costs them little.

GET /            a few bytes
GET /bytes/N     N bytes, in one message
POST /sink       how many bytes came
GET /files/NAME  a file of $LOADTEST_FILES, as Starlette sends it
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

from apps.hello import HEADERS, Receive, Scope, Send, lifespan

BODY = b"Hello, world!\n"
FILES = "LOADTEST_FILES"
_KEPT = 32


@functools.lru_cache(_KEPT)
def body_of(size: int) -> bytes:
    """Made once: what is compared is how it is sent."""
    return bytes(range(256)) * (size // 256) + bytes(range(size % 256))


def _length(size: int) -> list[tuple[bytes, bytes]]:
    return [
        (b"content-type", b"application/octet-stream"),
        (b"content-length", str(size).encode()),
    ]


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    path: str = scope["path"]
    headers, body, status = HEADERS, BODY, 200
    if path.startswith("/bytes/"):
        body = body_of(int(path[7:]))
        headers = _length(len(body))
    elif path == "/sink":
        body = str(await _count(receive)).encode()
        headers = _length(len(body))
    elif path.startswith("/files/"):
        await _file(scope, receive, send)
        return
    elif path != "/":
        status = 404
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _count(receive: Receive) -> int:
    total, more = 0, True
    while more:
        message = await receive()
        total += len(message.get("body", b""))
        more = message.get("more_body", False)
    return total


async def _file(scope: Scope, receive: Receive, send: Send) -> None:
    from starlette.responses import FileResponse

    path = Path(os.environ[FILES], Path(scope["path"]).name)
    await FileResponse(path)(scope, receive, send)
