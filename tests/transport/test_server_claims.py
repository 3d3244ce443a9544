"""What a claim is worth at the real server: the tiled line, losses, proofs, repeats.

The client is the hand-driven one of `driver`; each lie is an argument of a request.
"""

from __future__ import annotations

import random

import pytest

from tests.transport.driver import (
    EVERYTHING,
    Burst,
    Bytes,
    Peer,
    datagrams,
    redeemed,
    refused_code,
    replay_filter,
    server,
)
from trickles_web.transport import wire
from trickles_web.transport.epochs import LONGEST_REACH, after_loss, grant, window
from trickles_web.transport.server import Redeemed, Server
from trickles_web.transport.wire import Code, Earlier


def running(until: int = 0) -> Peer:
    peer = Peer(server())
    peer.begin()
    if until:
        peer.advance(until)
    return peer


def lossy(lost: int, until: int) -> Peer:
    """A peer whose packet `lost` does not arrive, before anything about it was reported."""
    peer = Peer(server())
    peer.lose = lambda data: data.burst + data.place == lost
    peer.begin()
    peer.advance(until)
    return peer


# ---- the line is tiled


class Claim:
    """A claim formed by an honest client, on its way."""

    def __init__(self, peer: Peer, burst: Burst, start: int, lost: int) -> None:
        self.epoch, self.lost = burst.continuation.epoch, lost
        self.datagram = peer.claim(burst, start=start, lost=lost)


def run_honestly(seed: int, loss: float, servers: list[Server], until: int) -> list[int]:
    """Numbers sent, in order. Claims are formed in order, and served in any order that may be.

    A claim formed before its epoch's loss was seen, and served after that was reported, counts as
    lost on the way (the epoch has its successor by then): that is not what this test is about.
    Ends when the line is long enough, dry, or when whole epochs were lost.
    """
    rng = random.Random(seed)
    peer = Peer(servers[0])
    peer.lose = lambda data: rng.random() < loss
    peer.begin()
    on_the_way: list[Claim] = []
    accounted = 0
    while True:
        sent = set(peer.numbers())
        settled = min(set(range(len(sent) + 1)) - sent)
        for burst in peer.held():
            c = burst.continuation
            if not accounted < c.stop <= settled or len(sent) > until:
                continue
            if accounted < c.epoch.start:
                return peer.numbers()  # two epochs' carriers lost: claims reach back one epoch
            lost = peer.first_loss(c, settled)
            successor = None if lost < 0 else after_loss(c.epoch, lost)
            start = max(accounted, c.burst - LONGEST_REACH)
            if grant(c.epoch, successor, start) < grant(c.epoch, successor, c.stop):
                on_the_way.append(Claim(peer, burst, start, lost))
            accounted = c.stop
        if not on_the_way:
            return peer.numbers()
        i = rng.randrange(min(len(on_the_way), 5))
        before = on_the_way[:i]
        if any(x.epoch == on_the_way[i].epoch and x.lost != on_the_way[i].lost for x in before):
            i = 0
        peer.send(on_the_way.pop(i).datagram, rng.choice(servers))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("loss", "replicas"), [(0.0, 1), (0.003, 1), (0.02, 3), (0.1, 2)])
def test_no_honest_sequence_leaves_a_hole(seed: int, loss: float, replicas: int) -> None:
    """Whatever was lost, merged, reordered, and whoever serves: each number is sent exactly once.

    The replicas share a filter here, as the processes that one flow meets do.
    """
    shared = replay_filter()
    servers = [server(1 + i, replay=shared, seed=i) for i in range(replicas)]
    sent = run_honestly(seed, loss, servers, 1200)
    assert sorted(sent) == list(range(len(sent)))
    if loss < 0.1:
        assert len(sent) > 300


def test_a_claim_of_bursts_lost_whole_reaches_back_for_them() -> None:
    peer = running(120)
    first, *_, last = peer.unclaimed()[:5]
    low = grant(last.continuation.epoch, None, first.continuation.burst)
    high = grant(last.continuation.epoch, None, last.continuation.stop)
    data = peer.send(peer.claim(last, start=first.continuation.burst))
    assert [d.burst + d.place for d in data] == list(range(low, high))
    for burst in peer.unclaimed()[:5]:
        assert refused_code(peer.redeem(peer.claim(burst))) is None  # spent: silence


