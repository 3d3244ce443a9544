"""Trickles for libraries without a hook: `socket.create_connection` goes another way for a while.

    with routed({"127.0.0.1:8000"}):
        urllib.request.urlopen("http://127.0.0.1:8000/")

What connects by other means (asyncio, urllib3, anything in C) is not reached by it.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from trickles_web.client.flow_socket import create_connection
from trickles_web.config import ClientConfig
from trickles_web.errors import UsageError

Place = tuple[str, int | None]
"""Host in lower case, and the port; None is any port."""

_PLACE = re.compile(r"(?:\[([^\s\[\]]+)\]|([^\s:/@\[\]]+))(?::(\d{1,5}))?", re.ASCII)

_lock = threading.Lock()
Route = tuple[frozenset[Place], ClientConfig | None]
_routes: list[Route] = []
"""Of every `routed` that is in force, in whatever thread."""
_original: Callable[..., socket.socket] = socket.create_connection


@contextlib.contextmanager
def routed(places: Iterable[str], *, config: ClientConfig | None = None) -> Iterator[None]:
    """In the body, `socket.create_connection` makes flows to these places, in all threads.

    `places`: "host" (all ports) or "host:port" each, IPv6 addresses in brackets. Hosts are compared
    as they are written, without a look at their addresses. `config`: of these flows, which may be
    private. Raises UsageError for anything else.
    """
    global _original
    route = frozenset(place(text) for text in places), config
    with _lock:
        if not _routes:
            _original = socket.create_connection
            socket.create_connection = _connect  # type: ignore[assignment]
        _routes.append(route)
    try:
        yield
    finally:
        with _lock:
            _routes.remove(route)
            if not _routes:
                socket.create_connection = _original


def _connect(address: tuple[str, int], *arguments: Any, **keywords: Any) -> socket.socket:
    host, port = address[0].lower(), address[1]
    for places, config in reversed(_routes):
        if (host, port) in places or (host, None) in places:
            keywords.pop("all_errors", None)  # there is one address to a flow, and one error
            return create_connection(address, *arguments, config=config, **keywords)
    return _original(address, *arguments, **keywords)


def place(text: str) -> Place:
    """Read "host" or "host:port". Raises UsageError."""
    match = _PLACE.fullmatch(text.lower())
    if match is None:
        raise UsageError(f"bad place {text!r}: give HOST or HOST:PORT, such as 127.0.0.1:8000")
    return match[1] or match[2], int(match[3]) if match[3] else None
