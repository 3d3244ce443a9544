"""Readings on their way, and what becomes of them when processes come and go."""

from __future__ import annotations

import json
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from trickles_web.net.children import LARGEST_PONG, PONG, pong
from trickles_web.net.monitoring.exposition import COUNTED, GAUGES, exposition
from trickles_web.net.monitoring.readings import Counts, Reading
from trickles_web.net.monitoring.status import numbers
from trickles_web.net.monitoring.tallies import Tallies, alone

Sample = tuple[str, frozenset[tuple[str, str]]]

NAMES = st.tuples(st.sampled_from(sorted(COUNTED)), st.text('ab/ \n"\u00e9', max_size=20))
READINGS = st.builds(
    Reading,
    st.floats(0, 1e9),
    st.dictionaries(NAMES, st.integers(0, 1 << 60), max_size=8).map(Counter),
    st.dictionaries(st.sampled_from(sorted(GAUGES)), st.integers(0, 1 << 60)),
)


def reading(at: float, **counted: int) -> Reading:
    """Of datagrams in and out, and some of each other sort."""
    counts: Counts = Counter(
        {("datagrams", "in"): 0, **{("datagrams", k): n for k, n in counted.items()}}
    )
    return Reading(at, counts, {"running_calls": 2})


def samples(text: bytes) -> dict[Sample, float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def sample(found: dict[Sample, float], name: str, **labels: str) -> float:
    return found[f"trickles_{name}", frozenset(labels.items())]


@given(READINGS)
def test_a_reading_is_the_same_behind_the_channel(told: Reading) -> None:
    assert Reading.unpack(told.pack()) == told


def test_what_does_not_fit_the_channel_is_not_told() -> None:
    most = LARGEST_PONG - len(PONG)
    assert pong(bytes(most)) == PONG + bytes(most)
    assert pong(bytes(most + 1)) == PONG


@given(
    st.lists(
        st.tuples(st.sampled_from(["hears", "dies"]), st.integers(0, 5), st.integers(0, 1000)),
        max_size=40,
    )
)
def test_counts_of_a_worker_only_grow_and_none_is_counted_twice(
    events: list[tuple[str, int, int]],
) -> None:
    """Six processes of two workers, each counting from nothing."""
    tallies, last, told = Tallies(), {"1": 0, "2": 0}, dict.fromkeys(range(6), 0)
    gone: set[int] = set()
    for at, (event, pid, more) in enumerate(events):
        name = str(pid % 2 + 1)
        if event == "dies":
            tallies.gone(pid + 1)
            gone.add(pid)
        elif pid not in gone:
            told[pid] += more
            tallies.heard(name, pid + 1, reading(float(at), out=told[pid]))
        for tally in tallies.all():
            now = tally.counts["datagrams", "out"]
            assert now == sum(told[p] for p in range(6) if str(p % 2 + 1) == tally.name)
            assert now >= last[tally.name]
            last[tally.name] = now


def test_an_older_reading_that_comes_late_does_not_count() -> None:
    tallies = Tallies()
    tallies.heard("1", 10, reading(2.0, out=7))
    tallies.heard("1", 10, reading(1.0, out=5))
    (tally,) = tallies.all()
    assert (tally.at, tally.counts["datagrams", "out"]) == (2.0, 7)


def test_who_is_gone_leaves_counts_but_no_gauges() -> None:
    tallies = Tallies()
    tallies.heard("1", 10, reading(1.0, out=5))
    tallies.heard("1", 11, reading(2.0, out=1))  # its successor, while it drains
    (tally,) = tallies.all()
    assert (tally.pid, tally.gauges["running_calls"]) == (11, 4)
    tallies.gone(10)
    tallies.gone(11)
    tallies.restarted("1")
    (tally,) = tallies.all()
    assert (tally.pid, tally.restarts, tally.counts["datagrams", "out"]) == (0, 1, 6)
    assert tally.gauges["running_calls"] == 0
    assert tallies.all() == [tally]  # looking changes nothing


def test_prometheus_reads_every_family() -> None:
    counts: Counts = Counter(
        {
            ("requests", "safe/2xx"): 3,
            ("requests", "unsafe/5xx"): 1,
            ("datagrams", "in"): 9,
            ("bytes", "out"): 1 << 40,
            ("refusals", 'a "quoted" \\ reason\n'): 2,
            ("incidents", "send: EPERM/odd"): 1,
            ("answers", "WAIT"): 4,
            ("replays", ""): 5,
            ("batches", "1"): 2,
            ("batches", "8"): 1,
            ("batches", "256"): 1,
        }
    )
    tallies = Tallies()
    tallies.heard("1", 10, Reading(1.0, counts, {"soft_state_bytes": 77}))
    tallies.heard("2", 11, reading(1.0, out=1))
    tallies.restarted("2")
    found = samples(exposition(tallies.all()))
    assert sample(found, "requests_total", worker="1", method="safe", status="2xx") == 3
    assert sample(found, "requests_total", worker="1", method="unsafe", status="5xx") == 1
    assert sample(found, "bytes_total", worker="1", direction="out") == 1 << 40
    assert sample(found, "refusals_total", worker="1", reason='a "quoted" \\ reason\n') == 2
    assert sample(found, "incidents_total", worker="1", what="send: EPERM/odd") == 1
    assert sample(found, "answers_total", worker="1", kind="WAIT") == 4
    assert sample(found, "replay_hits_total", worker="1") == 5
    assert sample(found, "replay_hits_total", worker="2") == 0  # there from the start
    assert sample(found, "reruns_total", worker="2") == 0
    assert sample(found, "soft_state_bytes", worker="1") == 77
    assert sample(found, "running_calls", worker="2") == 2
    assert sample(found, "worker_restarts_total", worker="2") == 1
    for bound, count in (("1", 2), ("4", 2), ("8", 3), ("128", 3), ("+Inf", 4)):
        assert sample(found, "batch_datagrams_bucket", worker="1", le=bound) == count
    assert sample(found, "batch_datagrams_sum", worker="1") == 9
    assert {name for name, _ in found if name.startswith("trickles_")} == {n for n, _ in found}


def test_without_workers_there_is_nothing_yet() -> None:
    assert samples(exposition([])) == {}
    assert numbers([]) == {"workers": [], "refusals": {}}


def test_the_page_is_told_sums() -> None:
    counts: Counts = Counter(
        {
            ("requests", "safe/2xx"): 3,
            ("requests", "websocket/1xx"): 2,
            ("datagrams", "in"): 9,
            ("datagrams", "out"): 8,
            ("refusals", "forged"): 2,
            ("replays", ""): 5,
        }
    )
    told = numbers(alone(10, Reading(1.5, counts, {"parked_requests": 6})))
    assert json.loads(json.dumps(told)) == {
        "workers": [
            {
                "name": "1",
                "pid": 10,
                "at": 1.5,
                "in": 9,
                "out": 8,
                "requests": 5,
                "restarts": 0,
                "parked_requests": 6,
            }
        ],
        "refusals": {"replayed": 5, "forged": 2},
    }
