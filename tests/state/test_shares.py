"""Who has to give way in a full store: whoever holds most, and nobody for somebody else's sake."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trickles_web.state import Key, Limits, MemoryStore
from trickles_web.state.memory import ENTRY_OVERHEAD
from trickles_web.state.prefixes import Prefix
from trickles_web.state.shares import FEW, Ranking, Share
from trickles_web.state.spool import SPOOL_OVERHEAD

MOST_BYTES = 60_000
MOST_RESPONSES = 12
PREFIXES: list[Prefix] = [None, "192.0.2", "192.0.3", 0x20010DB8_0000FF]


class Thing:
    """A response of a given size."""

    def __init__(self, size: int, running: bool = False) -> None:
        self.size = size
        self.running = running


class Model:
    """What a store was given, and by which prefix; looks at each step what has gone of it."""

    def __init__(self) -> None:
        self.store: MemoryStore[Thing] = MemoryStore(
            bytes(4), Limits(most_bytes=MOST_BYTES, most_responses=MOST_RESPONSES)
        )
        self.things: dict[Key, tuple[Thing, Prefix]] = {}
        self.spools: dict[Key, Prefix] = {}

    def keep(self, key: Key, thing: Thing, prefix: Prefix) -> None:
        self.things[key] = thing, prefix
        self.store.keep(key, thing, 0, prefix)

    def resize(self, key: Key, size: int) -> None:
        if key in self.things:
            self.things[key][0].size = size
            self.store.resized(key, self.things[key][0])

    def write(self, key: Key, offset: int, size: int, prefix: Prefix) -> None:
        self.spools.setdefault(key, prefix)
        spool = self.store.open_spool(key, 0, 0, prefix)
        self.store.write(key, spool, offset, bytes(size), 1 << 20)

    def drop(self, key: Key) -> None:
        self.things.pop(key, None)
        self.spools.pop(key, None)
        self.store.drop(key)

    def held(self) -> tuple[Counter[Prefix], Counter[Prefix]]:
        """Bytes and finished responses of each prefix, after what has gone is taken out."""
        sizes: Counter[Prefix] = Counter()
        numbers: Counter[Prefix] = Counter()
        for key, (thing, prefix) in list(self.things.items()):
            slot = self.store._running.get(key) or self.store._finished.get(key)
            if slot is None:
                assert not thing.running
                del self.things[key]
            else:
                assert slot.response is thing
                sizes[prefix] += thing.size + ENTRY_OVERHEAD
                numbers[prefix] += not thing.running
        for key, prefix in list(self.spools.items()):
            held = self.store._spools.get(key)
            if held is None:
                del self.spools[key]
            else:
                sizes[prefix] += held.spool.size
        return sizes, numbers

    def check(self) -> Counter[Prefix]:
        """The accounts agree with what is held; returns it."""
        sizes, numbers = self.held()
        shares = self.store._shares._shares
        assert {prefix: share.used for prefix, share in shares.items()} == sizes
        assert self.store.used == sum(sizes.values())
        for prefix, share in shares.items():
            assert len(share.finished) == numbers[prefix]
        assert len(self.store) == len(self.things)
        assert self.store.spools == len(self.spools)
        return sizes


KEYS = st.tuples(st.integers(0, 9), st.integers(0, len(PREFIXES) - 1))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("keep"), KEYS, st.integers(0, 30_000), st.sampled_from(PREFIXES)),
        st.tuples(st.just("run"), KEYS, st.integers(0, 3_000), st.sampled_from(PREFIXES)),
        st.tuples(st.just("resize"), KEYS, st.integers(0, 9_000), st.none()),
        st.tuples(st.just("write"), KEYS, st.integers(0, 9_000), st.sampled_from(PREFIXES)),
        st.tuples(st.just("use"), KEYS, st.just(0), st.none()),
        st.tuples(st.just("drop"), KEYS, st.just(0), st.none()),
    ),
    min_size=40,
    max_size=80,
)


def step(model: Model, what: str, key: Key, number: int, prefix: Prefix) -> None:
    if what == "keep":
        model.keep(key, Thing(number), prefix)
    elif what == "run":
        model.keep(key, Thing(number, running=True), prefix)
    elif what == "resize":
        model.resize(key, number)
    elif what == "write":
        model.write(key, number, 500, prefix)
    elif what == "use":
        model.store.response(key, 0)
        model.store.spool(key, 0)
    else:
        model.drop(key)


@settings(max_examples=100)
@given(STEPS)
def test_accounts_are_what_is_held(steps: list[tuple[str, Key, int, Prefix]]) -> None:
    model = Model()
    for n, (what, key, number, prefix) in enumerate(steps):
        step(model, what, key, number, prefix)
        sizes = model.check()
        if n % 3 == 0:
            largest = model.store._shares.largest()
            evictable = {p for thing, p in model.things.values() if not thing.running}
            evictable |= set(model.spools.values())
            most = max((sizes[p] for p in evictable), default=0)
            assert (0 if largest is None else largest.used) == most
    for key in [(n, m) for n in range(10) for m in range(len(PREFIXES))]:
        model.drop(key)
    assert model.check() == {}
    assert model.store._shares._shares == {}


@settings(max_examples=100)
@given(STEPS)
def test_who_holds_an_equal_share_or_less_keeps_it(
    steps: list[tuple[str, Key, int, Prefix]],
) -> None:
    """One prefix uses at most a quarter of the room, the other three what they like."""
    model, mine = Model(), 1
    for what, key, number, _ in steps:
        if what == "run":  # what cannot be evicted could crowd out anybody
            continue
        if key[1] == mine:
            number %= 9_000
            sizes, numbers = model.held()
            if sizes[PREFIXES[mine]] + number + 6_000 > MOST_BYTES // 4:
                continue
            if numbers[PREFIXES[mine]] >= MOST_RESPONSES // 4:
                continue
        model.held()
        before = {k for k in (*model.things, *model.spools) if k[1] == mine and k != key}
        step(model, what, key, number, PREFIXES[key[1]])
        model.held()
        assert before <= {*model.things, *model.spools}


def test_the_prefix_that_holds_most_gives_way() -> None:
    """Its least recently used first, though others have not been used for longer."""
    model = Model()
    model.keep((0, 0), Thing(10_000), "192.0.3")
    for n in range(1, 6):
        model.keep((n, 0), Thing(8_000), "192.0.2")
    model.store.response((1, 0), 0)
    model.keep((6, 0), Thing(9_000), None)
    model.held()
    assert sorted(n for n, _ in model.things) == [0, 1, 3, 4, 5, 6]


def test_a_prefix_with_many_responses_gives_way_to_few() -> None:
    model = Model()
    model.keep((0, 0), Thing(20_000), "192.0.3")
    for n in range(1, MOST_RESPONSES + 4):
        model.keep((n, 0), Thing(1), "192.0.2")
    model.held()
    assert sorted(n for n, _ in model.things) == [0, *range(5, MOST_RESPONSES + 4)]


def test_one_that_is_in_use_is_spared_and_nobody_pays_for_it() -> None:
    model = Model()
    model.keep((0, 0), Thing(1_000), "192.0.3")
    model.write((1, 0), 0, MOST_BYTES, "192.0.2")
    assert model.check() == {"192.0.3": 1_000 + ENTRY_OVERHEAD, "192.0.2": 61_024}
    model.keep((2, 0), Thing(1_000), "192.0.3")
    assert model.check() == {"192.0.3": 2 * (1_000 + ENTRY_OVERHEAD)}, "it went later"


@pytest.mark.parametrize("prefix", PREFIXES)
def test_what_runs_for_one_prefix_has_half_of_the_room(prefix: Prefix) -> None:
    model = Model()
    model.keep((0, 0), Thing(1, running=True), prefix)
    model.keep((1, 0), Thing(MOST_BYTES // 2, running=True), prefix)
    model.keep((2, 0), Thing(1, running=True), "198.51.100")
    assert model.store.full_for((0, 0)) == (prefix is not None)
    assert not model.store.full_for((2, 0))
    model.resize((2, 0), MOST_BYTES)
    assert model.store.full_for((0, 0))


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 1000)), max_size=200))
def test_a_ranking_finds_the_first(changes: list[tuple[int, int]]) -> None:
    shares = [Share(str(n), n) for n in range(21)]
    ranking = Ranking(0, lambda share: share.used)
    for n, (number, used) in enumerate(changes):
        shares[number].used = used
        ranking.changed(shares[number], used)
        if n % 3 == 0:
            first = ranking.first()
            most = max(share.used for share in shares)
            assert (first.used if first is not None else 0) == most


def test_a_ranking_that_nobody_asks_does_not_grow() -> None:
    ranking = Ranking(0, lambda share: share.used)
    for n in range(10_000):
        share = Share(str(n), n)
        share.used = 1 + n % 7
        ranking.changed(share, share.used)
        ranking.forget(share)
        assert len(ranking._heap) <= FEW + 2


def test_spools_are_of_their_opener() -> None:
    model = Model()
    model.write((0, 0), 0, 100, "192.0.2")
    model.write((0, 0), 100, 100, "192.0.3")
    assert model.check() == {"192.0.2": SPOOL_OVERHEAD + 200}
