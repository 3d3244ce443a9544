"""Where the client keeps request bytes: any replica may ask for them again until the response is
whole.
"""

from __future__ import annotations

from typing import Protocol


class Kept(Protocol):
    """Bytes at their stream offsets; the first one ever appended lies at 0.

    A medium that fails raises FlowError: the flow then ends with that.
    """

    def append(self, data: bytes) -> None:
        """Keep `data` behind all that came before."""
        ...

    def read(self, start: int, stop: int) -> bytes:
        """Bytes [start, stop), all of them appended and none forgotten."""
        ...

    def forget(self, below: int) -> None:
        """Nobody reads below this stream offset any more."""
        ...


class KeptInMemory:
    """As many as there are, in memory."""

    __slots__ = ("_bytes", "_start")

    def __init__(self, start: int = 0) -> None:
        self._bytes = bytearray()
        self._start = start

    def append(self, data: bytes) -> None:
        self._bytes += data

    def read(self, start: int, stop: int) -> bytes:
        with memoryview(self._bytes) as view:
            return bytes(view[start - self._start : stop - self._start])

    def forget(self, below: int) -> None:
        del self._bytes[: max(0, below - self._start)]  # moves no byte that stays
        self._start = max(self._start, below)
