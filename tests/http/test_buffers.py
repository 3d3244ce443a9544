"""Memory that is lent: never twice at a time."""

from __future__ import annotations

from trickles_web.http.buffers import MOST, SIZE, WORTH_KEEPING, Buffers


def address(view: memoryview) -> int:
    return id(view.obj)


def test_what_nobody_looks_into_is_lent_again() -> None:
    buffers = Buffers()
    first = buffers.lend(SIZE)
    before = address(first)
    del first
    assert address(buffers.lend(WORTH_KEEPING)) == before


def test_a_part_of_a_view_is_enough_to_keep_it() -> None:
    buffers = Buffers()
    first = buffers.lend(SIZE)
    first[5:6] = b"x"
    part = first[5:6]
    del first
    lent = [buffers.lend(SIZE) for _ in range(2 * MOST)]
    for view in lent:
        view[:] = bytes(SIZE)
    assert bytes(part) == b"x"
    assert len({address(view) for view in [*lent, part]}) == 2 * MOST + 1


def test_no_more_are_kept_than_that() -> None:
    buffers = Buffers()
    lent = [buffers.lend(SIZE) for _ in range(2 * MOST)]
    kept = {address(view) for view in lent[:MOST]}
    lent.clear()
    again = [buffers.lend(SIZE) for _ in range(MOST)]
    assert {address(view) for view in again} == kept


def test_each_is_as_long_as_asked_for() -> None:
    buffers = Buffers()
    for size in (0, 1, WORTH_KEEPING, SIZE, SIZE + 1):
        assert len(buffers.lend(size)) == size
