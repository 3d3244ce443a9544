"""What all datagrams share: the first bytes, kinds and codes, and lists of wanted ranges."""

from __future__ import annotations

import hashlib
import struct
from enum import IntEnum
from typing import Final

from trickles_web.errors import WireError

VERSION: Final = 1
OPEN_END: Final = 1 << 62
"""As the end of a wanted range: to the end of the response, wherever that is."""
FLOW_ID_BYTES: Final = 8
MOST_WANTS: Final = 32
MOST_EARLIER: Final = 2
MOST_EARLIER_WANTS: Final = 8
LARGEST_DATAGRAM: Final = 65_507

_OPEN_LENGTH: Final = 0xFFFF_FFFF
WANT: Final = struct.Struct(">QI")
NOTE_LENGTH: Final = struct.Struct(">H")


class Kind(IntEnum):
    """Kinds of datagram: those below 8 are a client's, the others a server's."""

    HELLO = 1
    REQUEST = 2
    UPLOAD = 3
    CANCEL = 4
    IDENTIFY = 5
    DATA = 8
    ACK = 9
    NEED = 10
    WAIT = 11
    REFUSED = 12
    PREFERRED = 13
    IDENTITY = 14


class Code(IntEnum):
    """Why a request was refused. A hint, until every server address has said it."""

    VERSION = 1  # unknown version
    FORGED = 2  # no key of this service opens the continuation
    EXPIRED = 3  # too old for what was asked
    FUTURE = 4  # minted by a clock that runs ahead
    SPENT = 5  # this claim was redeemed before
    CLOSED = 6  # a later generation of the flow exists
    PROOF = 7  # the nonces do not prove what was claimed
    CLAIM = 8  # the claim contradicts the sealed state or an earlier claim
    TOO_SOON = 9  # a repeated opening before its time
    GONE = 10  # bytes of the response are not to be had any more
    FAILED = 11  # the application failed after its response began
    UNKNOWN = 12  # whether an unsafe request was executed is not known
    NOT_MINE = 13  # only the server with the sealed store may run this
    CONFLICT = 14  # request bytes contradict those sent before
    BUSY = 15  # limits reached
    CLEARTEXT = 16  # only private flows are served here


Wants = tuple[tuple[int, int], ...]

Buffer = bytes | memoryview
"""Of a datagram: itself, or its place in a train."""


FIRST_BYTE: Final = {kind: VERSION << 4 | kind for kind in Kind}
START_BYTES: Final = 1 + FLOW_ID_BYTES
"""Of any datagram: what tells its kind and its flow."""


def echo_of(datagram: bytes) -> bytes:
    """8 bytes by which a server shows that it has seen a datagram."""
    return hashlib.blake2b(datagram, digest_size=8).digest()


def kind_of(datagram: bytes) -> int:
    """The kind, or raise WireError: the cheapest check there is."""
    if len(datagram) < START_BYTES:
        raise WireError("truncated")
    first = datagram[0]
    if first >> 4 != VERSION:
        raise WireError("version")
    return first & 15


def flow_of(datagram: bytes) -> bytes:
    return datagram[1:9]


def pack_wants(wants: Wants) -> bytes:
    return b"".join(
        WANT.pack(x, _OPEN_LENGTH if y == OPEN_END else min(y - x, _OPEN_LENGTH - 1))
        for x, y in wants
    )


def unpack_wants(datagram: bytes, at: int, count: int) -> Wants:
    if at + count * WANT.size > len(datagram):
        raise WireError("truncated")
    wants: list[tuple[int, int]] = []
    for _ in range(count):
        x, n = WANT.unpack_from(datagram, at)
        at += WANT.size
        if not n or x >= OPEN_END:
            raise WireError("wants")
        wants.append((x, OPEN_END if n == _OPEN_LENGTH else x + n))
    return tuple(wants)


def unpack_note(datagram: Buffer, at: int) -> tuple[bytes, int]:
    """A note with its length before it, and where it ends."""
    start = at + NOTE_LENGTH.size
    if start > len(datagram):
        raise WireError("truncated")
    stop = start + NOTE_LENGTH.unpack_from(datagram, at)[0]
    if stop > len(datagram):
        raise WireError("truncated")
    return bytes(datagram[start:stop]), stop


def exactly(datagram: bytes, length: int) -> None:
    if len(datagram) != length:
        raise WireError("truncated" if len(datagram) < length else "trailing")
