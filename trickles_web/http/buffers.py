"""Memory for bytes that are read and sent at once: kept, since fresh memory costs a page fault for
each 4 KiB, which is a quarter of what it costs to send them.
"""

from __future__ import annotations

SIZE = 1 << 20
"""Bytes of one: more than the largest burst carries."""

WORTH_KEEPING = 16_384
"""Bytes: for less the allocator has memory at hand."""

MOST = 16
"""Of an answer of several bursts each has its own, until all is sent."""


class Buffers:
    """Each is lent until nobody has a view of it, or of a part of it, any more."""

    def __init__(self) -> None:
        self._buffers: list[bytearray] = []

    def lend(self, size: int) -> memoryview:
        """So many bytes of any content, to be written to."""
        if not WORTH_KEEPING <= size <= SIZE:
            return memoryview(bytearray(size))
        for buffer in self._buffers:
            if _is_free(buffer):
                return memoryview(buffer)[:size]
        if len(self._buffers) >= MOST:
            return memoryview(bytearray(size))
        buffer = bytearray(SIZE + 1)
        buffer.pop()  # leaves the room that `_is_free` needs, or it would move all of it once
        self._buffers.append(buffer)
        return memoryview(buffer)[:size]


def _is_free(buffer: bytearray) -> bool:
    """Python refuses to resize what somebody has a view of."""
    try:
        buffer.append(0)
    except BufferError:
        return False
    buffer.pop()
    return True
