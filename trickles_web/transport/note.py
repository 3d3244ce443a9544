"""The note: what a server needs to go on with a response that another server began.

    key generation (4) | joins (8) | firm (8) | AEAD nonce | ciphertext | tag

It is the application's state at stream offset `firm`, sealed apart from the continuation, because
it has another life: it concerns the bytes below `firm` and no packet numbers, so it outlives
generations, and a client sends it only to a server that has lost everything else.
(NSDI'05 §2: "user continuation".)
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from trickles_web.errors import ContinuationError
from trickles_web.transport.keys import SEAL_OVERHEAD, Keyring

UNBOUND: Final = 1 << 62
"""As `firm`: all bytes may be handed on, and nobody can go on from anywhere."""

MOST_NOTE: Final = 560
"""Bytes of application part: a carrier of 1,200 bytes must still carry something else."""

_READABLE: Final = struct.Struct(">IQQ")
_ABOUT: Final = struct.Struct(">4sQ")
OVERHEAD: Final = _READABLE.size + SEAL_OVERHEAD
"""Bytes of a note beside its application part."""


class Note(NamedTuple):
    """Offsets are of the response stream.

    `joins`: this edition's bytes below are those of the edition before it. `firm`: no byte at or
    above may be handed on by a client that has no later note. `progress`: the application part.
    """

    joins: int
    firm: int
    progress: bytes


def seal(keyring: Keyring, note: Note, incarnation: int, now: int) -> bytes:
    readable = _READABLE.pack(keyring.generation(now), note.joins, note.firm)
    return readable + keyring.current(now).seal(note.progress, _about(readable, incarnation))


def parse(blob: bytes) -> Note:
    """What a client can read of it. Raises ContinuationError."""
    if not OVERHEAD <= len(blob) <= OVERHEAD + MOST_NOTE:
        raise ContinuationError("truncated")
    _, joins, firm = _READABLE.unpack_from(blob)
    if not joins <= firm <= UNBOUND:
        raise ContinuationError("forged")
    return Note(joins, firm, b"")


def unseal(keyring: Keyring, blob: bytes, incarnation: int, now: int) -> Note:
    """Authenticate a note of this flow. Raises ContinuationError: truncated, forged, expired."""
    note = parse(blob)
    readable, sealed = blob[: _READABLE.size], blob[_READABLE.size :]
    keys = keyring.at(_READABLE.unpack(readable)[0], now)
    return note._replace(progress=keys.unseal(sealed, _about(readable, incarnation)))


def _about(readable: bytes, incarnation: int) -> bytes:
    """What is authenticated. A continuation's begins with its format, which is no letter."""
    return _ABOUT.pack(b"note", incarnation) + readable
