"""Bytes of a stream as they were given, piece after piece: large ones are never copied."""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

from trickles_web.errors import ResponseGone

Piece = bytes | bytearray

LARGE: Final = 16_384
"""Bytes of a piece that is kept as it is. Smaller ones are gathered: a piece costs 100 or more."""

BLOCK: Final = 65_536
"""In blocks of up to so many."""

WORTH_CUTTING: Final = 1 << 20
"""Bytes in front of a piece that are given back before all of it can go. Half of the piece, too, so
that no byte is copied more often than once, on average."""


class Pieces:
    """The stream's bytes [base, stop)."""

    __slots__ = ("_grows", "_pieces", "_starts", "base", "stop")

    def __init__(self, base: int, piece: Piece = b"") -> None:
        self.base = base
        self.stop = base + len(piece)
        self._pieces: list[Piece] = [piece] if piece else []
        self._starts: list[int] = [base] if piece else []
        """Stream offsets."""
        self._grows = False
        """The last piece is a block that has room; nobody looks into its memory."""

    def __len__(self) -> int:
        return self.stop - self.base

    def append(self, piece: bytes) -> None:
        """At the end."""
        length = len(piece)
        if not length:
            return
        block = self._pieces[-1] if self._grows else b""
        if isinstance(block, bytearray) and len(block) + length <= BLOCK and length < LARGE:
            block += piece
        else:
            self._grows = length < LARGE
            self._pieces.append(bytearray(piece) if self._grows else piece)
            self._starts.append(self.stop)
        self.stop += length

    def read(self, start: int, stop: int) -> bytes | memoryview:
        """Bytes [start, stop). Raises ResponseGone."""
        if start < self.base or stop > self.stop:
            raise ResponseGone("bytes no longer held")
        parts: list[bytes | memoryview] = []
        i = bisect_right(self._starts, start) - 1
        while start < stop:
            at = start - self._starts[i]
            part = memoryview(self._pieces[i])[at : at + stop - start]
            start += len(part)
            i += 1
            parts.append(bytes(part) if self._grows and i == len(self._pieces) else part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def all(self) -> list[Piece]:
        """Everything, in order."""
        return list(self._pieces)

    def forget(self, below: int) -> bool:
        """Let go of what lies below, piece by piece. Has anything gone?"""
        done = bisect_right(self._starts, min(below, self.stop)) - 1
        if self._starts and below >= self.stop:
            done += 1
        before = self.base
        if done > 0:
            del self._pieces[:done], self._starts[:done]
            self.base = self._starts[0] if self._starts else self.stop
            self._grows = self._grows and bool(self._starts)
        useless = min(below, self.stop) - self.base
        if self._starts and useless >= max(WORTH_CUTTING, len(self._pieces[0]) // 2):
            self._pieces[0] = self._pieces[0][useless:]
            self._starts[0] = self.base = self.base + useless
        return self.base != before
