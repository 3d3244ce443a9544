"""An application that is talked with: each path ends in another way."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from trickles_web.http.scope import Receive, Scope, Send

ACCEPT = {"type": "websocket.accept"}
CHOSEN = {**ACCEPT, "subprotocol": "b", "headers": [(b"x-chosen", b"b")]}
CLOSE = {"type": "websocket.close"}
GOODBYE = {**CLOSE, "code": 4001, "reason": "grüße"}
DENIED = {"type": "websocket.http.response.start", "status": 418, "headers": [(b"x-why", b"tea")]}
BODY = {"type": "websocket.http.response.body", "body": b"a teapot"}

SAID: dict[str, list[dict[str, Any]]] = {
    "/closes": [ACCEPT, GOODBYE],
    "/returns": [ACCEPT],
    "/raises": [ACCEPT],
    "/refuses": [CLOSE],
    "/denies": [DENIED, BODY],
    "/breaks": [],
    "/silent": [],
}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Echoes, unless the path says otherwise."""
    assert scope["type"] in ("http", "websocket")
    path = scope["path"]
    if scope["type"] == "http":
        await take(receive, send)
        return
    await receive()
    if path in SAID:
        for message in SAID[path]:
            await send(message)
        if path in ("/raises", "/breaks"):
            raise ValueError("on purpose")
        return
    await send(CHOSEN if path == "/chooses" else ACCEPT)
    if path.startswith("/scope"):
        await send({"type": "websocket.send", "text": json.dumps(told(scope))})
    while (message := dict(await receive()))["type"] == "websocket.receive":
        kind = "bytes" if message.get("text") is None else "text"
        await send({"type": "websocket.send", kind: message[kind]})


def told(scope: Scope) -> dict[str, str]:
    """The scope but for what differs from one connection to the next."""
    left_out = ("client", "server", "headers", "state")
    return {name: repr(value) for name, value in sorted(scope.items()) if name not in left_out}


async def take(receive: Receive, send: Send) -> None:
    """Answers the digest of what was sent."""
    digest, more = hashlib.sha256(), True
    while more:
        part = await receive()
        digest.update(part["body"])
        more = part["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": digest.hexdigest().encode()})
