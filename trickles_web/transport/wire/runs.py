"""DATA packets that follow each other, decoded as one: a receiver's speed is made of this.

Servers send a burst as a train, and with UDP_GRO (Linux) it arrives as one: datagrams end to end,
all of one length but for the last. Most packets of a burst differ from the one before in number,
nonce and offset only, so only these are looked at.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Final, NamedTuple

from trickles_web.transport.wire.common import Buffer
from trickles_web.transport.wire.server import (
    DATA_HEADER_BYTES,
    DATA_PACKET,
    DATA_PREFIX,
    FLAG_PROBE,
    Data,
    decode_data,
)

_SMALL: Final = 2048
"""Bytes of payload up to which one copy costs less than to carry many views around."""


class Run(NamedTuple):
    """Packets of one burst with consecutive numbers and consecutive bytes.

    `data`: the first of them. The numbers are [start, stop). `proof`: the xor of their nonces.
    `payloads`: their bytes in order, `size` in all. Of several packets the first may carry a
    continuation, and the last the same one.
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
    return Run(data, start, start + 1, data.nonce, [payload], len(payload))


def with_neighbours(first: Run, train: Buffer, at: int, segment: int) -> Run:
    """The run of one at `at` and as many packets as follow it; `segment`: bytes of each datagram.

    What is malformed, or has more to say than number, nonce, bytes and the first one's continuation
    once more, ends the run.
    """
    data, full = first.data, segment - DATA_HEADER_BYTES
    most = min((len(train) - at) // segment, data.burst_length - data.place)
    odd = data.flags & FLAG_PROBE or (data.noted and data.continuation)
    if most < 2 or not first.size or odd:
        return first
    shared = bytes(train[at : at + DATA_PREFIX.size])
    place, expected, proof, last_carried = data.place, data.offset + first.size, data.nonce, 0
    for prefix, own_place, nonce, offset, carried in _row(segment).iter_unpack(
        train[at + segment : at + most * segment]
    ):
        if own_place != place + 1 or offset != expected or prefix != shared or last_carried:
            break
        if carried:
            start = at + (own_place - data.place) * segment + DATA_HEADER_BYTES
            if not data.continuation or train[start : start + carried] != data.continuation:
                break
            last_carried = carried
        place = own_place
        expected += full - carried
        proof ^= nonce
    packets = place - data.place + 1
    if packets == 1:
        return first
    starts = range(at + segment + DATA_HEADER_BYTES, at + packets * segment, segment)
    payloads: list[Buffer] = [train[start : start + full] for start in starts]
    payloads[-1] = payloads[-1][last_carried:]
    payloads = first.payloads + payloads
    if full <= _SMALL:
        payloads = [b"".join(payloads)]
    return Run(data, first.start, first.start + packets, proof, payloads, expected - data.offset)


@lru_cache(maxsize=64)
def _row(segment: int) -> struct.Struct:
    """One packet of a train, its payload passed over."""
    own = DATA_PACKET.format.removeprefix(">")
    return struct.Struct(f">{DATA_PREFIX.size}s{own}{segment - DATA_HEADER_BYTES}x")
