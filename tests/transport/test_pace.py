"""How fast an answer may leave: from what is sealed in the continuation that was presented."""

from __future__ import annotations

import pytest

from trickles_web.transport.continuation import Continuation
from trickles_web.transport.epochs import LARGEST_WINDOW, Epoch, after_loss, frontier, window
from trickles_web.transport.redeemed import LEAST_PACE, Answer, Redeemed
from trickles_web.transport.wire import Kind

NOW = 1_800_000_000_000
STEADY = Epoch(1, 0, 0, 400, 400)
SLOW_START = Epoch(1, 0, 0, 400, LARGEST_WINDOW)


def redeemed(age: int, epoch: Epoch, successor: Epoch | None = None) -> Redeemed:
    """An answer to a continuation minted `age` ms ago, its numbers those after the first window."""
    low = frontier(epoch, epoch.base)
    owner = (7, 0, 9, epoch, 1452, 0, 0)
    c = Continuation(
        0, 0, 0, *owner, epoch.base, epoch.base + 40, 0, NOW - age, 0, 0, 0, 0, 0, -1, 1, 0
    )
    answer = Answer(
        ordinal=0,
        generation=9,
        epoch=epoch,
        successor=successor,
        low=low,
        high=low + 46,
        wants=((0, 100_000),),
        size=1452,
        nonce_generation=0,
        attempt=0,
        paid=0,
        marks=(),
        absent=(),
    )
    return Redeemed(
        Kind.REQUEST, bytes(8), 7, ("127.0.0.1", 1), b"", at=NOW, continuation=c, answers=(answer,)
    )


@pytest.mark.parametrize("age", [10, 20, 100])
def test_a_window_and_a_quarter_leave_in_a_round_trip(age: int) -> None:
    w = window(STEADY, frontier(STEADY, 0))
    assert redeemed(age, STEADY).pace(0) == -(-5 * w // (4 * age))


def test_two_windows_do_in_slow_start() -> None:
    assert redeemed(20, SLOW_START).pace(0) == 2 * 800 // 20


def test_after_a_loss_the_halved_window_counts() -> None:
    successor = after_loss(STEADY, 200, key=2)
    assert successor.cwnd0 == 200
    assert redeemed(20, STEADY, successor).pace(0) == 13  # of 12.5


def test_time_that_answers_waited_to_be_paced_does_not_slow_them_down_again() -> None:
    assert redeemed(60, STEADY).pace(40) == redeemed(20, STEADY).pace(0)


@pytest.mark.parametrize("age", [-3, 0, 1])
@pytest.mark.parametrize("waited", [0, 5])
def test_clocks_that_differ_make_no_pace_endless(age: int, waited: int) -> None:
    assert redeemed(age, STEADY).pace(waited) == redeemed(1, STEADY).pace(0)


def test_there_is_a_least_pace() -> None:
    assert redeemed(50_000, STEADY).pace(0) == LEAST_PACE
    first_contact = redeemed(20, STEADY)
    first_contact.continuation = None
    assert first_contact.pace(0) == LEAST_PACE
