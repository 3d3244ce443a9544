"""Streams that outlive the process which makes them, for any ASGI application.

    @resumable_stream("text/event-stream")
    async def events(scope, state):
        number = int(state or 0)
        while True:
            yield f"data: {number}\\n\\n", str(number + 1)
            number += 1
            await asyncio.sleep(1)

`events` is an ASGI application then: a route of Starlette's (`Route("/", endpoint=events)`), or the
whole of it. What it yields is a chunk and the state after it, bytes or text, at most 512 bytes once
encoded. The state is all that another process gets to go on from there: `None` at first, and then
the last one whose chunk the client has; an empty one is `None` as well. So a chunk must follow from
the state, from the request, and from what all processes share; whatever else it is made of may
change from process to process.

A state of None beside a chunk stands for none. Keep less than 1 MiB between states.
On a server that knows no checkpoints this is an ordinary stream.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, MutableMapping
from contextlib import aclosing
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]
Text = bytes | str
Chunks = AsyncGenerator[tuple[Text, Text | None], None]
EXTENSION = "trickles.checkpoint"


def _encoded(text: Text) -> bytes:
    return text.encode() if isinstance(text, str) else text


class ResumableStream:
    """An ASGI application that answers with the chunks of one generator: see the module."""

    def __init__(
        self, chunks: Callable[[Scope, bytes | None], Chunks], media_type: str, headers: Headers
    ) -> None:
        """`chunks(scope, state)`; state is None for a first call. `headers`: sent in addition."""
        self._chunks = chunks
        self._headers = [(b"content-type", media_type.encode("latin-1")), *headers]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise NotImplementedError(f"scope type {scope['type']!r}")
        state = scope.get("extensions", {}).get(EXTENSION, {}).get("state") or None
        await send({"type": "http.response.start", "status": 200, "headers": self._headers})
        # At once, so that the head can go out before the first chunk is there, and be gone on from.
        head = {"type": "http.response.body", "body": b"", "more_body": True}
        await send({**head, EXTENSION: state or b""})
        async with aclosing(self._chunks(scope, state)) as chunks:
            async for chunk, after in chunks:
                message = {
                    "type": "http.response.body",
                    "body": _encoded(chunk),
                    "more_body": True,
                }
                if after is not None:
                    message[EXTENSION] = _encoded(after)
                await send(message)
        await send({"type": "http.response.body", "body": b""})


def resumable_stream(
    media_type: str, headers: Headers = ()
) -> Callable[[Callable[[Scope, bytes | None], Chunks]], ResumableStream]:
    """Make an ASGI application of an async generator function `f(scope, state)`."""

    def decorate(chunks: Callable[[Scope, bytes | None], Chunks]) -> ResumableStream:
        return ResumableStream(chunks, media_type, headers)

    return decorate
