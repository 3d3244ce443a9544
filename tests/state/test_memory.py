from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trickles_web.state import Claim, Ledger, Limits, MemoryStore
from trickles_web.state.backing import MEMORY_BYTES
from trickles_web.state.ledger import LIFE_MS
from trickles_web.state.memory import ENTRY_OVERHEAD
from trickles_web.state.spool import SPOOL_OVERHEAD


class Thing:
    """A response of a given size."""

    def __init__(self, size: int, running: bool = False) -> None:
        self.size = size
        self.running = running


def store(**limits: int) -> MemoryStore[Thing]:
    return MemoryStore(b"\0\0\0\7", Limits(**limits))


def test_keeps_the_newest_so_many() -> None:
    s = store(most_responses=3)
    things = [Thing(10) for _ in range(5)]
    for i, thing in enumerate(things):
        s.keep((i, 0), thing, i)
        s.response((2, 0), i)
    assert [s.response((i, 0), 9) for i in range(5)] == [None, None, *things[2:]]
    assert s.used == 3 * (10 + ENTRY_OVERHEAD)


def test_a_repeat_makes_it_newer() -> None:
    s = store(most_responses=2)
    for i in range(2):
        s.keep((i, 0), Thing(1), 0)
    assert s.response((0, 0), 1) is not None
    s.keep((2, 0), Thing(1), 2)
    assert s.response((0, 0), 3) is not None
    assert s.response((1, 0), 3) is None


def test_age() -> None:
    s = store(ttl_ms=100)
    s.keep((1, 0), Thing(1), 0)
    s.open_spool((1, 0), 0, 0)
    assert s.response((1, 0), 100) is not None
    assert s.response((1, 0), 200) is not None
    assert s.response((1, 0), 301) is None
    s.keep((2, 0), Thing(1), 301)
    assert (len(s), s.spools) == (1, 0)


def test_running_responses_stay() -> None:
    s = store(most_bytes=5000, most_responses=1)
    running = Thing(5000, running=True)
    s.keep((0, 0), running, 0)
    s.keep((1, 0), Thing(3000), 0)
    s.keep((2, 0), Thing(3000), 10**9)
    assert s.response((0, 0), 10**9) is running
    assert s.response((1, 0), 10**9) is None
    assert s.full_for((0, 0))
    assert len(s) == 1
    s.drop((0, 0))
    assert not s.full_for((0, 0))


def test_growth_is_accounted() -> None:
    s = store(most_bytes=10_000)
    thing = Thing(1, running=True)
    s.keep((0, 0), thing, 0)
    s.keep((1, 0), Thing(5000), 0)
    thing.size = 9000
    s.resized((0, 0), thing)
    assert s.response((1, 0), 0) is None
    assert s.used == 9000 + ENTRY_OVERHEAD
    s.resized((0, 0), Thing(1))
    assert s.used == 9000 + ENTRY_OVERHEAD
    finished = Thing(20)
    s.keep((0, 0), finished, 0)
    assert s.used == 20 + ENTRY_OVERHEAD


def test_spools_give_way_to_others() -> None:
    s = store(most_bytes=4000)
    for i in range(4):
        spool = s.open_spool((i, 0), 0, i)
        s.write((i, 0), spool, 0, b"x" * 900, 1 << 20)
    assert [s.spool((i, 0), 9) is not None for i in range(4)] == [False, False, True, True]
    assert s.used == 2 * (900 + SPOOL_OVERHEAD)
    s.close_spool((2, 0))
    s.close_spool((2, 0))
    assert s.used == 900 + SPOOL_OVERHEAD


def test_what_reading_costs_is_accounted() -> None:
    s = store(most_bytes=10_000)
    spool = s.open_spool((1, 0), 0, 0)
    s.write((1, 0), spool, 0, b"abc", 10)
    s.charge((1, 0), spool, 5000)
    s.charge((1, 0), spool, 4000)
    assert s.used == spool.size == SPOOL_OVERHEAD + 3 + 4000
    s.keep((2, 0), Thing(8000), 0)
    assert s.used == 8000 + ENTRY_OVERHEAD, "the spool gave way"
    s.charge((1, 0), spool, 9000)
    assert s.used == 8000 + ENTRY_OVERHEAD
    s.drop((2, 0))
    assert s.used == 0


