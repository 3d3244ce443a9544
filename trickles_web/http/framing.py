"""The one writer of HTTP/1.1 responses (RFC 9112): status line, header lines, body framing.

An application's headers are written as given, in their order; only Date, Server, and what the
framing needs are added. Whatever could be read as two responses raises instead (RFC 9110 §5.5,
response splitting). Misuse by the application is a RuntimeError, as in uvicorn.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from trickles_web.errors import FramingError, UsageError

if TYPE_CHECKING:
    from trickles_web.config import HttpConfig
    from trickles_web.http.request import Request

SERVER: Final = b"trickles-web"

_TOKEN: Final = re.compile(rb"[-!#$%&'*+.^_`|~0-9a-zA-Z]+").fullmatch
_DIGITS: Final = re.compile(rb"[0-9]{1,18}").fullmatch
_STATUS_LINES: Final = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n".encode() for s in HTTPStatus}

_OWN: Final = frozenset(
    (b"content-length", b"transfer-encoding", b"connection", b"date", b"server")
)


@lru_cache(maxsize=8)
def _date_line(seconds: int) -> bytes:
    return b"date: " + formatdate(seconds, usegmt=True).encode("ascii") + b"\r\n"


@lru_cache(maxsize=1024)
def _own(name: bytes) -> bytes:
    """In lower case if it is one of those that framing has to do with, else b"". Raises
    FramingError for what is no name.
    """
    if not _TOKEN(name):
        raise FramingError(f"Invalid HTTP header name {name!r}.")
    lower = name.lower()
    return lower if lower in _OWN else b""


def plain(data: Any) -> bytes:
    """Whatever an application gives for bytes. Raises TypeError for what is not like them."""
    return data if type(data) is bytes else bytes(memoryview(data))


def plain_headers(headers: Iterable[Any]) -> list[tuple[bytes, bytes]]:
    """An application's header lines: pairs of whatever is like bytes."""
    return [(plain(name), plain(value)) for name, value in headers]