# ---- once


def test_a_claim_is_served_once() -> None:
    peer = running()
    claim = peer.claim(peer.held()[0])
    assert len(peer.send(claim)) == 6
    for _ in range(3):
        result = peer.redeem(claim)
        assert refused_code(result) is None
    assert peer.server.counters["spent"] == 3


def test_redeeming_spends_nothing_and_of_duplicates_one_is_answered() -> None:
    peer = running()
    claim = peer.claim(peer.held()[0])
    first, second = redeemed(peer.redeem(claim)), redeemed(peer.redeem(claim))
    assert first.answers == second.answers
    assert len(datagrams(peer.server.burst(second, Bytes(), peer.now))) == 6
    assert peer.server.burst(first, Bytes(), peer.now) == []
    assert peer.server.burst(second, Bytes(), peer.now) == []


def test_a_restarted_server_and_another_machine_serve_it_once_more() -> None:
    """The bound of the replay filter: once per filter, with the same numbers and nonces."""
    peer = running()
    claim = peer.claim(peer.held()[0])
    here = peer.send(claim)
    there = peer.send(claim, server(2))
    assert [(d.burst, d.place, d.nonce) for d in here] == [
        (d.burst, d.place, d.nonce) for d in there
    ]


def test_numbers_that_were_cut_into_bursts_twice_are_claimed_once() -> None:
    """A process that has just started grants again what the one before it did, in other bursts. Of
    those that overlap one is served, or a liar would have two lines of the same numbers for ever.
    """
    peer = running()
    peer.send(peer.claim(peer.held()[0]))
    last = peer.held()[-1]
    restarted = server(2)
    sent = peer.send(peer.claim(last, start=0), restarted)
    for burst in peer.held():
        result = peer.redeem(peer.claim(burst), restarted)
        if isinstance(result, Redeemed):
            sent += peer.take(datagrams(restarted.burst(result, peer.response, peer.now)))
    numbers = [data.burst + data.place for data in sent]
    assert len(numbers) > 40
    assert len(set(numbers)) == len(numbers)


def test_what_no_packet_answers_is_not_spent() -> None:
    peer = running()
    claim = peer.claim(peer.held()[0])
    waiting = redeemed(peer.redeem(claim))
    assert peer.server.burst(waiting, Bytes(available=0), peer.now) == []
    assert len(datagrams(peer.server.burst(waiting, Bytes(), peer.now))) == 6
    assert refused_code(peer.redeem(claim)) is None


# ---- losses


@pytest.mark.parametrize("number", [3, 6, 8])
def test_an_epochs_loss_once_reported_is_its_loss_for_ever(number: int) -> None:
    peer = running()
    bursts = peer.held()
    peer.send(peer.claim(bursts[-1], start=number, lost=number))
    bursts = [burst for burst in bursts if burst.continuation.stop <= number]
    for other in {0, 3, 6, 8} - {number} | {-1}:  # another loss, and none after one
        for burst in bursts:
            assert refused_code(peer.redeem(peer.claim(burst, lost=other))) == Code.CLAIM
    for burst in bursts:
        redeemed(peer.redeem(peer.claim(burst, lost=number)))


def test_the_grant_after_a_loss_is_that_of_the_halved_window() -> None:
    peer = lossy(50, 60)
    burst = next(b for b in peer.unclaimed() if b.continuation.stop > 50)
    c = burst.continuation
    successor = after_loss(c.epoch, 50)
    assert successor.cwnd0 == window(c.epoch, 50) // 2
    start = min(50, c.burst)
    data = peer.send(peer.claim(burst, start=start, lost=50))
    low, high = grant(c.epoch, successor, start), grant(c.epoch, successor, c.stop)
    assert [d.burst + d.place for d in data] == list(range(low, high))
    for d in data:
        mine = successor if d.burst >= successor.base else c.epoch
        assert (d.start, d.base, d.cwnd0, d.ssthresh) == mine.numbers


