from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trickles_web.state import spool as module
from trickles_web.state.backing import MEMORY_BYTES, Disk
from trickles_web.state.spool import (
    BLOCK_BYTES,
    MOST_ABSORBED,
    MOST_BLOCKS,
    MOST_ISLANDS,
    Conflict,
    Spool,
)

START = 1000
WHOLE = bytes(i * 7 % 251 for i in range(120))
LIMIT = START + len(WHOLE)

pieces = st.lists(
    st.tuples(st.integers(-20, 110), st.integers(0, 60)).map(lambda p: (p[0], p[0] + p[1])),
    max_size=20,
)


def source(start: int, stop: int) -> bytes:
    return bytes(WHOLE[i] if 0 <= i < len(WHOLE) else 9 for i in range(start, stop))


@given(pieces)
def test_like_a_plain_table(ranges: list[tuple[int, int]]) -> None:
    spool = Spool(START, Disk(0))
    held: set[int] = set()
    for start, stop in ranges:
        spool.write(START + start, source(start, stop), LIMIT)
        held |= set(range(max(0, start), min(stop, len(WHOLE))))
        contiguous = next(i for i in range(len(WHOLE) + 1) if i not in held)
        assert spool.held == START + contiguous
        assert spool.data[:] == WHOLE[:contiguous]
        missing = {i - START for a, b in spool.missing(LIMIT, 99) for i in range(a, b)}
        assert missing == set(range(len(WHOLE))) - held
        runs = sum(i in held and i - 1 not in held for i in range(contiguous, len(WHOLE)))
        assert spool.islands == runs
        assert spool.size >= module.SPOOL_OVERHEAD + contiguous
        if not runs:
            assert spool.size == module.SPOOL_OVERHEAD + contiguous


@given(pieces, st.integers(0, 119), st.integers(0, 30), st.integers(0, 30))
def test_a_differing_overlap_is_a_conflict(
    ranges: list[tuple[int, int]], at: int, before: int, after: int
) -> None:
    spool = Spool(START, Disk(0))
    held: set[int] = set()
    for start, stop in ranges:
        spool.write(START + start, source(start, stop), LIMIT)
        held |= set(range(max(0, start), min(stop, len(WHOLE))))
    start, stop = max(0, at - before), min(len(WHOLE), at + after + 1)
    forged = bytearray(source(start, stop))
    forged[at - start] ^= 1
    if at in held:
        with pytest.raises(Conflict):
            spool.write(START + start, bytes(forged), LIMIT)
        spool.write(START, WHOLE, LIMIT)
        assert spool.data[:] == WHOLE
    else:
        spool.write(START + start, bytes(forged), LIMIT)


def test_missing_ranges_are_bounded() -> None:
    spool = Spool(0, Disk(0))
    for i in range(0, 100, 2):
        spool.write(i + 1, b"x", 200)
    assert spool.missing(200) == [(i, i + 1) for i in range(0, 32, 2)]
    assert spool.missing(3, 9) == [(0, 1), (2, 3)]
    assert spool.missing(0) == []


def test_islands_are_bounded() -> None:
    spool = Spool(0, Disk(0))
    for i in range(MOST_ISLANDS + 10):
        spool.write(2 * i + 1, b"x", 1 << 30)
    assert spool.islands == MOST_ISLANDS
    assert spool.held == 0
    # What joins islands is welcome even then.
    spool.write(2, b"xxx", 1 << 30)
    assert spool.islands == MOST_ISLANDS - 2
    assert spool.missing(2 * MOST_ISLANDS + 20)[:2] == [(0, 1), (6, 7)]


@pytest.mark.parametrize("order", [1, -1])
def test_adjacent_pieces_are_one_island(order: int) -> None:
    """However many there were, only gaps are walked over and only blocks are moved."""
    spool = Spool(0, Disk(0))
    for i in list(range(1, 8192))[::order]:
        spool.write(i, b"x", 1 << 30)
        assert spool.islands == 1
    assert spool.size < 2 * 8192 + module.SPOOL_OVERHEAD
    assert spool.missing(9000) == [(0, 1), (8192, 9000)]
    spool.write(0, b"x", 1 << 30)
    assert spool.data[:] == b"x" * 8192
    assert spool.size == module.SPOOL_OVERHEAD + 8192


