"""Asking a server who it is: its credentials, in as many parts as they need.

    IDENTIFY from offsets 0, 1, 2 parts -> IDENTITY, each no longer than what it answers
                                        -> IDENTIFY from where parts are still missing

Replicas with one certificate may say other bytes than each other, if its signatures are never the
same twice. So parts have the name of the whole, and those of another name begin anew.
"""

from __future__ import annotations

from typing import Final

from trickles_web.config import BASE_DATAGRAM
from trickles_web.transport import wire

MOST_BYTES: Final = 16_384
"""Of all credentials: a chain of certificates has a few thousand."""
PART: Final = wire.identity_room(BASE_DATAGRAM)
AT_FIRST: Final = 3
"""Parts asked for before their number is known: most chains of certificates fit."""


class Introduction:
    """Of one server, to one flow."""

    __slots__ = ("_flow", "_name", "_parts", "_size")

    def __init__(self, flow: bytes) -> None:
        self._flow = flow
        self._restart(b"", 0)

    def _restart(self, name: bytes, size: int) -> None:
        self._name = name
        self._size = size
        """Of the whole; 0 while that is unknown."""
        self._parts: dict[int, bytes] = {}

    def ask(self) -> list[bytes]:
        """For all that is missing."""
        count = -(-self._size // PART) if self._size else AT_FIRST
        offsets = [i * PART for i in range(count) if i * PART not in self._parts]
        return [
            wire.encode_identify(wire.Identify(self._flow, at), BASE_DATAGRAM) for at in offsets
        ]

    def take(self, told: wire.Identity) -> bytes | None:
        """The whole, once it is here."""
        if not 0 < told.size <= MOST_BYTES or told.offset % PART:
            return None
        if (told.name, told.size) != (self._name, self._size):
            self._restart(told.name, told.size)
        if len(told.part) != min(PART, told.size - told.offset):
            return None
        self._parts[told.offset] = told.part
        if sum(map(len, self._parts.values())) < told.size:
            return None
        return b"".join(self._parts[at] for at in sorted(self._parts))

    @property
    def more(self) -> bool:
        """Are there parts that were not asked for at first?"""
        return self._size > AT_FIRST * PART