def test_a_loss_must_be_possible() -> None:
    peer = lossy(50, 130)
    late = next(b for b in peer.held() if b.continuation.epoch.base > 50)
    epoch = late.continuation.epoch
    for lost in (0, epoch.base - 1):
        request = peer.claim(late, lost=lost, proof=0)
        assert refused_code(peer.redeem(request)) == Code.CLAIM
    fresh = running(100)
    burst = fresh.unclaimed()[-1]
    # Its numbers were granted by arrivals beyond this "loss": it cannot have been the first.
    c = burst.continuation
    early = next(k for k in range(200) if after_loss(c.epoch, k).base >= c.stop)
    assert refused_code(fresh.redeem(fresh.claim(burst, lost=early - 1))) == Code.CLAIM
    redeemed(fresh.redeem(fresh.claim(burst, lost=early)))


def test_a_hidden_loss_is_no_proof() -> None:
    peer = Peer(server())
    peer.lose = lambda data: data.burst + data.place == 3
    peer.begin()
    for burst in peer.held():
        stop = burst.continuation.stop
        honest = peer.claim(burst)
        if stop <= 3:
            redeemed(peer.redeem(honest))
            continue
        assert refused_code(peer.redeem(honest)) == Code.PROOF
        for guess in (0, 1, (1 << 64) - 1, peer.proof(1, 0, 3), peer.proof(1, 4, stop)):
            assert refused_code(peer.redeem(peer.claim(burst, proof=guess))) == Code.PROOF
        # A later loss than the first cannot be proven either; the first one can.
        if stop > 4:
            assert refused_code(peer.redeem(peer.claim(burst, lost=4))) == Code.PROOF
        redeemed(peer.redeem(peer.claim(burst, lost=3)))


# ---- reach


def test_a_claim_reaches_back_as_far_as_is_allowed_and_no_farther() -> None:
    peer = running(700)
    burst = peer.unclaimed()[-1]
    c = burst.continuation
    assert c.burst - peer.accounted[1] > LONGEST_REACH
    too_far = peer.claim(burst, start=c.burst - LONGEST_REACH - 1)
    assert refused_code(peer.redeem(too_far)) == Code.CLAIM
    assert refused_code(peer.redeem(peer.claim(burst, start=c.burst + 1))) == Code.CLAIM
    peer.send(peer.claim(burst, start=c.burst - LONGEST_REACH))
    sent = peer.numbers()
    assert len(sent) == len(set(sent))


def test_a_claim_reaches_into_its_parents_tail_only() -> None:
    peer = lossy(50, 130)
    burst = next(b for b in peer.unclaimed() if b.continuation.epoch.base > 50)
    below = peer.claim(burst, start=burst.continuation.epoch.start - 1)
    assert refused_code(peer.redeem(below)) == Code.CLAIM


def test_claimed_numbers_are_not_reached_back_to() -> None:
    peer = running(120)
    a, b, c = peer.unclaimed()[:3]
    peer.send(peer.claim(b))
    assert refused_code(peer.redeem(peer.claim(c, start=a.continuation.burst))) is None
    assert refused_code(peer.redeem(peer.claim(c, start=b.continuation.burst))) is None
    peer.send(peer.claim(c, start=b.continuation.stop))
    peer.send(peer.claim(a))
    assert len(peer.numbers()) == len(set(peer.numbers()))


# ---- earlier claims


def pair(until: int = 120) -> tuple[Peer, Burst, Burst, Earlier]:
    peer = running(until)
    a, b = peer.unclaimed()[:2]
    c = a.continuation
    return peer, a, b, Earlier(c.burst, c.stop, ((1000, 2000),))


def test_an_earlier_claim_whose_request_was_lost_is_served_with_the_next() -> None:
    peer, a, b, earlier = pair()
    epoch = b.continuation.epoch
    data = peer.send(peer.claim(b, earlier=(earlier,)))
    first = range(grant(epoch, None, earlier.start), grant(epoch, None, earlier.stop))
    again = [d for d in data if d.burst + d.place in first]
    # Its own wants: what was asked for first comes first, and the answer is short where they end.
    assert again[0].offset == 1000
    assert sum(len(d.payload) for d in again) == 1000
    assert all(d.short for d in again)
    assert refused_code(peer.redeem(peer.claim(a))) is None


def test_an_earlier_claim_that_was_served_is_not_served_again() -> None:
    peer, a, b, earlier = pair()
    peer.send(peer.claim(a))
    peer.send(peer.claim(b, earlier=(earlier,)))
    assert len(peer.numbers()) == len(set(peer.numbers()))


