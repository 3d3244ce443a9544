"""The story of a simulated transfer says what the simulation knows of it, and nothing else."""

from __future__ import annotations

import pytest

from tests.trace.recorded import Told, numbers, seen, shares, transfer
from trickles_web.trace.rows import DOWN, Row
from trickles_web.trace.seen import Seen
from trickles_web.trace.telling import Stories, tell
from trickles_web.transport import wire
from trickles_web.transport.origin import pack_origin
from trickles_web.transport.wire import Kind


@pytest.mark.parametrize("seed", range(8))
def test_what_was_lost_is_told_by_number(seed: int) -> None:
    """No request is lost, so each number that was asked for was sent."""
    world = transfer(seed, loss=0.03)
    told = Told(world.capture)
    lost = sorted(numbers(world.lost))
    assert lost
    named = told.numbers_lost()
    if told.totals.generations == 1:
        assert named == lost
    # The last ones of a generation are known to be lost only where a burst promised them.
    assert 0 <= len(lost) - len(named) <= told.totals.unanswered
    assert told.totals.lost == len(named)
    assert told.totals.arrived == len(world.carried)


@pytest.mark.parametrize("seed", range(4))
def test_lost_requests_are_numbers_that_did_not_come(seed: int) -> None:
    world = transfer(seed, request_loss=0.05)
    told = Told(world.capture)
    assert world.lost == []
    sent = set(numbers(world.carried))
    assert told.totals.generations == 1
    assert sent.isdisjoint(told.numbers_lost())
    assert set(range(max(sent))) - sent == set(told.numbers_lost())


@pytest.mark.parametrize("seed", range(3))
def test_epochs_begin_where_servers_began_them(seed: int) -> None:
    world = transfer(seed, loss=0.03)
    told = Told(world.capture)
    epochs = {(data.ordinal, data.base, data.cwnd0, data.ssthresh) for data in world.carried}
    later = sorted((ordinal, base, cwnd) for ordinal, base, cwnd, _ in epochs if base)
    assert later
    assert told.totals.epochs == len(epochs)
    assert told.texts("epoch") == [
        f"from number {base:,} on: window {cwnd:,}, ssthresh {cwnd:,}" for _, base, cwnd in later
    ]
    # Each follows a report; the last reports may come too late for one.
    assert told.totals.reports >= len(later)
    assert len(told.texts("loss")) == told.totals.reports


@pytest.mark.parametrize("replicas", [1, 3])
def test_replicas_have_their_shares(replicas: int) -> None:
    world = transfer(1, replicas=replicas)
    assert world.lost == []
    told = Told(world.capture)
    assert told.totals.replicas == shares(world.carried)
    assert len(told.totals.replicas) == replicas
    for name, count in shares(world.carried).items():
        assert f"{name:04x} {count / 400_000:.1%}" in told.summary


def test_bursts_bring_all_bytes() -> None:
    told = Told(transfer(1).capture)
    bursts = [row for row in told.rows if row.what == "burst"]
    assert {row.mark for row in bursts} == {DOWN}
    counts = [row.text.partition(" bytes at")[0].split()[-1].replace(",", "") for row in bursts]
    assert sum(map(int, counts)) == told.totals.fresh == 400_000
    assert told.totals.again == 0
    assert told.texts("done")[0].startswith("the response [0, 400,000) is here in ")