class Framing:
    """One response, written in order: `head`, then `body` for each chunk, then `end`.

    `closes` (no further exchange on this flow) and `length` (bytes of body announced, None if not)
    are known once the head is made.
    """

    __slots__ = (
        "_date",
        "_more",
        "_server",
        "bodiless",
        "chunked",
        "closes",
        "head_only",
        "length",
        "old",
        "written",
    )

    def __init__(
        self,
        *,
        head_only: bool,
        old: bool,
        closes: bool,
        date: int | None,
        server: bool = True,
        more: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        """head_only: the method is HEAD. old: the request was HTTP/1.0. date: unix seconds.
        more: headers that every response has.
        """
        self.head_only = head_only
        self.old = old
        self.closes = closes or old
        self.bodiless = head_only
        self.chunked = False
        self.length: int | None = None
        self.written = 0
        self._date = date
        self._server = server
        self._more = more

    def head(self, status: int, headers: Iterable[tuple[bytes, bytes]], file: int = -1) -> bytes:
        """Status line and headers. `file`: bytes of body, where a file is all of it."""
        lines: list[bytes] = []
        count = 0
        special: dict[bytes, bytes] = {}
        for name, value in headers:
            lines += (name, b": ", value, b"\r\n")
            count += 1
            own = _own(name)
            if own:
                self._note(special, own, value)
        block = b"".join(lines)
        # Every CR and LF in the block must be one of ours: cheaper than looking at each value.
        if block.count(b"\r") != count or block.count(b"\n") != count or 0 in block:
            raise FramingError("CR, LF or NUL in an HTTP header value.")
        opening = self._opening(status, special)
        return b"".join((*opening, block, self._closing(status, special, file)))

    def _note(self, special: dict[bytes, bytes], name: bytes, value: bytes) -> None:
        if name == b"content-length":
            if name in special or not _DIGITS(value):
                raise FramingError(f"Invalid content-length {value!r}.")
            self.length = int(value)
        elif name == b"transfer-encoding":
            if name in special or value.strip().lower() != b"chunked" or self.old:
                raise FramingError(f"Transfer-encoding {value!r} cannot be framed.")
        elif name == b"connection":
            options = [option.strip() for option in value.lower().split(b",")]
            self.closes = self.closes or b"close" in options
        special[name] = value

    def _opening(self, status: int, special: dict[bytes, bytes]) -> list[bytes]:
        line = _STATUS_LINES.get(status)
        if line is None:
            if not 200 <= status <= 999:
                raise FramingError(f"Invalid status code {status}.")
            line = b"HTTP/1.1 %d \r\n" % status
        elif status < 200:
            raise FramingError(f"Status {status} is not a final response.")
        opening = [line]
        if self._date is not None and b"date" not in special:
            opening.append(_date_line(self._date))
        if self._server and b"server" not in special:
            opening.append(b"server: " + SERVER + b"\r\n")
        for name, value in self._more:
            opening.append(b"%b: %b\r\n" % (name, value))
        return opening

    def _closing(self, status: int, special: dict[bytes, bytes], file: int) -> bytes:
        encoded = b"transfer-encoding" in special
        if encoded and self.length is not None:
            raise FramingError("Both content-length and transfer-encoding.")
        self.bodiless = self.head_only or status in (204, 304)
        added = b""
        if self.length is None and not encoded and file >= 0:
            self.length = file
            added = b"content-length: %d\r\n" % file
        elif self.length is None and not encoded and status not in (204, 304):
            if self.old:
                self.closes = True
            else:
                encoded = True
                added = b"transfer-encoding: chunked\r\n"
        if file >= 0 and (encoded or self.length != file):
            raise FramingError("Content-length is not that of the file.")
        self.chunked = encoded and not self.bodiless
        if self.closes and b"close" not in special.get(b"connection", b"").lower():
            added += b"connection: close\r\n"
        return added + b"\r\n"

    def body(self, chunk: bytes) -> bytes:
        """Bytes on the wire for a chunk of body."""
        if not chunk or self.bodiless:
            return b""  # of a response that has none whatever the application gives
        self.written += len(chunk)
        if self.chunked:
            return b"%x\r\n%b\r\n" % (len(chunk), chunk)
        if self.length is not None and self.written > self.length:
            raise FramingError("Response content longer than Content-Length")
        return chunk

    def end(self) -> bytes:
        """What ends the body."""
        if self.chunked:
            return b"0\r\n\r\n"
        if not self.bodiless and self.length is not None and self.written < self.length:
            raise FramingError("Response content shorter than Content-Length")
        return b""


def check_headers(headers: Iterable[tuple[str, str]]) -> None:
    """Can these be headers of every response? Raises UsageError."""
    for name, value in headers:
        try:
            known = _own(name.encode("ascii"))
            value.encode("latin-1")
        except (FramingError, UnicodeEncodeError):
            known = b"?"
        if known not in (b"", b"server", b"date") or any(c in value for c in "\r\n\0"):
            raise UsageError(f"--header {name}:{value}: it cannot be a header of every response")


def default_headers(config: HttpConfig, date: int) -> list[tuple[bytes, bytes]]:
    """Those that a response has if nobody says otherwise; date: unix seconds."""
    headers = [(b"date", formatdate(date, usegmt=True).encode())] if config.date_header else []
    if config.server_header:
        headers.append((b"server", SERVER))
    return [*headers, *config.headers]


def framing_of(config: HttpConfig, request: Request, date: int) -> Framing:
    """The framing of a response to `request`; date: unix seconds."""
    head_only, old = request.method == "HEAD", request.version == "1.0"
    return _framing(config, date, head_only=head_only, old=old, closes=request.closes)


def _framing(config: HttpConfig, date: int, *, head_only: bool, old: bool, closes: bool) -> Framing:
    return Framing(
        head_only=head_only,
        old=old,
        closes=closes,
        date=date if config.date_header else None,
        server=config.server_header,
        more=config.headers,
    )


def error_page(
    config: HttpConfig,
    status: int,
    *,
    head_only: bool,
    date: int,
    closes: bool = True,
    extra: Iterable[tuple[bytes, bytes]] = (),
    text: str = "",
) -> bytes:
    """A whole plain-text response of our own; date: unix seconds."""
    framing = _framing(config, date, head_only=head_only, old=False, closes=closes)
    body = (text or HTTPStatus(status).phrase).encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", b"%d" % len(body)),
        *extra,
    ]
    return framing.head(status, headers) + framing.body(body)