def test_a_replica_serves_earlier_claims_of_its_own_continuations_only() -> None:
    peer, a, b, earlier = pair()
    other = server(2)
    request = peer.claim(b, earlier=(earlier,))
    answers = redeemed(other.redeem(request, peer.address, peer.now)).answers
    assert [answer.wants for answer in answers] == [EVERYTHING]
    assert len(redeemed(peer.redeem(request)).answers) == 2
    assert a is not b


@pytest.mark.parametrize(
    "change",
    [
        lambda e, b: e._replace(start=e.stop),  # empty
        lambda e, b: e._replace(stop=b.continuation.burst + 1),  # into the claim itself
        lambda e, b: e._replace(wants=()),
        lambda e, b: e._replace(start=0),  # too long, and spent
    ],
)
def test_impossible_earlier_claims_are_left_out(change: object) -> None:
    peer, _, b, earlier = pair(600)
    assert callable(change)
    answers = redeemed(peer.redeem(peer.claim(b, earlier=(change(earlier, b),)))).answers
    assert len(answers) == 1


# ---- forms that are no claim


def test_a_request_without_wants_or_with_an_attempt_is_no_claim() -> None:
    peer = running()
    burst = peer.held()[0]
    assert refused_code(peer.redeem(peer.claim(burst, wants=()))) == Code.CLAIM
    assert refused_code(peer.redeem(peer.claim(burst, attempt=1))) == Code.CLAIM


def test_a_line_ends_where_the_answer_does() -> None:
    """`short` in every packet of an answer smaller than its grant; the last bytes are all there."""
    peer = running(40)
    peer.response = Bytes(end=10_500)
    data = peer.send(peer.claim(peer.unclaimed()[0], wants=((9000, wire.OPEN_END),)))
    assert b"".join(d.payload for d in data) == Bytes().read(9000, 10_500)
    assert {d.burst + d.short for d in data} == {data[-1].burst + data[-1].place + 1}
    final = peer.held()[-1].continuation
    assert final.response_end == 10_500


@pytest.mark.parametrize("lacking", [0, 1, 500])
def test_an_answer_that_runs_dry_in_its_last_packet_is_short(lacking: int) -> None:
    """Else the client, which has asked for what is behind it too, would wait for that only."""
    wants = ((9000, wire.OPEN_END),)
    peer = running(40)
    full = peer.send(peer.claim(peer.unclaimed()[0], wants=wants))
    assert {d.short for d in full} == {0}
    peer = running(40)
    peer.response = Bytes(available=full[-1].offset + len(full[-1].payload) - lacking)
    data = peer.send(peer.claim(peer.unclaimed()[0], wants=wants))
    assert len(data) == len(full)
    assert {d.burst + d.short for d in data} == {data[-1].burst + data[-1].place + 1}


def test_wants_at_the_end_bring_the_news_that_it_is_the_end() -> None:
    peer = running()
    peer.response = Bytes(end=500)
    data = peer.send(peer.claim(peer.held()[0], wants=((500, 600),)))
    assert [(d.offset, d.payload, d.short) for d in data] == [(500, b"", 1)]
    assert peer.held()[-1].continuation.response_end == 500


def test_packets_are_full_whatever_is_wanted() -> None:
    peer = running(200)
    wants = ((5, 3000), (10_000, 10_001), (20_000, wire.OPEN_END))
    data = peer.send(peer.claim(peer.unclaimed()[0], wants=wants))
    assert len(data) > 4
    filled = [d for d in data if d.offset < 20_000]
    assert [d.offset for d in filled if d.offset >= 3000] == [10_000]
    for d in data:
        assert d.payload == Bytes().read(d.offset, d.offset + len(d.payload))
        assert wire.DATA_HEADER_BYTES + len(d.continuation) + len(d.payload) == 1200


def test_with_a_loss_report_a_packet_ends_where_its_range_does() -> None:
    peer = Peer(server())
    peer.lose = lambda data: data.burst + data.place == 50
    peer.begin()
    peer.advance(100)
    burst = next(b for b in peer.unclaimed() if b.continuation.stop > 50)
    wants = ((5, 3000), (10_000, 10_001))
    data = peer.send(peer.claim(burst, lost=50, wants=wants))
    assert data[0].offset == 5
    assert max(d.offset + len(d.payload) for d in data) <= 10_001
