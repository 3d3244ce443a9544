"""Proof of receipt, exhaustively: what was not received cannot be proven."""

from __future__ import annotations

from functools import reduce
from operator import xor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.transport.driver import NOW, keyring
from trickles_web.transport.nonces import nonces, proves

KEYS = keyring().current(NOW)
PACKETS = 12
FIRST = 1000
EPOCH = 0x0123_4567_89AB_CDEF


def total(values: list[int]) -> int:
    return reduce(xor, values, 0)


@given(st.integers(0, (1 << 64) - 1), st.integers(0, 1 << 31), st.integers(1, 60), st.data())
def test_nonces_telescope(epoch: int, start: int, count: int, data: st.DataObject) -> None:
    values = nonces(KEYS, epoch, start, start + count)
    assert len(values) == count
    x = data.draw(st.integers(0, count))
    y = data.draw(st.integers(x, count))
    assert proves(KEYS, epoch, start + x, start + y, total(values[x:y]))
    # The same numbers in two bursts have the same nonces as in one.
    split = nonces(KEYS, epoch, start, start + x) + nonces(KEYS, epoch, start + x, start + count)
    assert split == values


def test_an_empty_range_is_proven_by_zero_alone() -> None:
    assert nonces(KEYS, EPOCH, 5, 5) == []
    assert proves(KEYS, EPOCH, 5, 5, 0)
    assert not proves(KEYS, EPOCH, 5, 5, 1)


@pytest.mark.parametrize("other", [EPOCH ^ 1, 0, EPOCH + 1])
def test_nonces_of_another_epoch_prove_nothing(other: int) -> None:
    value = total(nonces(KEYS, EPOCH, 0, 10))
    assert proves(KEYS, EPOCH, 0, 10, value)
    assert not proves(KEYS, other, 0, 10, value)
    assert not proves(KEYS, EPOCH, 1, 10, value)
    assert not proves(KEYS, EPOCH, 0, 11, value)


def test_every_bit_of_a_proof_counts() -> None:
    value = total(nonces(KEYS, EPOCH, 3, 30))
    assert proves(KEYS, EPOCH, 3, 30, value)
    assert not any(proves(KEYS, EPOCH, 3, 30, value ^ 1 << bit) for bit in range(64))


class Basis:
    """What sums of 64-bit numbers can make, over GF(2), by elimination."""

    def __init__(self, values: list[int]) -> None:
        self._rows: dict[int, int] = {}
        for value in values:
            rest = self._reduce(value)
            if rest:
                self._rows[rest.bit_length()] = rest

    def _reduce(self, value: int) -> int:
        while value and value.bit_length() in self._rows:
            value ^= self._rows[value.bit_length()]
        return value

    def spans(self, value: int) -> bool:
        return not self._reduce(value)


def test_no_receipt_pattern_yields_a_missing_nonce_or_a_proof_over_a_hole() -> None:
    """All 4,096 patterns of 12 packets; every nonce and every range of each."""
    values = nonces(KEYS, EPOCH, FIRST, FIRST + PACKETS)
    sums = {(x, y): total(values[x:y]) for x in range(PACKETS) for y in range(x + 1, PACKETS + 1)}
    # The real sums are proofs, so `proves` and the algebra speak of the same numbers.
    for (x, y), value in sums.items():
        assert proves(KEYS, EPOCH, FIRST + x, FIRST + y, value)
    for pattern in range(1 << PACKETS):
        received = [k for k in range(PACKETS) if pattern >> k & 1]
        basis = Basis([values[k] for k in received])
        for (x, y), value in sums.items():
            whole = pattern >> x & (1 << y - x) - 1 == (1 << y - x) - 1
            assert basis.spans(value) == whole


def test_what_a_liar_can_sum_up_is_refused() -> None:
    """Every sum of the received nonces of 10 packets with one missing, against every range."""
    values = nonces(KEYS, EPOCH, 0, 8)
    for missing in range(8):
        received = [v for k, v in enumerate(values) if k != missing]
        sums = {0}
        for value in received:
            sums |= {s ^ value for s in sums}
        for value in sums:
            assert not proves(KEYS, EPOCH, 0, 8, value)
            assert not proves(KEYS, EPOCH, missing, missing + 1, value)
