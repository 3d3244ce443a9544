"""The replay filter: what it promises to remember, and when it says that it has forgotten."""

from __future__ import annotations

import random

from trickles_web.transport.replay import RESTART_GRACE_MS, ReplayFilter

SPAN = 70_000
BEGIN = 1_000_000


def key(n: int) -> bytes:
    return n.to_bytes(8, "big")


def test_nothing_is_forgotten_within_the_span() -> None:
    """A random load over 20 spans of time, well below capacity: no false negative."""
    rng = random.Random(3)
    replay, now = ReplayFilter(1 << 14, SPAN), BEGIN
    spent: list[tuple[int, int]] = []
    for n in range(4000):
        now += rng.randrange(700)
        replay.turn(now)
        replay.add(key(n))
        spent.append((now, n))
        if n % 50 == 0:
            recent = [m for at, m in spent if now - at <= SPAN]
            assert all(key(m) in replay for m in recent)
        assert replay.remembers_from <= max(BEGIN, now - SPAN)
    # And it does forget: keys of three spans ago are gone, but for false positives.
    old = [m for at, m in spent if now - at > 3 * SPAN]
    assert len(old) > 1000
    assert sum(key(m) in replay for m in old) < 5


def test_few_false_positives_at_capacity() -> None:
    replay = ReplayFilter(1 << 14, SPAN)
    replay.turn(0)
    for n in range(1 << 14):
        replay.add(key(n))
    assert sum(key(n) in replay for n in range(1 << 20, (1 << 20) + 100_000)) <= 5


def test_full_filters_turn_early_and_say_since_when_they_remember() -> None:
    replay = ReplayFilter(100, SPAN)
    assert not replay.turn(1000)
    for n in range(100):
        replay.add(key(n))
    assert replay.turn(2000)
    assert replay.remembers_from == 1000 - RESTART_GRACE_MS
    for n in range(100, 200):
        replay.add(key(n))
    assert all(key(n) in replay for n in range(200))
    assert replay.turn(3000)
    # The keys up to 2000 are lost now, and what was minted then must count as old.
    assert replay.remembers_from == 2001
    assert all(key(n) in replay for n in range(100, 200))
    assert not all(key(n) in replay for n in range(100))


def test_a_turn_in_time_is_no_reason_to_take_anything_fresh_for_old() -> None:
    replay = ReplayFilter(100, SPAN)
    replay.turn(1000)
    replay.add(key(1))
    replay.turn(1000 + SPAN)
    assert replay.remembers_from == 1000 - RESTART_GRACE_MS
    assert key(1) in replay
    replay.turn(1000 + 2 * SPAN)
    assert key(1) not in replay


HOUR_MS = 3_600_000


def test_what_was_spent_before_a_clock_went_wrong_is_known_or_old_once_it_is_right() -> None:
    """An hour ahead for long enough to forget: what is minted before that is not honoured again."""
    replay = ReplayFilter(100, SPAN)
    replay.turn(BEGIN)
    replay.add(key(1))
    for wrong in (BEGIN + HOUR_MS, BEGIN + HOUR_MS + SPAN):
        replay.turn(wrong)
    assert key(1) not in replay
    right = BEGIN + SPAN
    replay.turn(right)
    assert BEGIN < replay.remembers_from <= right + 1
    replay.turn(right + 10)
    assert replay.remembers_from <= right + 1, "what is minted from now on is fresh"


def test_a_clock_that_is_set_back_does_not_make_what_follows_old() -> None:
    """And the filters go on to take turns, by the clock as it is then."""
    replay = ReplayFilter(100, SPAN)
    for n in range(50):
        replay.turn(BEGIN + n * SPAN)
    now = BEGIN + 50 * SPAN - HOUR_MS
    replay.turn(now)
    replay.add(key(1))
    assert replay.remembers_from <= now + 1
    for n in range(1, 50):
        replay.turn(now + n * SPAN // 2)
        assert replay.remembers_from <= max(now + 1, now + n * SPAN // 2 - SPAN + 1)
    assert key(1) not in replay


def test_a_clock_that_goes_back_and_forth_does_not_make_what_is_forgotten_fresh() -> None:
    replay = ReplayFilter(100, SPAN)
    replay.turn(BEGIN)
    replay.add(key(1))
    for _ in range(3):
        replay.turn(BEGIN - HOUR_MS)
        assert replay.remembers_from <= BEGIN - HOUR_MS + 1
        replay.turn(BEGIN)
    assert key(1) not in replay
    assert replay.remembers_from == BEGIN + 1


def test_every_spent_key_younger_than_the_promise_is_known() -> None:
    """The promise itself, under a load that overflows at random."""
    rng = random.Random(11)
    replay, now = ReplayFilter(64, SPAN), 5_000_000
    spent: list[tuple[int, int]] = []
    for n in range(3000):
        now += rng.choice([1, 10, 3000])
        replay.turn(now)
        replay.add(key(n))
        spent.append((now, n))
        since = max(replay.remembers_from, now - SPAN)
        assert all(key(m) in replay for at, m in spent[-400:] if at >= since)
    assert replay.remembers_from > 5_000_000


def test_wipe_forgets_everything() -> None:
    replay = ReplayFilter(100, SPAN)
    replay.turn(0)
    replay.add(key(1))
    replay.turn(SPAN)
    replay.add(key(2))
    replay.wipe()
    assert key(1) not in replay
    assert key(2) not in replay
    replay.add(key(3))
    assert key(3) in replay


def test_a_process_that_starts_honours_what_is_a_few_seconds_old() -> None:
    """The bound of what can be spent twice over a restart."""
    replay = ReplayFilter(100, SPAN)
    replay.turn(BEGIN)
    assert replay.remembers_from == BEGIN - RESTART_GRACE_MS
    replay.wipe()
    replay.turn(BEGIN + 50_000)
    assert replay.remembers_from == BEGIN + 50_000 - RESTART_GRACE_MS


def test_marks_count_what_was_added() -> None:
    """As long as the count stands still, what was tested still holds."""
    replay = ReplayFilter(100, SPAN)
    before = replay.marks
    assert key(1) not in replay
    assert replay.marks == before
    replay.add(key(1))
    assert replay.marks == before + 1
