"""The smallest ASGI application that is complete: no framework, no dependency.

    trickles-serve apps.hello:app
    uvicorn apps.hello:app

It shows what a bare application owes its server for each scope type of ASGI 3.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

BODY = b"Hello, world!\n"
HEADERS = [
    (b"content-type", b"text/plain; charset=utf-8"),
    (b"content-length", str(len(BODY)).encode("ascii")),
]
POLICY_VIOLATION = 1008
"""WebSocket close code (RFC 6455 §7.4.1); before the handshake a server turns it into a 403."""


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer every HTTP request alike, whatever its method, path and body."""
    if scope["type"] == "http":
        # The body is of no interest, and ASGI lets an application leave it unread.
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        await send({"type": "http.response.body", "body": BODY})
    elif scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": POLICY_VIOLATION})
    else:
        # The specification asks for an exception here: it tells the server "not supported".
        raise NotImplementedError(f"scope type {scope['type']!r}")


async def lifespan(receive: Receive, send: Send) -> None:
    """Nothing to open and nothing to close, but the server waits for both answers."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            await send({"type": "lifespan.shutdown.complete"})
            return