def test_an_evicted_spool_is_not_accounted() -> None:
    s = store()
    spool = s.open_spool((1, 0), 0, 0)
    s.wipe(b"\0\0\0\1")
    s.write((1, 0), spool, 0, b"abc", 10)
    assert s.used == 0


@given(
    st.lists(
        st.tuples(st.integers(0, 6), st.integers(0, 3), st.integers(0, 3000), st.booleans()),
        max_size=60,
    )
)
def test_any_sequence_stays_within_its_bounds(
    steps: list[tuple[int, int, int, bool]],
) -> None:
    s = store(most_bytes=8000, most_responses=4, ttl_ms=20)
    running: dict[int, Thing] = {}
    for now, (key, what, size, flag) in enumerate(steps):
        if what == 0:
            s.keep((key, 0), Thing(size), now)
            running.pop(key, None)
        elif what == 1 and len(running) < 2:
            running[key] = Thing(size, running=True)
            s.keep((key, 0), running[key], now)
        elif what == 2:
            spool = s.open_spool((key, 0), 0, now)
            s.write((key, 0), spool, size, bytes(300), 1 << 20)
        elif flag:
            s.drop((key, 0))
            running.pop(key, None)
        else:
            s.response((key, 0), now)
        for name, thing in running.items():
            assert s.response((name, 0), now) is thing
        assert len(s) <= 4 + len(running)
        fixed = sum(thing.size + ENTRY_OVERHEAD for thing in running.values())
        assert s.used <= max(8000, fixed) + 3000 + ENTRY_OVERHEAD
    for key in range(7):
        s.drop((key, 0))
    assert s.used == 0


def test_wiping_empties_and_renames() -> None:
    s = store()
    assert s.id == 7
    s.keep((1, 0), Thing(5, running=True), 0)
    s.open_spool((1, 0), 0, 0)
    assert s.claim((1, 0), b"digest", 0) is Claim.GRANTED
    s.wipe(b"\0\0\1\0rest")
    assert s.id == 256
    assert (s.used, len(s), s.spools, len(s.ledger)) == (0, 0, 0, 0)
    s.wipe(bytes(4))
    assert s.id == 1


def test_a_claim_is_granted_once() -> None:
    s = store()
    assert s.claim((1, 0), b"a", 0) is Claim.GRANTED
    assert s.claim((1, 0), b"a", 0) is Claim.KNOWN
    assert s.claim((1, 0), b"b", 0) is Claim.CONFLICT
    assert s.claim((1, 1), b"a", 0) is Claim.GRANTED
    entry = s.claimed((1, 0))
    assert entry is not None
    assert (entry.digest, entry.claimed, entry.ended) == (b"a", 0, 0)
    assert s.claimed((2, 0)) is None


def test_no_prefix_has_more_than_half_of_the_ledger() -> None:
    """Or one client, with a thousand POSTs a second, would leave no place for anybody's."""
    ledger = Ledger(capacity=4, lingering=0)
    assert ledger.claim((1, 0), b"", 0, "192.0.2") is Claim.GRANTED
    assert ledger.claim((2, 0), b"", 0, "192.0.2") is Claim.GRANTED
    assert ledger.claim((3, 0), b"", 0, "192.0.2") is Claim.FULL
    assert ledger.claim((2, 0), b"", 0, "192.0.2") is Claim.KNOWN
    assert ledger.claim((4, 0), b"", 0, "198.51.100") is Claim.GRANTED
    ledger.withdraw((1, 0))
    assert ledger.claim((5, 0), b"", 0, "192.0.2") is Claim.GRANTED
    assert ledger.claim((3, 0), b"", 0, "192.0.2") is Claim.FULL
    ledger.ended((2, 0), 0)
    assert ledger.claim((6, 0), b"", LIFE_MS + 1, "192.0.2") is Claim.GRANTED
    ledger.clear()
    assert ledger.claim((7, 0), b"", LIFE_MS + 1, "192.0.2") is Claim.GRANTED


