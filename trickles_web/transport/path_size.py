"""How large datagrams may be: a search for what the path carries (RFC 8899 §5).

A flow begins with what any path carries. With some of its claims it names a larger size, and the
server sends a packet of that length behind the answer. First the largest that makes sense is shown;
if that never comes, sizes half-way between what came and what did not:

    any path            came            asked          did not come        most
    --------|------------|----------------|----------------|----------------|
           1200        bytes                           swallowed
"""

from __future__ import annotations

from typing import Final

from trickles_web.config import BASE_DATAGRAM
from trickles_web.transport.claims import PROBE_EVERY

MOST_TRIES: Final = 3
"""Of one size that does not come through: one packet may be lost for other reasons (RFC 8899 §5.1.2
MAX_PROBES)."""
_WORTH_GROWING: Final = 1_000_000
"""Bytes still to be asked for that make larger datagrams worth waiting for."""


class PathSize:
    """`bytes`: the largest size that has come through. At first it is taken to be `first`."""

    __slots__ = (
        "_asked",
        "_due",
        "_first",
        "_least",
        "_most",
        "_slot",
        "_swallowed",
        "_tries",
        "_used",
        "bytes",
    )

    def __init__(self, first: int, most: int, least: int = BASE_DATAGRAM) -> None:
        """`least`: what any path carries."""
        self._least = least
        self.bytes = first
        self._first = first
        self._most = max(first, most)
        self._used = least
        """What some opening has asked for."""
        self._slot = (-1, -1)
        self._restart()

    def _restart(self) -> None:
        self._swallowed = self._most + 1
        """The smallest size that is held not to pass."""
        self._asked = 0
        """The size that is to be shown now, 0 if there is none;"""
        self._due = 0.0
        """then it would have come;"""
        self._tries = 0
        """and so often it has not."""

    @property
    def searching(self) -> bool:
        """Is there a larger size that may pass?"""
        return self._swallowed - self.bytes > 1

    def carried(self, size: int) -> None:
        """A datagram of this size has come through."""
        self.bytes = max(self.bytes, min(size, self._most))
        self._swallowed = max(self._swallowed, self.bytes + 1)
        if size >= self._asked:
            self._asked = self._tries = 0

    def probe(self, generation: int, number: int, now: float, patience: float) -> int:
        """The size to be shown behind the answer that begins with this number; or 0.

        patience: seconds after which what has not come is lost.
        """
        slot = (generation, number // PROBE_EVERY)
        if not self.searching or slot == self._slot or (self._asked and now < self._due):
            return 0
        if self._asked:
            self._tries += 1
            if self._tries >= MOST_TRIES:
                self._swallowed, self._tries = self._asked, 0
            if not self.searching:
                self._asked = 0
                return 0
        untried = self._swallowed > self._most
        self._asked = self._most if untried else (self.bytes + self._swallowed) // 2
        self._slot, self._due = slot, now + patience
        return self._asked

    def opens(self) -> None:
        """An opening asks for the size that is known now."""
        self._used = max(self._used, self.bytes)

    def outgrown(self, size: int, not_asked: int) -> bool:
        """Is it worth a round trip to open anew with larger datagrams than `size`, for the rest?"""
        if self.searching or not_asked <= _WORTH_GROWING:
            return False
        return self.bytes > max(size, self._used) and size > 0

    def doubt(self) -> None:
        """Perhaps the path swallows what is larger than any path must carry; or it was the server
        that was gone, so the search begins anew.
        """
        if self.bytes > self._least:
            self.bytes = self._used = self._least
            self._restart()
