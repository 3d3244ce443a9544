"""The response stream at the client: bytes in order for the reader, the others kept until then."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from heapq import heappop, heappush
from typing import Final

from trickles_web.transport.ranges import Range, RangeSet
from trickles_web.transport.wire import Buffer

NO_LIMIT: Final = 1 << 62


class Reassembly:
    """Offsets are of the response stream.

    `received`: everything below it is here; `delivered`: everything below it was handed on;
    `limit`: nothing above it may be.
    """

    __slots__ = ("_covered", "_heap", "_pieces", "_ready", "delivered", "limit", "received")

    def __init__(self) -> None:
        self.received = 0
        self.delivered = 0
        self.limit = NO_LIMIT
        self._ready: deque[Buffer] = deque()
        self._pieces: dict[int, bytes] = {}
        self._heap: list[int] = []
        self._covered = RangeSet()

    def insert_all(self, offset: int, payloads: Sequence[Buffer], size: int) -> None:
        """Payloads that follow each other, `size` bytes in all."""
        if len(payloads) == 1:
            payloads = (bytes(payloads[0]),)  # a view of one packet would keep its whole train
        if offset == self.received and not (self._heap and self._heap[0] < offset + size):
            self._ready.extend(payloads)
            self.received += size
            self._collect()
        else:
            self.insert(offset, b"".join(payloads))

    def insert(self, offset: int, payload: bytes) -> None:
        """Where bytes contradict those at hand, what came first stays."""
        start, stop = max(offset, self.received), offset + len(payload)
        for x, y in list(self._covered.missing(start, stop)):
            self._pieces[x] = payload if y - x == len(payload) else payload[x - offset : y - offset]
            heappush(self._heap, x)
        self._covered.add(start, stop)
        self._collect()

    def _collect(self) -> None:
        if not self._heap or self._heap[0] != self.received:
            return
        while self._heap and self._heap[0] == self.received:
            payload = self._pieces.pop(heappop(self._heap))
            self._ready.append(payload)
            self.received += len(payload)
        self._covered.discard_below(self.received)

    @property
    def ready(self) -> int:
        """How many bytes can be handed on."""
        return max(0, min(self.received, self.limit) - self.delivered)

    def read(self, limit: int) -> bytes:
        """Hand on at most `limit` bytes, in order."""
        count = min(self.ready, limit)
        if not count:
            return b""
        self.delivered += count
        pieces: list[Buffer] = []
        while count > 0:
            piece = self._ready.popleft()
            if len(piece) > count:
                self._ready.appendleft(memoryview(piece)[count:])
                piece = memoryview(piece)[:count]
            pieces.append(piece)
            count -= len(piece)
        return b"".join(pieces)

    def missing(self, start: int, stop: int) -> Iterator[Range]:
        """The parts of [start, stop) that are not here."""
        return self._covered.missing(max(start, self.received), stop)

    @property
    def highest(self) -> int:
        """The end of the last byte that is here."""
        return max(self.received, self._covered.stop)

    def restart(self, at: int) -> None:
        """Forget the bytes from `at` on, none of which was handed on: they are another edition's.

        delivered <= at <= received.
        """
        kept = b"".join(self._ready)[: at - self.delivered]
        self.received = at
        self._ready.clear()
        if kept:
            self._ready.append(kept)
        self._pieces.clear()
        self._heap.clear()
        self._covered.clear()
