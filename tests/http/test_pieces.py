"""A response's bytes as pieces: always the same bytes, however they came and whatever has gone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trickles_web.errors import ResponseGone
from trickles_web.http import names
from trickles_web.http.names import NAME_KEY_BYTES, Names, digest
from trickles_web.http.pieces import BLOCK, LARGE, WORTH_CUTTING, Pieces

BASE = 1_000
BYTES = bytes(range(251)) * 20_000
NAMES = Names((b"k" * NAME_KEY_BYTES,))

sizes = st.sampled_from([0, 1, 100, LARGE - 1, LARGE, BLOCK, 3 * WORTH_CUTTING])
steps = st.lists(st.tuples(sizes, st.integers(0, len(BYTES)), st.integers(0, 100_000)), max_size=12)


@given(steps)
def test_like_a_plain_byte_string(taken: list[tuple[int, int, int]]) -> None:
    pieces, whole = Pieces(BASE), b""
    views: list[tuple[bytes | memoryview, bytes]] = []
    for size, at, length in taken:
        pieces.append(BYTES[:size])
        whole += BYTES[:size]
        assert (pieces.stop, len(pieces)) == (BASE + len(whole), pieces.stop - pieces.base)
        start = min(max(pieces.base, BASE + at), pieces.stop)
        stop = min(start + length, pieces.stop)
        expected = whole[start - BASE : stop - BASE]
        read = pieces.read(start, stop)
        assert read == expected
        views.append((read, expected))
        before = pieces.base
        assert pieces.forget(start) == (pieces.base > before)
        assert before <= pieces.base <= max(before, start)
        assert b"".join(pieces.all()) == whole[pieces.base - BASE :]
    for read, expected in views:  # what was read stays, whatever happens behind it
        assert read == expected


def test_a_large_piece_is_never_copied() -> None:
    pieces = Pieces(BASE)
    large = bytes(LARGE)
    pieces.append(b"head")
    pieces.append(large)
    assert pieces.all()[1] is large
    read = pieces.read(BASE + 4, BASE + 4 + LARGE)
    assert isinstance(read, memoryview) and read.obj is large


def test_small_pieces_are_gathered() -> None:
    pieces = Pieces(BASE)
    for _ in range(10_000):
        pieces.append(b"x" * 100)
    assert len(pieces.all()) <= 1_000_000 // (BLOCK - 100) + 1


def test_no_more_is_kept_than_twice_what_is_wanted() -> None:
    pieces = Pieces(BASE, bytes(10 * WORTH_CUTTING))
    for at in range(BASE, pieces.stop, 10_000):
        pieces.forget(at)
        assert len(pieces) <= max(2 * (pieces.stop - at), pieces.stop - at + WORTH_CUTTING) + 10_000
    pieces.forget(pieces.stop)
    assert (len(pieces), pieces.all()) == (0, [])
    pieces.append(b"more")
    assert pieces.read(pieces.base, pieces.stop) == b"more"


def test_what_is_not_held_is_gone() -> None:
    pieces = Pieces(BASE, bytes(10))
    for start, stop in ((BASE - 1, BASE + 1), (BASE, BASE + 11)):
        with pytest.raises(ResponseGone):
            pieces.read(start, stop)


# ---- names


@given(st.lists(sizes.filter(lambda size: size < WORTH_CUTTING), max_size=6), st.integers(0, 250))
def test_a_name_is_of_the_bytes_and_not_of_their_pieces(lengths: list[int], at: int) -> None:
    pieces: list[bytes | bytearray] = [BYTES[at : at + length] for length in lengths]
    name = NAMES.of(pieces)
    assert name == NAMES.of([b"".join(pieces)]) == NAMES.of([bytearray(b"".join(pieces))])
    assert len(name) == len(digest(b""))
    altered = bytearray(b"".join(pieces) + b"\0")
    assert NAMES.of([altered]) != name
    if altered[:-1]:
        altered[0] ^= 1
        assert NAMES.of([altered[:-1]]) != name


def test_names_of_long_responses_need_the_key() -> None:
    long = BYTES[: names.SHORT + 1]
    other = Names((b"o" * NAME_KEY_BYTES,))
    assert NAMES.of([long]) == Names((b"k" * NAME_KEY_BYTES,)).of([long]) != other.of([long])
    assert NAMES.of([long[:-1]]) == other.of([long[:-1]]) == digest(long[:-1])
