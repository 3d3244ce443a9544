"""Checkpoints: what an application says of its state, so that another call can go on from there.

A message `http.response.body` may carry `"trickles.checkpoint": bytes`, the state after its chunk.
The newest that the client may act on goes to it as a note (see the transport). A call that goes on
finds the state in `scope["extensions"]["trickles.checkpoint"]["state"]`; its response's start must
be framed as the first one's was, but is not sent again.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

from trickles_web.http.progress import ProgressError
from trickles_web.transport.note import UNBOUND, Note

if TYPE_CHECKING:
    from trickles_web.http.framing import Framing
    from trickles_web.http.scope import Message

EXTENSION = "trickles.checkpoint"
MOST_STATE = 512
"""Bytes. Sealed, it must leave room in a 1,200-byte datagram."""

LONGEST_STRETCH = 1 << 20
"""Bytes without a checkpoint after which a response is an ordinary one: a client, which may not
hand on what is not firm, has room for a few times as much."""

_SPACING = 4096
"""Bytes between checkpoints that are kept for a client which is far behind."""
_COST = 120
"""Bytes that a checkpoint costs beside its state."""
_FIXED = struct.Struct(">IHBqQ")
_CHUNKED, _CLOSES = 1, 2


class Checkpoint(NamedTuple):
    """All that a further call needs. `length`: announced, -1 if not. `written`: bytes of body."""

    exchange: int
    status: int
    chunked: bool
    closes: bool
    length: int
    written: int
    state: bytes

    def encode(self) -> bytes:
        flags = self.chunked * _CHUNKED | self.closes * _CLOSES
        fixed = (self.exchange, self.status, flags, self.length, self.written)
        return _FIXED.pack(*fixed) + self.state

    def is_framed_as(self, framing: Framing, status: int) -> bool:
        """Would a response with this start have begun with the same head?"""
        length = -1 if framing.length is None else framing.length
        begun = (self.status, self.chunked, self.closes, self.length)
        return begun == (status, framing.chunked, framing.closes, length)


def decode(data: bytes) -> Checkpoint:
    """Raises ProgressError."""
    try:
        exchange, status, flags, length, written = _FIXED.unpack_from(data)
    except struct.error:
        raise ProgressError("malformed checkpoint") from None
    chunked, closes = flags & _CHUNKED != 0, flags & _CLOSES != 0
    return Checkpoint(exchange, status, chunked, closes, length, written, data[_FIXED.size :])


def state_of(message: Message) -> bytes | None:
    """The state in a message of the application. Raises RuntimeError."""
    state = message.get(EXTENSION)
    if state is None:
        return None
    if not isinstance(state, bytes) or len(state) > MOST_STATE:
        raise RuntimeError(f"A checkpoint is of type bytes, at most {MOST_STATE} of them.")
    return state


class Checkpoints:
    """Those of one response, by stream offset, as far as its client may need them."""

    __slots__ = ("_joins", "_notes", "_offsets", "_start", "lapsed", "size")

    def __init__(self, start: int, joins: int) -> None:
        self._start = start
        self._joins = joins
        self._offsets: list[int] = []
        self._notes: list[bytes] = []
        self.lapsed = False
        """The application makes no more of them: the rest is an ordinary response."""
        self.size = 0

    def add(self, offset: int, checkpoint: bytes) -> None:
        """`offset`: the state is that after all bytes below."""
        offsets, notes = self._offsets, self._notes
        if offsets and (offsets[-1] == offset or self._is_dense(offset)):
            offsets.pop()
            self.size -= len(notes.pop()) + _COST
        offsets.append(offset)
        notes.append(checkpoint)
        self.size += len(checkpoint) + _COST

    def _is_dense(self, offset: int) -> bool:
        offsets = self._offsets
        return len(offsets) > 1 and offset - offsets[-2] < _SPACING

    def lapses(self, available: int) -> bool:
        """Is it too long since the last one? Then there will be none again."""
        if not self.lapsed and self._offsets and available - self._offsets[-1] > LONGEST_STRETCH:
            self.lapsed = True
            self._offsets, self._notes, self.size = [], [], 0
        return self.lapsed

    def at(self, stop: int) -> Note:
        """The last at or below `stop`, or the first."""
        if self.lapsed:
            return Note(self._joins, UNBOUND, b"")
        if not self._offsets:
            return Note(self._joins, max(self._start, self._joins), b"")
        i = max(0, bisect_right(self._offsets, stop) - 1)
        return Note(self._joins, self._offsets[i], self._notes[i])

    def forget(self, received: int) -> None:
        """The client has all bytes below: it needs none of those before the last one there."""
        useless = bisect_right(self._offsets, received) - 1
        if useless > 0:
            self.size -= sum(len(note) + _COST for note in self._notes[:useless])
            del self._offsets[:useless], self._notes[:useless]


class Rerun(NamedTuple):
    """How a response that is lost is made again. `expected`: see `Run.expected`."""

    expected: bytes | None = None
    offset: int = 0
    checkpoint: Checkpoint | None = None
    """Go on from here, at stream offset `offset`; None: from the start."""


FIRST_RUN = Rerun()
