"""Reading one HTTP/1.1 request from the bytes assembled so far (RFC 9112). No I/O.

h11 parses; before and after it stand checks of our own, because parsers differ on what they
tolerate, and a request that two of them read differently is how smuggling works (RFC 9112 §11.2).
Whatever is ambiguous is an error, and the flow ends with it.

h11 parses heads only. The end of a body with Content-Length is arithmetic; chunked bodies have a
decoder of their own, whose cost is bounded for each call, whatever the chunks.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

import h11

from trickles_web.http.chunks import ChunkError, Chunks
from trickles_web.http.progress import digest

if TYPE_CHECKING:
    from trickles_web.config import HttpConfig

SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS", "TRACE"))
"""RFC 9110 §9.2.1. Every other method may change something, so it runs at most once."""

MOST_HEADERS = 128
"""Header lines: parsing takes 2 us for each, and each takes more memory than it has bytes."""

MOST_BLANKS = 1024
"""Spaces and tabs in a head: h11 takes 0.3 us for each word of a value."""

MOST_STEP = 65_536
"""Bytes of body looked at in one call: about 80 us for their digest."""

HEADER_OVERHEAD = 136
REQUEST_OVERHEAD = 512
"""Bytes that a header line, and a request without any, cost in memory beside their own."""

_LINE_ROOM = 64
"""Bytes of a request line beside its target: the method, two spaces, the version."""

_VERSION = re.compile(rb" HTTP/[0-9]\.[0-9]").fullmatch
_NUMBER = re.compile(rb"[0-9]{1,18}").fullmatch
_LENGTH_LINE = b"\r\ncontent-length:"
_ONCE = (b"\r\nhost:", _LENGTH_LINE, b"\r\ntransfer-encoding:")
_LOOKED_AT = frozenset((b"content-length", b"transfer-encoding", b"host", b"connection"))


class Malformed:
    """A request that gets an error page: `status`, for the first `length` bytes looked at."""

    __slots__ = ("length", "reason", "status")

    def __init__(self, status: int, reason: str, length: int = 0) -> None:
        self.status = status
        self.reason = reason
        self.length = length


class Request:
    """A whole request of `length` bytes on the wire. Header names are lower-case.

    `size`: bytes of memory without the body. `body` is there once `Reader.take` was called.
    """

    __slots__ = (
        "body",
        "closes",
        "headers",
        "length",
        "method",
        "safe",
        "size",
        "target",
        "version",
    )

    def __init__(
        self,
        method: str,
        target: bytes,
        version: str,
        headers: list[tuple[bytes, bytes]],
        closes: bool,
    ) -> None:
        self.method = method
        self.target = target
        self.version = version
        self.headers = headers
        self.closes = closes
        self.safe = method in SAFE_METHODS
        self.body: bytes | bytearray = b""
        self.length = 0
        self.size = REQUEST_OVERHEAD + len(target)
        for name, value in headers:
            self.size += HEADER_OVERHEAD + len(name) + len(value)


class _Bad(Exception):
    """Carries status and reason to the one place that answers."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Reader:
    """Reads one request. Call `read` with all its contiguous bytes, whenever there are more.

    What one call costs is bounded. If it left something to do it is `behind`, and should be called
    again, with the same bytes or more.
    """

    __slots__ = (
        "_at",
        "_body_at",
        "_body_length",
        "_chunks",
        "_config",
        "_hash",
        "_lines",
        "_request",
        "_seen",
        "behind",
        "name",
        "outcome",
    )

    def __init__(self, config: HttpConfig) -> None:
        self._config = config
        self._request: Request | None = None
        self._body_at = 0
        self._body_length = 0
        self._chunks: Chunks | None = None
        self._hash = hashlib.blake2b(digest_size=8)
        self._at = 0
        """How much of the data is read, and is in the digest."""
        self._seen = 0
        """How much of it was there at the last call."""
        self._lines = 0
        self.behind = False
        self.outcome: Request | Malformed | None = None
        self.name = b""
        """Digest of the request, once there is an outcome."""

    @property
    def size(self) -> int:
        """Bytes of memory that hang on the reader."""
        size = self._request.size if self._request is not None else 0
        return size if self._chunks is None else size + len(self._chunks.body)

    def read(self, data: bytes | bytearray) -> Request | Malformed | None:
        """The request that `data` begins with, what is wrong with it, or None: more is needed."""
        if self.outcome is not None or (len(data) == self._seen and not self.behind):
            return self.outcome
        before = self._at
        try:
            if self._request is None:
                self._read_head(data)
            if self._request is not None and self._read_body(data):
                self._request.length = self._at
                self.outcome = self._request
        except (_Bad, ChunkError) as bad:
            self._absorb(data, min(len(data), self._at + MOST_STEP))
            self.outcome = Malformed(bad.status, str(bad), self._at)
        self._seen = len(data)
        self.behind = self.outcome is None and before < self._at < len(data)
        if self.outcome is not None:
            self.name = self._hash.digest()
        return self.outcome

    def agrees(self, data: bytes | bytearray, stop: int, name: bytes | None) -> bool:
        """False if `name`, where there is one, is not the digest of the first `stop` bytes."""
        if name is None or self.outcome is None or not 0 < stop <= len(data):
            return True
        return name == (self.name if stop == self.outcome.length else digest(data[:stop]))

    def take(self, data: bytes | bytearray) -> None:
        """Give the request its body, once it is whole; a bytearray becomes that body."""
        request = self._request
        assert request is not None
        end = self._body_at + self._body_length
        if self._chunks is not None:
            request.body = self._chunks.body
        elif isinstance(data, bytes):
            request.body = data[self._body_at : end]
        else:
            # Neither end is moved, so that this takes no time however long the body is.
            del data[end:]
            del data[: self._body_at]
            request.body = data

    def _absorb(self, data: bytes | bytearray, stop: int) -> None:
        """Count bytes up to `stop` as read."""
        if stop > self._at:
            with memoryview(data) as view, view[self._at : stop] as part:
                self._hash.update(part)
            self._at = stop

    # The head

    def _read_head(self, data: bytes | bytearray) -> None:
        # One empty line before a request is tolerated (RFC 9112 §2.2).
        begin = 2 if data.startswith(b"\r\n") else 0
        longest = begin + self._config.max_head_bytes
        stop = data.find(b"\r\n\r\n", max(begin, self._seen - 3), longest)
        if stop < 0:
            self._check_unfinished(data, begin)
            return
        head = bytes(data[begin : stop + 4])
        self._check_before(head)
        parser = h11.Connection(h11.SERVER, max_incomplete_event_size=self._config.max_head_bytes)
        try:
            parser.receive_data(head)
            event = parser.next_event()
        except h11.RemoteProtocolError as error:
            raise _Bad(error.error_status_hint, str(error)) from None
        if not isinstance(event, h11.Request):
            raise _Bad(400, "no request")
        request = self._check_after(event, stop + 4)
        self._absorb(data, stop + 4)
        self._request = request

    def _check_unfinished(self, data: bytes | bytearray, begin: int) -> None:
        if len(data) - begin > self._config.max_head_bytes:
            self._too_long(data, begin)
        seen = self._seen
        lines = data.count(b"\n", seen)
        if lines != data.count(b"\r\n", max(0, seen - 1)):
            raise _Bad(400, "bare LF")
        self._lines += lines
        if self._lines > MOST_HEADERS + 2:
            raise _Bad(431, "too many header lines")
        if len(data) > self._config.max_target_bytes + _LINE_ROOM and data.find(b"\r\n", begin) < 0:
            raise _Bad(414, "request target too long")

    def _too_long(self, data: bytes | bytearray, begin: int) -> None:
        line = data.find(b"\r\n", begin)
        if line < 0 or line - begin > self._config.max_target_bytes + _LINE_ROOM:
            raise _Bad(414, "request target too long")
        raise _Bad(431, "request head too long")

    def _check_before(self, head: bytes) -> None:
        """What h11 would let pass, httptools not, or the other way round."""
        lines = head.count(b"\r\n")
        if lines > MOST_HEADERS + 2:
            raise _Bad(431, "too many header lines")
        if head.count(b" ") + head.count(b"\t") > MOST_BLANKS:
            raise _Bad(431, "too many words in header lines")
        if head.count(b"\n") != lines or head.count(b"\r") != lines or b"\0" in head:
            raise _Bad(400, "bare CR, bare LF or NUL")
        if b"\r\n " in head or b"\r\n\t" in head:
            raise _Bad(400, "folded header line")
        line = head[: head.find(b"\r\n")]
        version = line[-9:]
        if version not in (b" HTTP/1.1", b" HTTP/1.0"):
            raise _Bad(505 if _VERSION(version) else 400, "unknown HTTP version")
        # h11 merges equal lengths and "0, 0" into one number.
        folded = head.lower()
        for name in _ONCE:
            if folded.count(name) > 1:
                raise _Bad(400, "repeated " + name[2:-1].decode())
        at = folded.find(_LENGTH_LINE)
        if at >= 0:
            value = folded[at + len(_LENGTH_LINE) : folded.find(b"\r\n", at + 2)]
            if not _NUMBER(value.strip(b" \t")):
                raise _Bad(400, "bad Content-Length")

    def _check_after(self, event: h11.Request, body_at: int) -> Request:
        headers = list(event.headers)
        found: dict[bytes, bytes] = {}
        for name, value in headers:
            if name in _LOOKED_AT:
                # Only Connection can be there twice here.
                found[name] = found[name] + b"," + value if name in found else value
        if len(event.target) > self._config.max_target_bytes:
            raise _Bad(414, "request target too long")
        old = event.http_version == b"1.0"
        if not old and b"host" not in found:
            raise _Bad(400, "no Host")
        length = self._announced(found, old)
        self._body_at, self._body_length = body_at, max(0, length)
        if length < 0:
            self._chunks = Chunks(body_at, self._config.max_body_bytes)
        options = [o.strip() for o in found.get(b"connection", b"").lower().split(b",")]
        return Request(
            event.method.decode("ascii"),
            event.target,
            "1.0" if old else "1.1",
            headers,
            old or b"close" in options,
        )

    def _announced(self, found: dict[bytes, bytes], old: bool) -> int:
        """Bytes of body that the head announces; -1 if chunked."""
        coding = found.get(b"transfer-encoding")
        length = found.get(b"content-length")
        if coding is not None:
            if length is not None or old:
                raise _Bad(400, "Transfer-Encoding beside Content-Length or in HTTP/1.0")
            if coding.lower() != b"chunked":
                raise _Bad(501, "unknown transfer coding")
            return -1
        if length is None:
            return 0
        if int(length) > self._config.max_body_bytes:
            raise _Bad(413, "body too large")
        return int(length)

    # The body

    def _read_body(self, data: bytes | bytearray) -> bool:
        """Go on by one step; True if the body is whole."""
        stop = min(len(data), self._at + MOST_STEP)
        if self._chunks is None:
            end = self._body_at + self._body_length
            self._absorb(data, min(stop, end))
            return self._at == end
        before = self._at
        self._chunks.read(data, stop)
        self._absorb(data, self._chunks.at)
        done = self._chunks.done
        # More than that no spool holds: what is not whole by then never will be.
        full = len(data) >= most_request_bytes(self._config)
        if full and not done and self._at in (before, len(data)):
            raise _Bad(413, "body too large")
        return done


def read_whole(config: HttpConfig, data: bytes) -> Reader:
    """A reader that has come to the end of `data`, which is of one datagram."""
    reader = Reader(config)
    reader.read(data)
    while reader.behind:
        reader.read(data)
    return reader


def most_request_bytes(config: HttpConfig) -> int:
    """Bytes of one request on the wire at most: head, body, and half as much of chunk framing."""
    return config.max_head_bytes + config.max_body_bytes + config.max_body_bytes // 2 + 65_536