@pytest.mark.parametrize("lingering", [0, 5])
def test_live_entries_are_never_dropped(lingering: int) -> None:
    ledger = Ledger(capacity=2, lingering=lingering)
    assert ledger.claim((1, 0), b"", 0) is Claim.GRANTED
    assert ledger.claim((2, 0), b"", 0) is Claim.GRANTED
    assert ledger.claim((3, 0), b"", 10 * LIFE_MS) is Claim.FULL
    ledger.ended((1, 0), 10 * LIFE_MS)
    ledger.ended((1, 0), 99 * LIFE_MS)
    assert ledger.claim((3, 0), b"", 11 * LIFE_MS - 1) is Claim.FULL
    assert ledger.claim((3, 0), b"", 11 * LIFE_MS) is Claim.GRANTED
    assert ledger.find((1, 0)) is None
    assert ledger.find((2, 0)) is not None


def test_entries_linger_while_there_is_room() -> None:
    ledger = Ledger(capacity=100, lingering=3)
    for i in range(10):
        ledger.claim((i, 0), b"", 0)
        ledger.ended((i, 0), 1)
    assert ledger.claim((0, 0), b"", 50 * LIFE_MS) is Claim.KNOWN
    assert ledger.claim((99, 0), b"", 50 * LIFE_MS) is Claim.GRANTED
    assert [ledger.find((i, 0)) is not None for i in range(10)] == [False] * 7 + [True] * 3


@pytest.mark.parametrize("end", ["close", "drop", "wipe", "evict", "expire"])
def test_a_spool_that_goes_gives_its_disk_back(end: str) -> None:
    s = store(most_bytes=1 << 22, ttl_ms=100)
    spool = s.open_spool((1, 0), 0, 0)
    s.write((1, 0), spool, 0, bytes(MEMORY_BYTES + 1), 1 << 30)
    assert (s.used, s.disk.used) == (SPOOL_OVERHEAD, MEMORY_BYTES + 1)
    if end == "close":
        s.close_spool((1, 0))
    elif end == "drop":
        s.drop((1, 0))
    elif end == "wipe":
        s.wipe(bytes(4))
    elif end == "evict":
        s.keep((2, 0), Thing(1 << 22), 0)
    else:
        s.open_spool((2, 0), 0, 201)
    assert s.disk.used == 0
    s.write((1, 0), spool, 0, bytes(MEMORY_BYTES + 1), 1 << 30)
    assert s.disk.used == 0, "too late"


def test_a_body_that_was_taken_is_not_accounted() -> None:
    s = store()
    spool = s.open_spool((1, 0), 0, 0)
    s.write((1, 0), spool, 0, bytes(1000), 1 << 30)
    body = spool.data.moved()
    s.close_spool((1, 0))
    assert s.used == 0
    assert len(body) == 1000


def fill(s: MemoryStore[Thing], key: int, size: int, prefix: str | None) -> bool:
    """Send so many bytes of a request; was there room?"""
    spool = s.open_spool((key, 0), 0, 0, prefix)
    for at in range(0, size, 60_000):
        s.write((key, 0), spool, at, bytes(min(60_000, size - at)), size)
    return not spool.starved


def test_one_network_has_half_of_the_disk_at_most() -> None:
    s = store(disk_bytes=10 * MEMORY_BYTES, most_bytes=100 * MEMORY_BYTES)
    size = 2 * MEMORY_BYTES
    assert [fill(s, key, size, "192.0.2") for key in range(4)] == [True, True, False, False]
    assert fill(s, 4, MEMORY_BYTES // 2, "192.0.2"), "what stays in memory is not of the disk"
    assert fill(s, 5, size, "192.0.3")
    assert s.disk.used < 8 * MEMORY_BYTES
    s.close_spool((0, 0))
    s.close_spool((2, 0))
    assert fill(s, 6, size, "192.0.2")
    s.wipe(b"\0\0\0\1")
    assert s.disk.used == 0
    assert [fill(s, key, size, None) for key in range(4)] == [True] * 4
    s.wipe(b"\0\0\0\1")


def test_one_network_has_half_of_the_files_at_most() -> None:
    s = store(disk_files=4, most_bytes=100 * MEMORY_BYTES)
    size = MEMORY_BYTES + 1
    assert [fill(s, key, size, "192.0.2") for key in range(4)] == [True, True, False, False]
    assert fill(s, 4, size, "192.0.3")
    assert s.disk.files == 3
    s.wipe(b"\0\0\0\1")
