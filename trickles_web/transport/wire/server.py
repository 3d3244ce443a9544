"""What a server sends: DATA, ACK, NEED, WAIT, REFUSED, PREFERRED, IDENTITY."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from trickles_web.errors import WireError
from trickles_web.transport.origin import ORIGIN_BYTES
from trickles_web.transport.wire.common import (
    FIRST_BYTE,
    MOST_WANTS,
    NOTE_LENGTH,
    WANT,
    Buffer,
    Kind,
    exactly,
    pack_wants,
    unpack_note,
    unpack_wants,
)

DATA_PREFIX: Final = struct.Struct(">B8sIIIIHHBBHIIBH")
"""The part of a DATA header that all packets of a burst share, and"""
DATA_PACKET: Final = struct.Struct(">BQQH")
"""the part that is each packet's own."""
_DATA: Final = struct.Struct(">B8sIIIIHHBBHIIBHBQQH")
DATA_HEADER_BYTES: Final = _DATA.size
_ACK: Final = struct.Struct(">B8sBQIBH")
_NEED: Final = struct.Struct(">B8sB")
_WAIT: Final = struct.Struct(">B8sIIIH")
_REFUSED: Final = struct.Struct(">B8sBH8s")
_PREFERRED: Final = struct.Struct(">B8s8s")
_IDENTITY: Final = struct.Struct(">B8s8sHH")
_COMPLETE: Final = 1
_OPEN: Final = 2

FLAG_PROBE: Final = 1
"""DATA: nothing but a length: it shows the client what its path carries."""
FLAG_NOTED: Final = 2
"""DATA: bytes are handed on only as far as notes allow, and a note follows each continuation."""


class Data(NamedTuple):
    """One packet of a burst: number `burst + place` of [burst, burst + burst_length).

    `short` is 0, or how far after `burst` the answer ended. `note`: b"" if there is none.
    """

    flow: bytes
    ordinal: int
    generation: int
    start: int
    base: int
    cwnd0: int
    ssthresh: int
    attempt: int
    flags: int
    replica: int
    edition: int
    burst: int
    burst_length: int
    short: int
    place: int
    nonce: int
    offset: int
    continuation: bytes
    payload: Buffer
    note: bytes = b""

    @property
    def noted(self) -> bool:
        return bool(self.flags & FLAG_NOTED)

    @property
    def carried(self) -> int:
        """Bytes that a carrier has less for the response."""
        noted = NOTE_LENGTH.size + len(self.note) if self.noted else 0
        return len(self.continuation) + noted


class Ack(NamedTuple):
    """`held`: request bytes below it are here. `room`: of an open request, how many more are taken
    before the application has to read some; -1 of any other.
    """

    flow: bytes
    complete: bool
    held: int
    room: int
    numbers: tuple[int, ...]
    continuation: bytes


class Need(NamedTuple):
    flow: bytes
    ranges: tuple[tuple[int, int], ...]


class Wait(NamedTuple):
    flow: bytes
    ordinal: int
    generation: int
    stop: int
    milliseconds: int


class Refused(NamedTuple):
    flow: bytes
    code: int
    retry_after: int
    echo: bytes


class Preferred(NamedTuple):
    """Where a server would rather be asked. `address`: of 4 or 16 bytes, and 2 of port."""

    flow: bytes
    echo: bytes
    address: bytes


class Identity(NamedTuple):
    """A part of a server's credentials. `name`: 8 bytes, of the whole, which has `size` bytes."""

    flow: bytes
    name: bytes
    size: int
    offset: int
    part: bytes


def data_prefix(flow: bytes, *fields: int) -> bytes:
    """The part of a DATA header that is the same for all packets of a burst: `Data` to `short`."""
    return DATA_PREFIX.pack(FIRST_BYTE[Kind.DATA], flow, *fields)


def decode_data(datagram: Buffer) -> Data:
    try:
        fields = _DATA.unpack_from(datagram)
    except struct.error:
        raise WireError("truncated") from None
    at = DATA_HEADER_BYTES + fields[18]
    if at > len(datagram):
        raise WireError("truncated")
    if fields[15] >= fields[13]:
        raise WireError("place")
    carried, note = bytes(datagram[DATA_HEADER_BYTES:at]), b""
    if carried and fields[9] & FLAG_NOTED:
        note, at = unpack_note(datagram, at)
    return Data._make((*fields[1:18], carried, datagram[at:], note))


def encode_ack(message: Ack) -> bytes:
    flow, complete, held, room, numbers, continuation = message
    flags = complete * _COMPLETE | (room >= 0) * _OPEN
    lengths = len(numbers), len(continuation)
    head = _ACK.pack(FIRST_BYTE[Kind.ACK], flow, flags, held, max(0, room), *lengths)
    return head + struct.pack(f">{len(numbers)}I", *numbers) + continuation


def decode_ack(datagram: bytes) -> Ack:
    try:
        _, flow, flags, held, room, count, n = _ACK.unpack_from(datagram)
        numbers = struct.unpack_from(f">{count}I", datagram, _ACK.size)
    except struct.error:
        raise WireError("truncated") from None
    at = _ACK.size + 4 * count
    exactly(datagram, at + n)
    room = room if flags & _OPEN else -1
    return Ack(flow, bool(flags & _COMPLETE), held, room, numbers, datagram[at:])


def encode_need(flow: bytes, ranges: Sequence[tuple[int, int]]) -> bytes:
    kept = tuple(ranges[:MOST_WANTS])
    return _NEED.pack(FIRST_BYTE[Kind.NEED], flow, len(kept)) + pack_wants(kept)


def decode_need(datagram: bytes) -> Need:
    try:
        _, flow, count = _NEED.unpack_from(datagram)
    except struct.error:
        raise WireError("truncated") from None
    exactly(datagram, _NEED.size + count * WANT.size)
    return Need(flow, unpack_wants(datagram, _NEED.size, count))


def encode_wait(message: Wait) -> bytes:
    return _WAIT.pack(FIRST_BYTE[Kind.WAIT], *message)


def decode_wait(datagram: bytes) -> Wait:
    exactly(datagram, _WAIT.size)
    return Wait(*_WAIT.unpack(datagram)[1:])


def encode_refused(message: Refused) -> bytes:
    return _REFUSED.pack(FIRST_BYTE[Kind.REFUSED], *message)


def decode_refused(datagram: bytes) -> Refused:
    exactly(datagram, _REFUSED.size)
    return Refused(*_REFUSED.unpack(datagram)[1:])


def encode_preferred(message: Preferred) -> bytes:
    return _PREFERRED.pack(FIRST_BYTE[Kind.PREFERRED], *message[:2]) + message.address


def decode_preferred(datagram: bytes) -> Preferred:
    address = datagram[_PREFERRED.size :]
    if len(address) not in ORIGIN_BYTES:
        raise WireError("address")
    _, flow, echo = _PREFERRED.unpack_from(datagram)
    return Preferred(flow, echo, address)


def identity_room(size: int) -> int:
    """Bytes of credentials in an IDENTITY of `size` bytes."""
    return max(0, size - _IDENTITY.size)


def encode_identity(message: Identity) -> bytes:
    return _IDENTITY.pack(FIRST_BYTE[Kind.IDENTITY], *message[:4]) + message.part


def decode_identity(datagram: bytes) -> Identity:
    try:
        _, flow, name, size, offset = _IDENTITY.unpack_from(datagram)
    except struct.error:
        raise WireError("truncated") from None
    part = datagram[_IDENTITY.size :]
    if offset + len(part) > size:
        raise WireError("trailing")
    return Identity(flow, name, size, offset, part)
