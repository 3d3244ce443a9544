"""The rest of a request that is taken while it is answered: a long body, or a WebSocket.

    request stream:  head | read by the application | here | room | not taken yet
                          start                     at     held   limit

What is here is its owner's for good, because the client was told so and has forgotten it. So no
more is taken than a window beyond what the application has read.
"""

from __future__ import annotations

from typing import Final

from trickles_web.http.chunks import ChunkError, Chunks
from trickles_web.http.heads import CHUNKED, RequestError
from trickles_web.state.backing import Backing, Disk
from trickles_web.state.spool import Spool

WINDOW = 262_144
"""Bytes beyond what was read: 100 Mbit/s over 20 ms. Memory, since it stays below what goes to
disk."""

SMALLEST_STEP: Final = 1000
"""Bytes of more room that are told: of less many small datagrams would come (RFC 9293 §3.8.6.2.2).
"""

STEP: Final = 8_192
"""Bytes of chunks decoded at once: what is behind is not copied for each of many small ones."""

MOST_STEPS: Final = 32
"""Such steps in one turn of the loop, of 128 chunks at most: each chunk takes 1 us."""

_NO_DISK: Final = 0


class Intake:
    """See the module. Offsets are of the request stream."""

    __slots__ = ("_chunks", "_end", "_ready", "_spool", "behind", "refusal", "whole")

    def __init__(self, start: int, length: int, most_bytes: int) -> None:
        """`length`: bytes from `start` on, CHUNKED or ENDLESS. most_bytes: of a chunked body."""
        self._spool = Spool(start, Disk(_NO_DISK))
        self._chunks: Chunks | None = None
        self._ready = self._spool.data
        """What the application may read."""
        self._end = start + length if length >= 0 else -1
        self.whole = length == 0
        """All of it is here."""
        self.behind = False
        """More chunks could be read: `decode` does some of that."""
        self.refusal: RequestError | None = None
        """Why it is not taken any further."""
        if length == CHUNKED:
            self._ready = Backing(Disk(_NO_DISK), 2 * WINDOW)
            self._chunks = Chunks(0, most_bytes, self._ready, free=most_bytes)  # read as they come

    @property
    def start(self) -> int:
        """The application has read all below."""
        return self._spool.start

    @property
    def size(self) -> int:
        """Bytes of memory."""
        return self._spool.size + (0 if self._chunks is None else self._ready.memory_bytes)

    @property
    def held(self) -> int:
        """Every byte below is here, and of this request."""
        if self.whole:
            return self._end
        return self._spool.start if self.behind else self._spool.held

    @property
    def limit(self) -> int:
        """No byte beyond is taken for now."""
        limit = self.held + max(0, WINDOW - self._waiting)
        return limit if self._end < 0 else min(limit, self._end)

    @property
    def room(self) -> int:
        """Bytes that are taken."""
        return self.limit - self.held

    @property
    def _waiting(self) -> int:
        """Bytes that the application has not read."""
        return (
            len(self._ready) if self._chunks is None else len(self._ready) + len(self._spool.data)
        )

    def is_worth_telling(self, told: int) -> bool:
        """Has the limit moved far from the one that was told?"""
        return self.limit - told >= WINDOW // 2 or (self._end >= 0 and self.limit == self._end)

    def limit_after(self, told: int) -> int:
        """The limit to tell, where `told` was told before: that one, unless it has moved enough."""
        limit = self.limit
        far = limit - told >= min(SMALLEST_STEP, WINDOW // 2)
        return limit if far or limit == self._end else told

    def take(self, offset: int, piece: bytes) -> bool:
        """Bytes at `offset`; True if they were not too many. Raises Conflict."""
        if self.whole or self.refusal is not None:
            return True
        spool = self._spool
        limit = self.limit
        spool.write(offset, piece, limit)
        while spool.behind:
            spool.write(spool.held, b"", limit)
        if self._chunks is not None:
            self.decode()
        elif spool.held == self._end:
            self.whole = True
        return offset + len(piece) <= limit

    def decode(self) -> None:
        """Go on reading chunks, a bounded number of them; if that was not all, it is `behind`."""
        chunks, data = self._chunks, self._spool.data
        if chunks is None or self.whole or self.refusal is not None:
            return
        self.behind = True
        try:
            for _ in range(MOST_STEPS):
                at = chunks.at
                chunks.read(data, min(at + STEP, len(data)))
                if chunks.done or chunks.at == at:
                    self.behind = False
                    break
        except ChunkError as error:
            self.refusal, self.behind = RequestError(error.status, str(error)), False
        read, chunks.at = chunks.at, 0
        if chunks.done:
            self._end, self.whole = self._spool.start + read, True
        data.cut_front(read)
        self._spool.start += read

    def read(self, most: int) -> bytes:
        """Up to so many bytes for the application, which are forgotten."""
        data = self._ready[:most]
        self._ready.cut_front(len(data))
        if self._chunks is None:
            self._spool.start += len(data)
        return data

    @property
    def ended(self) -> bool:
        """Has the application read all of it?"""
        return self.whole and not self._ready

    def close(self) -> None:
        """Nobody reads any more."""
        self._ready.close()
        self._spool.close()
