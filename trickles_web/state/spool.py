"""Request bytes that arrived so far, at their offsets.

    start           held           island               island
      |---- data ----|... missing ...|=======|... missing ...|=====|

Bytes are immutable once held: a client that sends other bytes for the same offset is broken or
hostile, and no reading of such a request is safe (two servers could see two requests).

What is held out of order lies in blocks of fixed size, so that no arrangement of pieces, however
small or in whatever order, makes a later piece cost more than its own length.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Final, Protocol

from trickles_web.state.backing import Backing, Disk, DiskError

MOST_ISLANDS: Final = 1024
"""Disjoint ranges held out of order. As many losses as that among the datagrams in flight mean that
the sender had better start again."""

BLOCK_BYTES: Final = 2048
"""Small, because a hostile byte can take a whole one; large, because there is a loop over them."""

MOST_BLOCKS: Final = 8192
"""16 MiB held out of order, which stay in memory. What there is no room for is asked for again."""

MOST_ABSORBED: Final = 131_072
"""Bytes that one call moves from blocks to `data`: 50 us or so."""

SPOOL_OVERHEAD: Final = 1024
"""Bytes that an empty spool costs, with its place in the store and its reader."""

BLOCK_OVERHEAD: Final = 160
"""The same for a block: the object, its key, its place in the table."""

ISLAND_OVERHEAD: Final = 96
"""The same for an island: two offsets and their places in two lists."""


class Conflict(Exception):
    """Request bytes differ from those held at the same offset."""


class Reading(Protocol):
    """What the layer above made of a spool's bytes."""

    def close(self) -> None:
        """The spool goes."""


