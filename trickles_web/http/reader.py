"""Reading one HTTP/1.1 request from the bytes assembled so far (RFC 9112). No I/O.

A head is checked (`heads`), parsed by h11 or httptools (`parsers`), and checked again for what it
says (`blocks`). Whatever is ambiguous is an error, and the flow ends with it.

Parsers get heads only. The end of a body with Content-Length is arithmetic; chunked bodies have a
decoder of their own, whose cost is bounded for each call, whatever the chunks.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Final

from trickles_web.http import heads
from trickles_web.http.blocks import Block, read_block
from trickles_web.http.chunks import ChunkError, Chunks
from trickles_web.http.heads import CHUNKED, ENDLESS, LINE_ROOM, MOST_HEADERS, RequestError
from trickles_web.http.intake import WINDOW, Intake
from trickles_web.http.names import hasher
from trickles_web.http.parsers import parser, speaks_websocket
from trickles_web.http.request import Malformed, Request
from trickles_web.state.backing import Backing, Disk, DiskError

if TYPE_CHECKING:
    from trickles_web.config import HttpConfig

MOST_STEP: Final = 65_536
"""Bytes of body looked at in one call: about 80 us for their digest."""

MOST_COMPARED: Final = 1 << 20
"""Bytes that go into a digest of other than the whole request in one call: more than a datagram."""

logger = logging.getLogger("trickles.error")


class Reader:
    """Reads one request. Call `read` with all its contiguous bytes, whenever there are more.

    What one call costs is bounded. If it left something to do it is `behind`, and should be called
    again, with the same bytes or more.
    """

    __slots__ = (
        "_at",
        "_at_compared",
        "_body_at",
        "_body_length",
        "_chunks",
        "_compared",
        "_config",
        "_disk",
        "_hash",
        "_lines",
        "_parse",
        "_request",
        "_seen",
        "_upto",
        "behind",
        "name",
        "outcome",
    )

    def __init__(self, config: HttpConfig, disk: Disk | None = None) -> None:
        """disk: for long chunked bodies; None: all that is read came in one datagram.

        Raises UsageError if the configuration's parser is not there.
        """
        self._config = config
        self._disk = disk
        self._parse = parser(config.http)
        self._request: Request | None = None
        self._body_at = 0
        self._body_length = 0
        self._chunks: Chunks | None = None
        self._hash = hasher()
        self._at = 0
        """How much of the data is read, and is in the digest."""
        self._seen = 0
        """How much of it was there at the last call."""
        self._compared = self._hash
        self._at_compared = 0
        self._upto = 0
        """A digest of the first so many bytes in the making, and how many are in it."""
        self._lines = 0
        self.behind = False
        self.outcome: Request | Malformed | None = None
        self.name = b""
        """Digest of the request, once there is an outcome."""

    @property
    def size(self) -> int:
        """Bytes of memory that hang on the reader."""
        size = self._request.size if self._request is not None else 0
        return size if self._chunks is None else size + self._chunks.body.memory_bytes

    @property
    def expects_continue(self) -> bool:
        """The head is here and all right, nothing of the body is, and the client waits for 100."""
        request = self._request
        if request is None or self.outcome is not None or self._seen > self._body_at:
            return False
        return request.expects_continue

    def read(self, data: bytes | Backing) -> Request | Malformed | None:
        """The request that `data` begins with, what is wrong with it, or None: more is needed.

        Raises DiskError, and then there is nothing to be read any more but `refuse`.
        """
        if self.outcome is not None or (len(data) == self._seen and not self.behind):
            return self.outcome
        before = self._at
        try:
            if self._request is None:
                self._read_head(data)
            request = self._request
            if request is not None and (request.streamed or self._read_body(data)):
                request.length = self._at
                self.outcome = request
        except (RequestError, ChunkError) as bad:
            self._absorb(data, min(len(data), self._at + MOST_STEP))
            self.outcome = Malformed(bad.status, str(bad), self._at)
        self._seen = len(data)
        self.behind = self.outcome is None and before < self._at < len(data)
        if self.outcome is not None:
            self.name = self._hash.digest()
        return self.outcome

    def refuse(self, status: int, reason: str) -> None:
        """There will not be more: an error page for what was read so far."""
        if self.outcome is None:
            self.outcome = Malformed(status, reason, self._at)
            self.name = self._hash.digest()
            self.behind = False

    def agrees(self, data: bytes | Backing, stop: int, name: bytes | None) -> bool | None:
        """False if `name`, where there is one, is not the digest of the first `stop` bytes.

        None: call again with the same, there are too many for one call. What cannot be read back
        does not agree.
        """
        if name is None or not 0 < stop <= len(data):
            return True
        if self.outcome is not None and stop == self.outcome.length:
            return name == self.name
        if stop != self._upto:
            known = stop >= self._at
            self._compared = self._hash.copy() if known else hasher()
            self._at_compared, self._upto = self._at if known else 0, stop
        upto = min(stop, self._at_compared + MOST_COMPARED)
        try:
            for block in _blocks(data, self._at_compared, upto):
                self._compared.update(block)
        except DiskError:
            return False
        self._at_compared = upto
        return name == self._compared.digest() if upto == stop else None

    def close(self) -> None:
        """Give back what is on disk, if nobody took it."""
        if self._chunks is not None:
            self._chunks.body.close()

    def take(self, data: bytes | Backing, start: int) -> None:
        """Give the request its body, once it is whole; `data` begins at stream offset `start`.

        From a backing it is another one, which the taker has to close; `data` is empty then, or
        done with.
        """
        request = self._request
        assert request is not None
        if request.streamed:
            most = self._config.max_body_bytes
            request.intake = Intake(start + self._body_at, self._body_length, most)
            # What has no place is not acknowledged, and so comes again.
            request.intake.take(start + self._body_at, data[self._body_at :][:WINDOW])
            return
        end = self._body_at + self._body_length
        if self._chunks is not None:
            body = self._chunks.body
            request.body = body[:] if isinstance(data, bytes) else body.moved()
        elif isinstance(data, bytes):
            request.body = data[self._body_at : end]
        else:
            # No byte is moved, so that this takes no time however long the body is.
            data.cut_back(end)
            data.cut_front(self._body_at)
            request.body = data.moved()

    def _absorb(self, data: bytes | Backing, stop: int) -> None:
        """Count bytes up to `stop` as read."""
        if stop > self._at:
            for block in _blocks(data, self._at, stop):
                self._hash.update(block)
            self._at = stop

    # The head

    def _read_head(self, data: bytes | Backing) -> None:
        # One empty line before a request is tolerated (RFC 9112 §2.2).
        begin = 2 if data.startswith(b"\r\n") else 0
        longest = begin + self._config.max_head_bytes
        stop = data.find(b"\r\n\r\n", max(begin, self._seen - 3), longest)
        if stop < 0:
            self._check_unfinished(data, begin)
            return
        head = data[begin : stop + 4]
        method, target, old, lines_at = heads.read_line(head, self._config)
        block = read_block(head[lines_at:], old, self._parse)
        length = block.length
        if length > self._config.max_body_bytes:
            raise RequestError(413, "body too large")
        request = self._request_of(method, target, old, block)
        self._absorb(data, stop + 4)
        if request.websocket and length:
            raise RequestError(400, "a body where a WebSocket is to begin")
        self._body_at, self._body_length = stop + 4, max(0, length)
        request.expects_continue = request.expects_continue and length != 0
        if request.websocket or (length and not self._config.request_buffering):
            request.streamed, request.safe = True, False
            self._body_length = ENDLESS if request.websocket else length
        elif length == CHUNKED:
            self._chunks = Chunks(stop + 4, self._config.max_body_bytes, self._backing())
        self._request = request

    def _backing(self) -> Backing:
        if self._disk is None:
            return Backing(Disk(0), self._config.max_body_bytes)
        return Backing(self._disk)

    def _check_unfinished(self, data: bytes | Backing, begin: int) -> None:
        if len(data) - begin > self._config.max_head_bytes:
            self._too_long(data, begin)
        seen = self._seen
        lines = data.count(b"\n", seen)
        if lines != data.count(b"\r\n", max(0, seen - 1)):
            raise RequestError(400, "bare LF")
        self._lines += lines
        if self._lines > MOST_HEADERS + 2:
            raise RequestError(431, "too many header lines")
        if len(data) > self._config.max_target_bytes + LINE_ROOM and data.find(b"\r\n", begin) < 0:
            raise RequestError(414, "request target too long")

    def _too_long(self, data: bytes | Backing, begin: int) -> None:
        longest = self._config.max_target_bytes + LINE_ROOM
        if data.find(b"\r\n", begin, begin + longest + 2) < 0:
            raise RequestError(414, "request target too long")
        raise RequestError(431, "request head too long")

    def _request_of(self, method: str, target: bytes, old: bool, block: Block) -> Request:
        """What the head says, as far as it concerns a server."""
        if target.startswith((b"/", b"*")):
            headers = block.headers.copy()
        else:
            target, authority = heads.resolve(method, target)
            headers = _with_host(block.headers, authority)
        options = block.options
        request = Request(
            method,
            target,
            "1.0" if old else "1.1",
            headers,
            old or b"close" in options,
            self._config.never_rerun,
            block.size,
        )
        request.expects_continue = block.expects_continue and not old  # RFC 9110 §10.1.1
        if b"upgrade" in options and method == "GET" and not old:
            request.websocket = self._may_upgrade(block.upgrade)
        return request

    def _may_upgrade(self, protocol: bytes) -> bool:
        """Whether a WebSocket begins (RFC 6455 §4.2.1); any other upgrade is not made."""
        is_websocket = protocol.strip().lower() == b"websocket"
        if is_websocket and speaks_websocket(self._config.ws):
            return True
        if is_websocket and self._config.ws == "auto":
            _say_what_is_missing()
        else:
            logger.warning("Unsupported upgrade request.")
        return False

    # The body

    def _read_body(self, data: bytes | Backing) -> bool:
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
            raise RequestError(413, "body too large")
        return done


@cache
def _say_what_is_missing() -> None:
    """Once in each process: who wants WebSockets cannot know of an extra."""
    logger.warning(
        "Unsupported upgrade request: WebSockets need wsproto (pip install 'trickles-web[ws]')"
    )


def _blocks(data: bytes | Backing, start: int, stop: int) -> Iterable[bytes]:
    """Bytes [start, stop) in bounded pieces; a datagram's are one."""
    return (data[start:stop],) if isinstance(data, bytes) else data.blocks(start, stop)


def read_whole(config: HttpConfig, data: bytes) -> Reader:
    """A reader that has come to the end of `data`, which is of one datagram."""
    reader = Reader(config)
    reader.read(data)
    while reader.behind:
        reader.read(data)
    return reader


def _with_host(headers: list[tuple[bytes, bytes]], authority: bytes) -> list[tuple[bytes, bytes]]:
    """The target's authority in place of Host (RFC 9112 §3.2.2)."""
    if not any(name == b"host" for name, _ in headers):
        return [(b"host", authority), *headers]
    return [(name, authority if name == b"host" else value) for name, value in headers]


def most_request_bytes(config: HttpConfig) -> int:
    """Bytes of one request on the wire at most: head, body, and half as much of chunk framing."""
    return config.max_head_bytes + config.max_body_bytes + config.max_body_bytes // 2 + 65_536
