"""Proof of receipt: a client that hides a loss, or claims what it has not got, is found out.

Data packet k carries R(k) xor R(k+1), where R is a block cipher of the epoch's keyed identity and
k. The xor over [x, y) telescopes to R(x) xor R(y): a client proves that it received a contiguous
range, however long, with eight bytes, and the server checks them with two blocks and no memory.

Why it cannot be cheated: the nonces of a set of packets span, over GF(2), exactly the sums of edges
of a path graph on the R values. R(x) xor R(y) is in the span of a set of edges only if the set
joins x to y, that is, if every packet of [x, y) was received; the nonce of a missing packet is an
edge that no others sum to. A retransmission has another number, so it does not reveal it either.
(Ely et al., "Robust congestion signaling", ICNP 2001; Savage et al., CCR 1999; NSDI'05 §3.3)
"""

from __future__ import annotations

import struct
from functools import cache

from trickles_web.transport.keys import Keys


@cache
def _blocks(count: int) -> struct.Struct:
    return struct.Struct(">" + "QQ" * count)


@cache
def _halves(count: int) -> struct.Struct:
    """The first half of each block."""
    return struct.Struct(">" + "Q8x" * count)


def nonces(keys: Keys, epoch_key: int, start: int, stop: int) -> list[int]:
    """The 64-bit nonces of packets [start, stop): one cipher call for a whole burst."""
    count = stop - start + 1
    blocks = [epoch_key] * (2 * count)
    blocks[1::2] = range(start, stop + 1)
    r = _halves(count).unpack(keys.encrypt_blocks(_blocks(count).pack(*blocks)))
    return [r[i] ^ r[i + 1] for i in range(count - 1)]


def proves(keys: Keys, epoch_key: int, start: int, stop: int, proof: int) -> bool:
    """Is `proof` the xor of the nonces of [start, stop)?"""
    if start == stop:
        return proof == 0
    a, b = _halves(2).unpack(
        keys.encrypt_blocks(_blocks(2).pack(epoch_key, start, epoch_key, stop))
    )
    return not a ^ b ^ proof  # which takes as long wherever they differ