class Spool:
    """One request's bytes from stream offset `start` on; many of them lie on `disk`.

    `reading` is whatever the layer above made of the bytes so far, and `reading_size` what that
    costs in memory; it lives and dies with them. A spool that the disk has no room for is `starved`
    and takes nothing more.
    """

    __slots__ = (
        "_blocks",
        "_starts",
        "_stops",
        "data",
        "disk",
        "reading",
        "reading_size",
        "start",
        "starved",
    )

    def __init__(self, start: int, disk: Disk) -> None:
        self.start = start
        self.disk = disk
        self.data = Backing(disk)
        self._starts: list[int] = []
        self._stops: list[int] = []
        """Islands: ascending, disjoint, not adjacent."""
        self._blocks: dict[int, bytearray] = {}
        """Bytes of the islands, by stream offset // BLOCK_BYTES."""
        self.reading: Reading | None = None
        self.reading_size = 0
        self.starved = ""
        """Why, for the log."""

    def close(self) -> None:
        """Give its room on disk back."""
        self.data.close()
        if self.reading is not None:
            self.reading.close()

    @property
    def held(self) -> int:
        """Every byte in [start, held) is in `data`."""
        return self.start + len(self.data)

    @property
    def islands(self) -> int:
        """Ranges held out of order."""
        return len(self._starts)

    @property
    def behind(self) -> bool:
        """The first island could be moved to `data`: any `write` does some more of that."""
        return bool(self._starts) and self._starts[0] <= self.held and not self.starved

    @property
    def size(self) -> int:
        """Bytes of memory, roughly."""
        return (
            SPOOL_OVERHEAD
            + self.data.memory_bytes
            + len(self._blocks) * (BLOCK_BYTES + BLOCK_OVERHEAD)
            + len(self._starts) * ISLAND_OVERHEAD
            + self.reading_size
        )

    def write(self, offset: int, piece: bytes, limit: int) -> None:
        """Hold `piece` at stream offset `offset`.

        Bytes below `start` or at and beyond stream offset `limit` are ignored, and so is a piece
        that would be one island or block too many: the sender keeps its bytes and can be asked
        again. Raises Conflict.
        """
        if self.starved:
            return
        if offset < self.start:
            piece = piece[self.start - offset :]
            offset = self.start
        if offset + len(piece) > limit:
            piece = piece[: max(0, limit - offset)]
        held = self.held
        if piece and offset > held:
            self._insert(offset, piece)
            return
        try:
            if piece:
                self._append(offset, piece)
            if self._starts:
                self._absorb(held)
        except DiskError as error:
            self.starved = str(error)

    def holds(self, start: int, stop: int) -> bool:
        """Are these stream offsets here, as far as they are not below `start`?"""
        if stop <= self.held:
            return True
        i = bisect_right(self._starts, max(start, self.held)) - 1
        return i >= 0 and stop <= self._stops[i]

    def _append(self, offset: int, piece: bytes) -> None:
        known = min(len(piece), self.held - offset)
        at = offset - self.start
        if known and self.data[at : at + known] != piece[:known]:
            raise Conflict
        if known == len(piece):
            return
        self._check(offset, piece)
        self.data.append(piece[known:] if known else piece)

    def _insert(self, offset: int, piece: bytes) -> None:
        self._check(offset, piece)
        stop = offset + len(piece)
        if len(self._blocks) + len(piece) // BLOCK_BYTES + 2 > MOST_BLOCKS:
            return
        # All that it overlaps or touches becomes one island with it.
        i, j = bisect_left(self._stops, offset), bisect_right(self._starts, stop)
        if i < j:
            low, high = min(offset, self._starts[i]), max(stop, self._stops[j - 1])
        elif len(self._starts) < MOST_ISLANDS:
            low, high = offset, stop
        else:
            return
        self._starts[i:j], self._stops[i:j] = [low], [high]
        at = offset
        while at < stop:
            number, inside = divmod(at, BLOCK_BYTES)
            part = piece[at - offset : at - offset + BLOCK_BYTES - inside]
            block = self._blocks.get(number)
            if block is None:
                block = self._blocks[number] = bytearray(BLOCK_BYTES)
            block[inside : inside + len(part)] = part
            at += len(part)

    def _absorb(self, before: int) -> None:
        """Move what follows `held`, a bounded part of it, and free blocks from `before` on."""
        done = bisect_right(self._stops, self.held)
        del self._starts[:done], self._stops[:done]
        if self._starts and self._starts[0] <= self.held:
            upto = min(self._stops[0], self.held + MOST_ABSORBED)
            self.data.append(self._peek(self.held, upto))
            if upto == self._stops[0]:
                del self._starts[0], self._stops[0]
            else:
                self._starts[0] = upto
        if not self._starts:
            self._blocks = {}
            return
        for number in range(before // BLOCK_BYTES, self.held // BLOCK_BYTES):
            self._blocks.pop(number, None)

    def _peek(self, low: int, high: int) -> bytes:
        """Bytes [low, high), all of one island."""
        parts: list[bytearray] = []
        for number in range(low // BLOCK_BYTES, (high - 1) // BLOCK_BYTES + 1):
            block, at = self._blocks[number], number * BLOCK_BYTES
            if at < low or high < at + BLOCK_BYTES:
                block = block[max(0, low - at) : high - at]
            parts.append(block)
        return b"".join(parts)

    def _check(self, offset: int, piece: bytes) -> None:
        """Raise Conflict if an island holds other bytes than `piece` where they overlap."""
        stop = offset + len(piece)
        i = bisect_right(self._stops, offset)
        while i < len(self._starts) and self._starts[i] < stop:
            low, high = max(offset, self._starts[i]), min(stop, self._stops[i])
            number, inside = divmod(low, BLOCK_BYTES)
            if inside + high - low <= BLOCK_BYTES:  # the usual case, spared a call
                mine: bytes | bytearray = self._blocks[number][inside : inside + high - low]
            else:
                mine = self._peek(low, high)
            if mine != piece[low - offset : high - offset]:
                raise Conflict
            i += 1

    def missing(self, stop: int, most: int = 16) -> list[tuple[int, int]]:
        """The first `most` stream ranges below `stop` that are not held, ascending."""
        ranges: list[tuple[int, int]] = []
        at = self.held
        for start, end in zip(self._starts, self._stops, strict=True):
            if at >= stop or len(ranges) == most:
                return ranges
            if at < start:
                ranges.append((at, min(start, stop)))
            at = max(at, end)
        if at < stop and len(ranges) < most:
            ranges.append((at, stop))
        return ranges