def test_filling_a_gap_moves_a_bounded_part() -> None:
    spool, total = Spool(0, Disk(0)), 3 * MOST_ABSORBED
    data = bytes(i % 251 for i in range(total))
    for at in range(total - 1200, 0, -1200):
        spool.write(at, data[at : at + 1200], total)
    spool.write(0, data[:1200], total)
    assert spool.behind
    assert spool.held <= 1200 + MOST_ABSORBED
    assert spool.missing(total) == []
    with pytest.raises(Conflict):
        spool.write(total - 10, b"?", total)
    calls = 0
    while spool.behind:
        before = spool.held
        spool.write(0, b"", total)
        assert 0 < spool.held - before <= MOST_ABSORBED
        calls += 1
    assert calls == 2
    assert spool.data[:] == data
    assert spool.size == module.SPOOL_OVERHEAD + total


def test_blocks_are_freed_when_passed() -> None:
    """Islands that a piece swallows whole, with gaps between, must not leave blocks behind."""
    spool, far = Spool(0, Disk(0)), 100 * BLOCK_BYTES
    spool.write(far, b"z", 1 << 30)
    least = spool.size
    for block in (1, 3, 4, 8):
        spool.write(block * BLOCK_BYTES + 5, b"\0" * 7, 1 << 30)
    spool.write(0, bytes(10 * BLOCK_BYTES), 1 << 30)
    assert spool.size == least + 10 * BLOCK_BYTES
    assert spool.islands == 1


def test_islands_are_bounded_in_bytes() -> None:
    spool, piece = Spool(0, Disk(0)), bytes(65_536)
    for at in range(1, 2 * MOST_BLOCKS * BLOCK_BYTES, len(piece)):
        spool.write(at, piece, 1 << 40)
    assert spool.islands == 1
    assert spool.size < MOST_BLOCKS * (BLOCK_BYTES + 160) + 2048
    begin, stop = spool.missing(1 << 40)[1]
    assert (MOST_BLOCKS - 64) * BLOCK_BYTES < begin < MOST_BLOCKS * BLOCK_BYTES
    assert stop == 1 << 40
    with pytest.raises(Conflict):
        spool.write(begin - 1, b"?", 1 << 40)


@pytest.mark.parametrize("backwards", [False, True])
def test_many_bytes_lie_on_disk(backwards: bool) -> None:
    disk, total = Disk(1 << 30), 3 * MEMORY_BYTES
    spool = Spool(START, disk)
    data = bytes(i * 7 % 251 for i in range(total))
    for at in sorted(range(0, total, 50_000), reverse=backwards):
        spool.write(START + at, data[at : at + 50_000], START + total)
    while spool.behind:
        spool.write(START, b"", START + total)
    assert spool.data[:] == data
    assert spool.size == module.SPOOL_OVERHEAD
    assert disk.used == total
    with pytest.raises(Conflict):
        spool.write(START + 77, b"?", START + total)
    spool.close()
    assert disk.used == 0


@pytest.mark.parametrize("backwards", [False, True])
def test_a_full_disk_starves_a_spool(backwards: bool) -> None:
    disk, total = Disk(2 * MEMORY_BYTES), 3 * MEMORY_BYTES
    spool = Spool(0, disk)
    for at in sorted(range(0, total, 50_000), reverse=backwards):
        spool.write(at, bytes(50_000), total)
    while spool.behind:
        spool.write(0, b"", total)
    assert "on disk" in spool.starved
    held = spool.held
    assert MEMORY_BYTES < held <= 2 * MEMORY_BYTES
    spool.write(held, b"more", total)
    assert spool.held == held
    spool.close()
    assert disk.used == 0
