"""The byte string that a client follows, and how much of it the reader may have.

A response that was made again from a note goes on in another edition, which *joins* the one before:
below that offset both have the same bytes. So that a later edition never contradicts what was read,
nothing is handed on above the highest note whose bytes are all here:

        delivered      firm (the newest note)   received        firm of a note that waits
    --------|-------------|------------------------|--- -- --------|-----> offset
      read     may be read   here, but not firm       holes
"""

from __future__ import annotations

from bisect import insort
from typing import Final

from trickles_web.errors import ContinuationError
from trickles_web.transport import note as notes
from trickles_web.transport.reassembly import NO_LIMIT, Reassembly
from trickles_web.transport.wire import Data

_MOST_WAITING: Final = 16
"""Notes kept whose bytes are not all here: the first to become good, and the last."""


class Edition:
    """See the module. `number` names it; 0: no bytes of this exchange are here yet."""

    __slots__ = ("_at", "_begin", "_firm", "_stream", "_waiting", "note", "number")

    def __init__(self, stream: Reassembly) -> None:
        self._stream = stream
        self._at = (0, 0)
        self.start()

    def start(self) -> None:
        """An exchange begins."""
        self.number = 0
        self.note = b""
        """The newest note whose bytes are all here: what to send to a server that has nothing."""
        self._begin = self._firm = self._stream.received
        self._waiting: list[tuple[int, bytes]] = []

    def finish(self) -> None:
        """The response is here to its end: nobody will have to make it again."""
        self._stream.limit = NO_LIMIT
        self.number = 0

    @property
    def handed_on(self) -> bool:
        """Did the reader get any byte of this response?"""
        return self._stream.delivered > self._begin

    def follow(self, data: Data) -> bool:
        """A packet of another edition: can its bytes be used? If so, that is the edition now."""
        at = (data.ordinal, data.burst + data.place)
        if self.number:
            joins = self._joins(data)
            if at <= self._at or not self._stream.delivered <= joins <= self._stream.received:
                return False
            self._stream.restart(joins)
            self._waiting = []
            self._stream.limit = NO_LIMIT
            if self._firm > joins:
                self._firm, self.note = self._begin, b""
        self.number, self._at = data.edition, at
        return True

    def _joins(self, data: Data) -> int:
        """Where its edition joins the one before; -1 if this packet does not say."""
        if not data.noted or (data.continuation and not data.note):
            return self._begin
        try:
            return notes.parse(data.note).joins
        except ContinuationError:
            return -1

    def take(self, data: Data) -> None:
        """Bytes of a packet of this edition were kept; note what it says of all of them."""
        if data.note:
            try:
                firm = notes.parse(data.note).firm
            except ContinuationError:
                return
            if firm > self._firm and (firm, data.note) not in self._waiting:
                insort(self._waiting, (firm, data.note))
                if len(self._waiting) > _MOST_WAITING:
                    del self._waiting[_MOST_WAITING // 2]
        elif not data.noted and not self._waiting:
            return
        waiting, stream = self._waiting, self._stream
        while waiting and (waiting[0][0] <= stream.received or waiting[-1][0] == notes.UNBOUND):
            self._firm, self.note = waiting.pop(0)
        if self._firm == notes.UNBOUND:
            stream.limit, self.note = NO_LIMIT, b""
        elif data.noted or stream.limit != NO_LIMIT:
            stream.limit = self._firm
