"""The parsers a request head can be given to: h11, which everyone has, or httptools, which is fast.

Both see a whole head that `heads.check` let pass, and nothing after it: what they make of bodies,
upgrades and the connection's state is of no interest here.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from typing import Final, NamedTuple

import h11

from trickles_web.errors import UsageError
from trickles_web.http.heads import RequestError

NAMES: Final = ("auto", "h11", "httptools")


class Head(NamedTuple):
    """A request head. Header names are lower-case; values have no blanks at their ends."""

    method: str
    target: bytes
    version: str
    headers: list[tuple[bytes, bytes]]


Parse = Callable[[bytes], Head]
"""Raises RequestError."""


@lru_cache(maxsize=8)
def parser(name: str) -> Parse:
    """`auto` is httptools where it is installed. Raises UsageError."""
    if name not in NAMES:
        raise UsageError(f"--http {name}: give one of {', '.join(NAMES)}")
    if name == "h11":
        return parse_with_h11
    try:
        return ParseWithHttptools()
    except ImportError:
        if name == "auto":
            return parse_with_h11
        raise UsageError("--http httptools: pip install 'trickles-web[speed]'") from None


@lru_cache(maxsize=8)
def speaks_websocket(name: str) -> bool:
    """`auto`: if wsproto is installed. Raises UsageError."""
    if name not in ("auto", "wsproto", "none"):
        raise UsageError(f"--ws {name}: give auto, wsproto or none")
    installed = name != "none" and find_spec("wsproto") is not None
    if name == "wsproto" and not installed:
        raise UsageError("--ws wsproto: pip install 'trickles-web[ws]'")
    return installed


def parse_with_h11(data: bytes) -> Head:
    """The reference: any method that is a token."""
    connection = h11.Connection(h11.SERVER)
    try:
        connection.receive_data(data)
        event = connection.next_event()
    except h11.RemoteProtocolError as error:
        raise RequestError(error.error_status_hint, str(error)) from None
    if not isinstance(event, h11.Request):
        raise RequestError(400, "no request")
    version = event.http_version.decode("ascii")
    return Head(event.method.decode("ascii"), event.target, version, list(event.headers))


class ParseWithHttptools:
    """httptools knows only the methods of its list, takes some of them for other protocols, and is
    strict in places that change with its version. What it does not like, h11 decides.
    """

    def __init__(self) -> None:
        """Raises ImportError."""
        # In a compiled module an import statement looks only once, whatever happens meanwhile.
        httptools = import_module("httptools")
        self._parser = httptools.HttpRequestParser
        self._error = httptools.HttpParserError
        self._upgrade = httptools.HttpParserUpgrade

    def __call__(self, data: bytes) -> Head:
        lines = _Lines()
        parser = self._parser(lines)
        # Once the head is complete, what it thinks of the rest does not matter.
        with suppress(self._upgrade, self._error):
            parser.feed_data(data)
        if not lines.complete:
            return parse_with_h11(data)
        method = parser.get_method().decode("ascii")
        return Head(method, lines.target, parser.get_http_version(), lines.headers)


class _Lines:
    """What httptools calls back. It is fed once, so each of these comes in one piece."""

    __slots__ = ("complete", "headers", "target")

    def __init__(self) -> None:
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.complete = False

    def on_url(self, url: bytes) -> None:
        self.target = url

    def on_header(self, name: bytes, value: bytes) -> None:
        name, value = name.lower(), value.rstrip(b" \t")
        if name == b"transfer-encoding":
            value = value.lower()  # as h11 does: its case means nothing (RFC 9112 §7)
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.complete = True