def test_the_round_trip_is_the_path_s() -> None:
    """10 ms there, 10 ms back, and queues that are short at this size."""
    trips = sorted(Told(transfer(1, size=60_000).capture).totals.round_trips)
    assert 0.020 <= trips[0] <= trips[len(trips) // 2] < 0.022


def test_a_server_s_capture() -> None:
    """There the round trip is the client's, and nobody knows what was lost on the way."""
    world = transfer(2, loss=0.03, at_servers=True)
    assert world.lost
    told = Told(world.capture)
    assert told.totals.at_server
    assert 0.020 <= min(told.totals.round_trips) < 0.022
    assert told.numbers_lost() == []
    assert "does not show at a server" in told.summary
    assert not any("though it came" in text for text in told.texts("loss")[3:])
    here = Told(transfer(2, loss=0.03).capture)
    assert not here.totals.at_server
    assert here.totals.reports == told.totals.reports


def test_what_a_capture_has_missed() -> None:
    """As tcpdump may on a fast link: the client says how far it has come all the same."""
    capture = seen(transfer(1).capture)
    story, rows = Stories(), list[Row]()
    tell(capture[:60] + capture[200:], story, rows.append)
    [told] = story.flows.values()
    assert told.totals.unseen > 0
    assert told.totals.fresh + told.totals.unseen == 400_000
    assert "more are not in the trace" in story.summary(told)[1]


def test_ends_that_move() -> None:
    """A client in another network, a server that prefers another, one that answers for it."""
    flow, here, there = bytes(8), ("192.0.2.1", 5000), ("198.51.100.1", 8000)
    hello = wire.encode_hello(wire.Hello(flow, 0, 1200, b"", b"GET /"), 1200)
    prefers = wire.encode_preferred(wire.Preferred(flow, bytes(8), pack_origin("2001:db8::1", 9)))
    moves = [
        Seen(1.0, here, there, hello),
        Seen(1.1, here, there, prefers),
        Seen(1.2, here, ("2001:db8::1", 9), hello),
        Seen(1.3, ("192.0.2.99", 7), ("2001:db8::1", 9), hello),
        Seen(1.4, ("192.0.2.99", 7), there, wire.encode_wait(wire.Wait(flow, 0, 0, 0, 250))),
        Seen(1.5, ("192.0.2.99", 7), there, wire.encode_wait(wire.Wait(flow, 0, 0, 0, 250))),
    ]
    told, rows = Stories(), list[Row]()
    tell(moves, told, rows.append)
    assert [row.text for row in rows if row.what in ("moved", "PREFERRED")] == [
        "it would rather be asked at 2001:db8::1, port 9",
        "the server asked is [2001:db8::1]:9 now",
        "the client is 192.0.2.99:7 now",
    ]
    summary = told.summary(told.flows[flow])
    assert "  client at     192.0.2.1:5000 66.7%, 192.0.2.99:7 33.3%" in summary


def test_reordered_packets_come_after_all() -> None:
    world = transfer(0, reorder=0.05)
    told = Told(world.capture)
    assert world.lost == []
    assert told.totals.late > 0
    assert told.totals.lost == 0
    assert told.totals.spurious == told.totals.reports > 0
    assert len(told.texts("late")) == told.totals.late
    assert "though they came" in told.summary


def test_uploads_are_gathered() -> None:
    told = Told(transfer(3, body=300_000).capture)
    rows = told.texts("UPLOAD")
    assert 0 < len(rows) < told.totals.kinds[Kind.UPLOAD] / 4
    counts = [text.partition(" with ") for text in rows]
    assert sum(int(count) for count, of, _ in counts if of) == told.totals.kinds[Kind.UPLOAD]


def test_waits_openings_and_sizes() -> None:
    told = Told(transfer(1, pause_ms=300).capture)
    assert all(text.startswith("250 ms") for text in told.texts("WAIT"))
    assert len(told.texts("WAIT")) == told.totals.kinds[Kind.WAIT] > 0
    assert len(told.texts("generation")) == told.totals.generations > 1
    assert next(iter(told.totals.sizes)) == 1200
    assert len(told.totals.sizes) >= 2
    assert told.totals.probes == told.marks.classes["probe"].count > 0
    assert 0.020 <= min(told.totals.round_trips) < 0.022


def test_silence_is_told() -> None:
    """Where so many requests are lost, some openings are."""
    told = Told(transfer(4, size=200_000, request_loss=0.3).capture)
    openings = [text for text in told.texts("REQUEST") if " by attempt " in text]
    assert len(openings) == told.totals.after_silence > 0
    assert "after silence" in told.summary


def test_each_datagram_has_a_row_if_asked() -> None:
    world = transfer(1, loss=0.03, body=20_000)
    told, bursts = Told(world.capture, packets=True), Told(world.capture)
    kinds = {kind.name for kind in Kind}
    assert sum(row.what in kinds for row in told.rows) == told.totals.kinds.total()
    assert told.summary == bursts.summary
    assert told.texts("burst") == []
    assert told.numbers_lost() == bursts.numbers_lost()


def test_times_never_go_back() -> None:
    rows = Told(transfer(1, loss=0.03, reorder=0.02).capture).rows
    assert [row.at for row in rows] == sorted(row.at for row in rows)
    assert rows[0].told(rows[0].at) == (
        "       0.000  -> HELLO      16 request bytes, datagrams of 1,200 bytes"
    )
