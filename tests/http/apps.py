"""Small applications for the tests of the HTTP layer."""

from __future__ import annotations

import asyncio
import hashlib

from trickles_web.http.scope import Receive, Scope, Send


def get(path: str = "/", *extra: str, method: str = "GET", version: str = "1.1") -> bytes:
    lines = [f"{method} {path} HTTP/{version}", "Host: test", *extra, "", ""]
    return "\r\n".join(lines).encode()


async def read_body(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        assert message["type"] == "http.request"
        body += bytes(message["body"])
        if not message["more_body"]:
            return body


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    headers = [(b"content-length", b"5"), (b"Content-Type", b"text/plain")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"hello"})


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers SHA-256 and length of what was sent."""
    body = await read_body(receive)
    answer = f"{scope['method']} {len(body)} {hashlib.sha256(body).hexdigest()}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": answer})


def stream(chunks: int, size: int) -> bytes:
    return b"".join(i.to_bytes(4, "big") * (size // 4) for i in range(chunks))


async def counting(scope: Scope, receive: Receive, send: Send) -> None:
    """?chunks=size: that many chunks, with a pause after each."""
    chunks, _, size = scope["query_string"].decode().partition("=")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for i in range(int(chunks)):
        piece = i.to_bytes(4, "big") * (int(size) // 4)
        await send({"type": "http.response.body", "body": piece, "more_body": True})
        await asyncio.sleep(0)
    await send({"type": "http.response.body", "body": b""})


class Effects:
    """An unsafe application: counts its executions; the answer has the number."""

    def __init__(self, pauses: int = 3) -> None:
        self.executed: list[bytes] = []
        self.pauses = pauses

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await read_body(receive)
        self.executed.append(body)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(self.pauses):
            await send({"type": "http.response.body", "body": body, "more_body": True})
            await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b"%d" % len(self.executed)})
