"""DATA packets that follow each other, decoded as one: a receiver's speed is made of this.

Servers send a burst as a train, and with UDP_GRO (Linux) it arrives as one: datagrams end to end,
all of one length but for the last. Most packets of a burst differ from the one before in number,
nonce and offset only, so only these are looked at.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import NamedTuple

from trickles_web.transport.wire.common import Buffer
from trickles_web.transport.wire.server import (
    DATA_HEADER_BYTES,
    DATA_PACKET,
    DATA_PREFIX,
    FLAG_PROBE,
    Data,
    decode_data,
)

_SMALL = 2048
"""Bytes of payload up to which a copy costs less than to carry views of it around, which keep the
whole train in memory."""


class Run(NamedTuple):
    """Packets of one burst with consecutive numbers and consecutive bytes.

    `data`: the first of them. The numbers are [start, stop). `proof`: the xor of their nonces.
    `payloads`: their bytes in order, `size` in all. Of several packets none carries a continuation.
    """

    data: Data
    start: int
    stop: int
    proof: int
    payloads: list[Buffer]
    size: int


def run_of_one(datagram: Buffer) -> Run:
    """Raises WireError."""
    data = decode_data(datagram)
    payload, start = data.payload, data.burst + data.place
    size = len(payload)
    return Run(
        data, start, start + 1, data.nonce, [payload if size > _SMALL else bytes(payload)], size
    )


def with_neighbours(first: Run, train: Buffer, at: int, segment: int) -> Run:
    """The run of one at `at` and as many packets as follow it; `segment`: bytes of each datagram.

    A packet that is malformed, or has more to say than number, nonce and offset, ends the run.
    """
    data, length = first.data, first.size
    most = min((len(train) - at) // segment, data.burst_length - data.place)
    if most < 2 or not length or data.continuation or data.flags & FLAG_PROBE:
        return first
    shared = bytes(train[at : at + DATA_PREFIX.size])
    place, offset, proof = data.place, data.offset, data.nonce
    for prefix, own_place, nonce, own_offset, carried in _row(segment).iter_unpack(
        train[at + segment : at + most * segment]
    ):
        if own_place != place + 1 or own_offset != offset + length or carried or prefix != shared:
            break
        place, offset = own_place, own_offset
        proof ^= nonce
    packets = place - data.place + 1
    if packets == 1:
        return first
    starts = range(at + DATA_HEADER_BYTES, at + packets * segment, segment)
    payloads: list[Buffer] = [train[start : start + length] for start in starts]
    if length <= _SMALL:
        payloads = [b"".join(payloads)]
    return Run(data, first.start, first.start + packets, proof, payloads, packets * length)


@lru_cache(maxsize=64)
def _row(segment: int) -> struct.Struct:
    """One packet of a train, its payload passed over."""
    own = DATA_PACKET.format.removeprefix(">")
    return struct.Struct(f">{DATA_PREFIX.size}s{own}{segment - DATA_HEADER_BYTES}x")
