"""The ticket: a flow's secret, sealed for any server of the service, and kept by the client.

    key generation, 4 bytes | AEAD nonce, 12 | incarnation, 8, and secret, 32, sealed | tag, 16

It stands behind each continuation that a server mints, where only the client can read it, and in
front of each datagram that the client sends. So whichever server gets that can open it, and none
keeps anything. It names the incarnation: with continuations of another flow it is worth nothing.
(Our form of the user continuation, NSDI'05 §2: a connection's key is state like any other.)
"""

from __future__ import annotations

import struct
from typing import Final

from trickles_web.errors import ContinuationError
from trickles_web.transport.continuation import TICKET_BYTES
from trickles_web.transport.keys import SEAL_OVERHEAD, Keyring
from trickles_web.transport.private.cover import FLOW_SECRET_BYTES

_HEAD: Final = struct.Struct(">I")
_PLAIN: Final = struct.Struct(f">Q{FLOW_SECRET_BYTES}s")
assert _HEAD.size + SEAL_OVERHEAD + _PLAIN.size == TICKET_BYTES
_LABEL: Final = b"ticket"


def seal_ticket(keyring: Keyring, incarnation: int, secret: bytes, now: int) -> bytes:
    """now: wall-clock ms."""
    head = _HEAD.pack(keyring.generation(now))
    return head + keyring.current(now).seal(_PLAIN.pack(incarnation, secret), _LABEL + head)


def generation_of(ticket: bytes) -> int:
    generation: int = _HEAD.unpack_from(ticket)[0]
    return generation


def open_ticket(keyring: Keyring, ticket: bytes, now: int) -> tuple[int, bytes]:
    """Incarnation and secret. Raises ContinuationError."""
    if len(ticket) != TICKET_BYTES:
        raise ContinuationError("truncated")
    head = ticket[: _HEAD.size]
    keys = keyring.at(generation_of(ticket), now)
    incarnation, secret = _PLAIN.unpack(keys.unseal(ticket[_HEAD.size :], _LABEL + head))
    return incarnation, secret
