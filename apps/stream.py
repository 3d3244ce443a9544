"""Server-sent events that survive `kill -9` of the process that sends them.

    trickles-serve apps.stream:app --gateway 127.0.0.1:8080
    curl -N http://127.0.0.1:8080/?count=1000

Consecutive numbers, one every 50 ms, from 0, or behind `Last-Event-ID` or `?after=`. No number is
lost and none comes twice, whichever process has sent the one before; `by` says which one it was.
"""

from __future__ import annotations

import asyncio
import os
from urllib.parse import parse_qs

from apps.hello import Receive, Scope, Send, lifespan
from trickles_web.resumable import Chunks, resumable_stream

INTERVAL_S = 0.05
MOST_EVENTS = 10**9


def _first(scope: Scope) -> int:
    """The number to begin with: that after the last which a reconnecting client has seen.

    A browser that reconnects by itself has the header; a page that begins anew has the query.
    """
    for name, value in scope["headers"]:
        if name.lower() == b"last-event-id" and value.isdigit():
            return min(int(value[:10]) + 1, MOST_EVENTS)
    return min(_number(scope, "after", -1) + 1, MOST_EVENTS)


def _count(scope: Scope) -> int:
    """How many numbers there are; endless unless told."""
    return min(_number(scope, "count", MOST_EVENTS), MOST_EVENTS)


def _number(scope: Scope, name: str, default: int) -> int:
    """Of the query; the default if it has none."""
    given = parse_qs(scope["query_string"].decode("latin-1")).get(name, [""])[0]
    return int(given[:10]) if given.isdecimal() else default


@resumable_stream("text/event-stream", [(b"cache-control", b"no-store")])
async def events(scope: Scope, state: bytes | None) -> Chunks:
    """The state is the next number."""
    number = _first(scope) if state is None else int(state)
    while number < _count(scope):
        yield f"id: {number}\ndata: {number} by {os.getpid()}\n\n", str(number + 1)
        number += 1
        await asyncio.sleep(INTERVAL_S)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """The stream, at any path."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "http":
        await events(scope, receive, send)
    else:
        raise NotImplementedError(f"scope type {scope['type']!r}")
