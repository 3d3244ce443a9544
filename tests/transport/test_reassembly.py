"""The response stream at the client: any arrival order gives the same bytes, once."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from trickles_web.transport.reassembly import Reassembly

WHOLE = random.Random(7).randbytes(200)
VIEW = memoryview(WHOLE)

pieces = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 60)), max_size=60)


@given(pieces, st.lists(st.integers(0, 80), max_size=60))
def test_bytes_come_out_in_order_and_once(
    arrivals: list[tuple[int, int]], reads: list[int]
) -> None:
    """Pieces overlap, repeat, touch, are empty; reads of any size come between."""
    stream, here, out = Reassembly(), set[int](), b""
    limits = iter(reads)
    for offset, length in arrivals:
        stop = min(offset + length, len(WHOLE))
        middle = max(offset, stop // 2)
        stream.insert_all(offset, [VIEW[offset:middle], WHOLE[middle:stop]], max(0, stop - offset))
        here |= set(range(offset, stop))
        prefix = next(k for k in range(len(WHOLE) + 1) if k not in here)
        assert stream.received == prefix
        assert stream.highest == max((k + 1 for k in here), default=0)
        missing = [k for x, y in stream.missing(0, len(WHOLE)) for k in range(x, y)]
        assert missing == sorted(set(range(len(WHOLE))) - here)
        limit = next(limits, None)
        if limit is not None:
            data = stream.read(limit)
            assert len(data) == min(limit, prefix - len(out))
            out += data
        assert stream.delivered == len(out)
    out += stream.read(1 << 30)
    assert out == WHOLE[: stream.received]
    assert stream.read(10) == b""


def test_a_longer_piece_at_the_same_offset_replaces_the_shorter() -> None:
    stream = Reassembly()
    stream.insert(10, WHOLE[10:12])
    stream.insert(10, WHOLE[10:20])
    stream.insert(10, WHOLE[10:15])
    stream.insert(0, WHOLE[:10])
    assert stream.read(1000) == WHOLE[:20]


def test_restart_forgets_what_was_not_handed_on() -> None:
    stream = Reassembly()
    stream.insert(0, b"abcdef")
    assert stream.read(2) == b"ab"
    stream.insert(10, b"zz")
    stream.restart(2)
    assert (stream.received, stream.delivered, stream.highest) == (2, 2, 2)
    stream.insert(2, b"CDEF")
    assert stream.read(100) == b"CDEF"
    assert list(stream.missing(0, 12)) == [(6, 12)]
