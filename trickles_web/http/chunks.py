"""Decoding a chunked body (RFC 9112 §7.1) while it arrives, at a bounded cost for each call.

    size line -> data -> CRLF -+-> size line ...
                               +-> last size line (0) -> trailer lines -> empty line

Whatever RFC 9112 does not allow is refused, also where other parsers look away: blanks around the
size, bare LF, signs. Trailer fields are read over and dropped (§7.1.2 allows that).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trickles_web.state.backing import Backing

MOST_STEP_CHUNKS = 128
"""Chunks decoded in one call: each costs about 1 us."""

FREE_CHUNKS = 64
SMALLEST_CHUNK = 64
"""Beyond the first few, chunks of a body that is gathered must hold this many bytes on average: one
cut into bytes costs memory and time out of all proportion."""

MOST_LINE = 256
"""Bytes of a size line with its extensions, which nobody uses."""

MOST_TRAILERS = 128
MOST_TRAILER_BYTES = 8192
"""Trailer lines, and bytes of all of them."""

_LOOK_AHEAD = MOST_TRAILER_BYTES + 4
"""Bytes behind a call's end that a line begun before it, or in the CRLF there, can need."""

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:;[\t -~\x80-\xff]*)?\r\n").match
_TRAILER = re.compile(rb"[-!#$%&'*+.^_`|~0-9a-zA-Z]+:[\t -~\x80-\xff]*\r\n").match


class ChunkError(Exception):
    """Carries the status that the request gets."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Chunks:
    """One chunked body. `at` is how far the data was read, `body` what it said so far."""

    __slots__ = (
        "_count",
        "_free",
        "_last",
        "_left",
        "_most",
        "_room",
        "_total",
        "_trailers",
        "at",
        "body",
        "done",
    )

    def __init__(self, at: int, most: int, body: Backing, free: int = FREE_CHUNKS) -> None:
        """The body begins at `at`; it may hold `most` bytes, and goes to `body`.

        free: chunks that may be small.
        """
        self.at = at
        self.body = body
        self.done = False
        self._most = most
        self._free = free
        self._left = 0
        """Bytes of the current chunk and its CRLF still to come."""
        self._total = self._count = 0
        """Bytes and chunks announced so far."""
        self._last = False
        self._trailers = 0
        self._room = MOST_TRAILER_BYTES
        """Bytes that trailer lines may still have."""

    def read(self, data: bytes | Backing, stop: int) -> None:
        """Go on towards `stop`, not much beyond, and not over many chunks.

        Raises ChunkError, and DiskError if `data` or `body` does.
        """
        # One read of what may be a file, not several for each chunk.
        base, window = self.at, data[self.at : stop + _LOOK_AHEAD]
        self.at, stop = 0, stop - base
        try:
            for _ in range(MOST_STEP_CHUNKS):
                going = self._data(window, stop) and self._line(window)
                if not going or self.done or self.at >= stop:
                    return
        finally:
            self.at += base

    def _data(self, data: bytes, stop: int) -> bool:
        """Take the rest of a chunk and its CRLF, up to `stop`; True if that was all of it."""
        left = self._left
        if left > 2:
            take = min(left - 2, max(0, min(stop, len(data)) - self.at))
            self.body.append(data[self.at : self.at + take])
            self.at += take
            left = self._left = left - take
            if left > 2:
                return False
        if left:
            if len(data) < self.at + left:
                return False
            if data[self.at : self.at + left] != b"\r\n":
                raise ChunkError(400, "chunk longer than its size")
            self.at += left
            self._left = 0
        return True

    def _line(self, data: bytes) -> bool:
        """Read one size or trailer line; False if it is not here yet."""
        if self._last:
            return self._trailer(data)
        found = _SIZE(data, self.at, self.at + MOST_LINE)
        if found is None:
            self._check(data, self.at + MOST_LINE, 400)
            return False
        size = int(found[1], 16)
        self.at = found.end()
        if not size:
            self._last = True
            return True
        total = self._total + size
        if total > self._most:
            raise ChunkError(413, "body too large")
        self._count += 1
        if self._count > self._free + total // SMALLEST_CHUNK:
            raise ChunkError(400, "too many small chunks")
        self._left, self._total = size + 2, total
        return True

    def _trailer(self, data: bytes) -> bool:
        at = self.at
        if data[at : at + 2] == b"\r\n":
            self.at = at + 2
            self.done = True
            return True
        found = _TRAILER(data, at, at + self._room)
        if found is None:
            self._check(data, at + self._room, 431)
            return False
        self._trailers += 1
        if self._trailers > MOST_TRAILERS:
            raise ChunkError(431, "too many trailer lines")
        self.at = found.end()
        self._room -= self.at - at
        return True

    def _check(self, data: bytes, most: int, status: int) -> None:
        """A line that does not match must be one that has not ended, before offset `most`.

        Two bytes more may be an empty line instead.
        """
        if data.find(b"\n", self.at, most) >= 0:
            raise ChunkError(400, "bad chunk size or trailer line")
        if len(data) >= most + 2:
            raise ChunkError(status, "chunk size or trailer line too long")
