"""The application that the client's tests talk to, over real sockets.

Bodies come from `pattern`, so that any byte that is missing, doubled or swapped shows.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from trickles_web.config import HttpConfig

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

CHUNK = 32 * 1024

disconnected = threading.Event()
"""Set when /endless, or a WebSocket, has seen its client go."""
posted: list[bytes] = []
"""Bodies that came to /post."""
tries: dict[str, int] = {}
"""How often each name was asked for at /flaky."""
messages: list[str | None] = []
"""What came by WebSocket."""


_UNIT = b"".join(number.to_bytes(3, "big") for number in range(65_521))


def pattern(size: int) -> bytes:
    """`size` bytes, of a period that is no power of two."""
    body: bytes = _UNIT * (size // len(_UNIT) + 1)
    return body[:size]


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        return await (echo if scope["path"] == "/echo" else listen)(receive, send)
    assert scope["type"] == "http"
    name, _, argument = scope["path"].strip("/").partition("/")
    if name == "half":
        return await half(scope, send)
    await ROUTES.get(name, missing)(argument, receive, send)


async def start(send: Send, *headers: tuple[bytes, bytes], status: int = 200) -> None:
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})


async def finish(send: Send, body: bytes = b"") -> None:
    await send({"type": "http.response.body", "body": body})


async def missing(argument: str, receive: Receive, send: Send) -> None:
    await start(send, (b"content-length", b"10"), status=404)
    await finish(send, b"not here.\n")


async def answer(argument: str, receive: Receive, send: Send) -> None:
    """/bytes/N: N bytes with a Content-Length."""
    body = pattern(int(argument))
    await start(send, (b"content-length", str(len(body)).encode()), (b"X-Case", b"Kept"))
    for at in range(0, len(body), CHUNK):
        await send({"type": "http.response.body", "body": body[at : at + CHUNK], "more_body": True})
    await finish(send)


async def body_of(receive: Receive) -> bytes:
    body: bytes = b""
    while True:
        message = await receive()
        assert message["type"] == "http.request", message["type"]
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body


async def digest(argument: str, receive: Receive, send: Send) -> None:
    """/digest: the SHA-256 of the request's body."""
    text = hashlib.sha256(await body_of(receive)).hexdigest().encode()
    await start(send, (b"content-length", str(len(text)).encode()))
    await finish(send, text)


async def post(argument: str, receive: Receive, send: Send) -> None:
    """/post: keeps the body."""
    posted.append(await body_of(receive))
    await start(send, (b"content-length", b"0"))
    await finish(send)


async def last(argument: str, receive: Receive, send: Send) -> None:
    """/last/N: the flow ends behind it."""
    body = pattern(int(argument))
    await start(send, (b"content-length", str(len(body)).encode()), (b"connection", b"close"))
    await finish(send, body)


async def broken(argument: str, receive: Receive, send: Send) -> None:
    """/broken: fails when the client has a part for certain: more was taken than is buffered."""
    size = HttpConfig().response_buffer_bytes + 1_000_000
    await start(send, (b"content-length", str(size + 1).encode()))
    body = pattern(size)
    for at in range(0, size, CHUNK):
        await send({"type": "http.response.body", "body": body[at : at + CHUNK], "more_body": True})
    raise RuntimeError("this application fails half-way, as it was asked to")


async def endless(argument: str, receive: Receive, send: Send) -> None:
    """/endless: one line, then nothing until the client has gone."""
    await body_of(receive)
    await start(send, (b"content-type", b"text/event-stream"))
    await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
    message = await receive()
    assert message["type"] == "http.disconnect"
    disconnected.set()


async def listen(receive: Receive, send: Send) -> None:
    """A WebSocket that says nothing."""
    try:
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            messages.append(message["text"])
    finally:
        disconnected.set()


async def echo(receive: Receive, send: Send) -> None:
    """A WebSocket that says what it hears."""
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


async def redirect(argument: str, receive: Receive, send: Send) -> None:
    """/redirect/path/P: to /P. /redirect/http/P: to http://P."""
    kind, _, place = argument.partition("/")
    location = f"http://{place}" if kind == "http" else f"/{place}"
    await start(send, (b"location", location.encode()), (b"content-length", b"0"), status=302)
    await finish(send)


async def upload(argument: str, receive: Receive, send: Send) -> None:
    """/upload: what came, in a line."""
    body = await body_of(receive)
    text = b"%d bytes, %s" % (len(body), hashlib.sha256(body).hexdigest().encode())
    await start(send, (b"content-length", str(len(text)).encode()))
    await finish(send, text)


async def flaky(argument: str, receive: Receive, send: Send) -> None:
    """/flaky/NAME/STATUS/N: N times that status, then a line; counted by name."""
    name, status, times = argument.split("/")
    await body_of(receive)
    tries[name] = tries.get(name, 0) + 1
    if tries[name] > int(times):
        await start(send, (b"content-length", b"5"))
        return await finish(send, b"good\n")
    headers = [(b"content-length", b"4")]
    if status == "429":
        headers.append((b"retry-after", b"0"))
    await start(send, *headers, status=int(status))
    await finish(send, b"bad\n")


async def half(scope: Scope, send: Send) -> None:
    """/half: breaks off as /broken does, but not if it is asked for `Range: bytes=N-`."""
    size = HttpConfig().response_buffer_bytes + 1_000_000
    fields = dict(scope["headers"])
    begin = int(fields.get(b"range", b"bytes=0-").removeprefix(b"bytes=").rstrip(b"-"))
    if fields.get(b"if-range", b'"half"') != b'"half"':
        begin = 0
    headers = [(b"etag", b'"half"'), (b"content-length", str(size + 9 - begin).encode())]
    if begin:
        headers.append((b"content-range", b"bytes %d-%d/%d" % (begin, size + 8, size + 9)))
    await start(send, *headers, status=206 if begin else 200)
    if begin:
        return await finish(send, pattern(size + 9)[begin:])
    body = pattern(size)
    for at in range(0, size, CHUNK):
        await send({"type": "http.response.body", "body": body[at : at + CHUNK], "more_body": True})
    raise RuntimeError("this application fails half-way, as it was asked to")


async def changing(argument: str, receive: Receive, send: Send) -> None:
    """/changing/TAG/N: N bytes with that entity tag, and no ranges."""
    tag, _, size = argument.partition("/")
    body = pattern(int(size))
    length = str(len(body)).encode()
    await start(send, (b"content-length", length), (b"etag", b'"%s"' % tag.encode()))
    await finish(send, body)


ROUTES = {
    "upload": upload,
    "flaky": flaky,
    "changing": changing,
    "bytes": answer,
    "digest": digest,
    "post": post,
    "last": last,
    "broken": broken,
    "endless": endless,
    "redirect": redirect,
}
