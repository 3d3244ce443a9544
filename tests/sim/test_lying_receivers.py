"""Clients that lie get no more out of a server than an honest one does (Savage et al., CCR 1999).

First the short form of `python -m loadtest lies`, which searches for such clients, then each way to
more that was found once.
"""

from __future__ import annotations

import random

import pytest

from loadtest.lies import (
    BOUND,
    BULK,
    LOSSES,
    across,
    compare,
    enlarged,
    everywhere,
    filled,
    first_rounds,
    hoard,
)
from loadtest.strategies import KNOWN, random_program
from tests.transport.driver import (
    FLOW,
    Burst,
    Peer,
    datagrams,
    hello,
    redeemed,
    refused,
    refused_code,
    server,
)
from trickles_web.transport import continuation as sealing
from trickles_web.transport import wire
from trickles_web.transport.epochs import grant, halved, opened_after_timeout, window
from trickles_web.transport.redeemed import Redeemed, Refusal
from trickles_web.transport.wire import Code

SHORT_BOUND = 1.25
"""Instead of 1.1: so few seconds of luck differ by a tenth. Each of what is below got more once."""
SEEDS = {0.001: 1, 0.01: 3, 0.05: 3, 0.2: 6}
"""Links that each program is tried on: the more is lost, the more depends on which packets."""


@pytest.mark.parametrize("loss", LOSSES)
def test_no_program_that_was_thought_of_gets_more(loss: float) -> None:
    got = {
        name: compare(program, range(SEEDS[loss]), loss, 3.0).most
        for name, program in KNOWN.items()
    }
    assert 0.8 <= max(got.values()) <= SHORT_BOUND, got


def test_no_program_drawn_at_random_gets_more() -> None:
    chance = random.Random(6)
    for _ in range(12):
        program = random_program(chance)
        assert compare(program, range(6), 0.2, 3.0).most <= SHORT_BOUND, program


def test_whatever_is_presented_again_one_generation_lives() -> None:
    presented, alive = hoard(1)
    assert presented > 1000
    assert alive == 1


def test_after_small_requests_a_bulk_transfer_begins_as_that_of_a_fresh_flow() -> None:
    assert 0.5 <= first_rounds(2_000) <= BOUND


def test_a_window_of_half_empty_packets_is_one_of_full_ones() -> None:
    assert 0.5 <= filled(1.0) <= BOUND


def test_small_packets_then_jumbo_ones_are_as_many_bytes() -> None:
    assert 0.5 <= enlarged(8) <= BOUND


def test_replicas_together_send_no_more_than_the_bound() -> None:
    got, limit = across(everywhere(BULK), 2, 0.2, 3.0, [1])
    assert 1.0 < got <= BOUND * limit


# ---- what was found


def running(until: int = 0) -> Peer:
    peer = Peer(server())
    peer.begin()
    if until:
        peer.advance(until)
    return peer


def opens_with(result: Redeemed | Refusal) -> tuple[int, int]:
    """The window and ssthresh of an opening."""
    (answer,) = redeemed(result).answers
    return answer.epoch.cwnd0, answer.epoch.ssthresh


def refreshed(peer: Peer, burst: Burst) -> Burst:
    """What an UPLOAD with this continuation brings."""
    upload = wire.encode_upload(wire.Upload(FLOW, 1, 0, None, burst.blob, bytes(500)))
    reply = peer.server.acknowledge(redeemed(peer.redeem(upload)), 0, b"", peer.now)
    assert reply is not None
    blob = wire.decode_ack(reply).continuation
    return Burst(sealing.parse(blob), blob)


def test_a_loss_is_not_hidden_by_opening_from_the_burst_before_it() -> None:
    """All of a window claimed at once is answered at once: no later claim tells that more was sent
    than arrived.
    """
    peer = running()
    first = peer.held()
    peer.lose = lambda data: data.burst + data.place == 20
    peer.send(peer.claim(first[-1], start=0))
    before = next(b for b in peer.held() if b.continuation.stop > 13)
    c = before.continuation
    assert c.stop <= 20, "the loss is in a later burst of the same answer"
    epoch = opened_after_timeout(c.epoch, c.stop, None)
    assert opens_with(peer.redeem(peer.opening(before))) == (epoch.cwnd0, epoch.ssthresh)
    last = peer.held()[-1].continuation
    assert last.stop == 30
    assert not last.followed


def test_a_refreshed_continuation_brings_no_window_back() -> None:
    """It needs no proof: so all of its burst may be lost."""
    peer = running()
    again = refreshed(peer, peer.held()[0])
    c = again.continuation
    h = halved(window(c.epoch, c.stop))
    assert opens_with(peer.redeem(peer.opening(again, proof=0))) == (2, h)


def test_a_refreshed_continuation_tells_that_more_was_sent() -> None:
    peer = running()
    burst = peer.held()[0]
    assert burst.continuation.followed
    again = refreshed(peer, burst)
    assert opens_with(peer.redeem(peer.opening(again)))[0] == 2


def test_who_claims_of_a_new_line_attempts_no_more_from_the_one_before() -> None:
    """Or each loss would be answered by an attempt that brings back the window of old."""
    peer = running(60)
    parent = peer.unclaimed()[-1]
    peer.now += 20
    peer.send(peer.opening(parent, attempt=1, proof=1))
    peer.now += 10_000
    redeemed(peer.redeem(peer.opening(parent, attempt=2, proof=1)))
    peer.send(peer.claim(peer.held(2)[0]))
    for attempt in range(2, 11):
        request = peer.opening(parent, attempt=attempt, proof=1)
        assert refused_code(peer.redeem(request)) == Code.CLOSED


def test_children_of_two_siblings_do_not_live_beside_each_other() -> None:
    """Each was closed by the attempts from its own parent only."""
    peer = running(60)
    parent = peer.unclaimed()[-1]
    peer.now += 10_000
    elder = peer.send(peer.opening(parent, attempt=1, proof=1))
    a = peer.held(2)[0]
    younger = peer.send(peer.opening(parent, attempt=2, proof=1))
    b = peer.held(2)[0]
    assert elder[0].generation != younger[0].generation
    peer.now += 10_000
    peer.send(peer.opening(a, attempt=1, proof=1))
    of_a = peer.held(3)[0]
    peer.send(peer.opening(b, attempt=2, proof=1))
    of_b = peer.held(3)[0]
    assert refused_code(peer.redeem(peer.claim(b))) == Code.CLOSED
    assert refused_code(peer.redeem(peer.claim(of_a))) == Code.CLOSED
    redeemed(peer.redeem(peer.claim(of_b)))


def test_lines_opened_at_several_replicas_are_not_all_served_by_each() -> None:
    peer, other = running(60), server(2)
    parent = peer.unclaimed()[-1]
    peer.send(peer.opening(parent))
    a = peer.held(2)[0]
    peer.bursts = {key: burst for key, burst in peer.bursts.items() if key[0] < 2}
    proof = peer.proof(2, 0, a.continuation.stop)
    peer.send(peer.opening(parent), other)
    b = peer.held(2)[0]
    assert a.continuation.generation != b.continuation.generation
    assert len(peer.send(peer.claim(b), other)) > 0
    claim = peer.claim(a, proof=proof)
    assert refused_code(peer.redeem(claim, other)) == Code.CLOSED
    redeemed(peer.redeem(claim))


def test_an_attempt_that_comes_after_a_higher_one_is_refused() -> None:
    peer = running(60)
    parent = peer.unclaimed()[-1]
    peer.now += 40
    peer.send(peer.opening(parent, attempt=2, proof=1))
    late = peer.opening(parent, attempt=1, proof=1)
    assert refused_code(peer.redeem(late)) == Code.CLOSED


def test_attempts_are_two_round_trips_apart() -> None:
    """Or a path on which an honest client waits for its probe timer brings a window each round."""
    peer = Peer(server())
    first = redeemed(peer.redeem(hello()))
    reply = peer.server.acknowledge(first, 0, b"", peer.now)
    assert reply is not None
    blob = wire.decode_ack(reply).continuation
    peer.now += 100
    peer.send(peer.opening(Burst(sealing.parse(blob), blob)))
    request = peer.opening(peer.held()[-1], attempt=1, proof=1)
    peer.now += 199
    refusal = refused(peer.redeem(request))
    assert (refusal.code, refusal.retry_after) == (Code.TOO_SOON, 1)
    peer.now += 1
    assert len(peer.send(request)) == 2


def test_a_generation_opened_again_has_other_nonces() -> None:
    """Who kept those of the first could prove that the second has arrived."""
    peer = running(60)
    burst = peer.unclaimed()[-1]
    peer.now += 61_000
    seen: list[int] = []
    for _ in range(2):  # the filter has forgotten the first by the second
        peer.now += 1
        data = peer.send(peer.opening(burst, pad_to=1200), server(1))
        seen += [d.nonce for d in data]
    assert len(seen) == len(set(seen)) > 4


def test_generations_have_few_probes_of_the_path() -> None:
    """A probe comes on top of the window; so did one for each generation."""
    peer = running()
    probes = 0
    for ordinal in range(1, 100):
        result = redeemed(peer.redeem(peer.opening(peer.held(ordinal)[-1])))
        result.asked_size = 1472
        answered = datagrams(peer.server.burst(result, peer.response, peer.now))
        probes += sum(bool(wire.decode_data(d).flags & wire.FLAG_PROBE) for d in answered)
        peer.take(answered)
    assert 1 <= probes <= 2


def test_a_line_ends_with_a_packet_that_can_not_be_filled() -> None:
    """Or single packets of a byte each, the last of what there is, would let the window grow."""
    peer = Peer(server())
    peer.lose = lambda data: data.burst + data.place == 8
    peer.begin()
    peer.advance(40)
    burst = peer.unclaimed()[0]
    c = burst.continuation
    assert c.epoch.base, "congestion avoidance"
    assert grant(c.epoch, None, c.stop) - grant(c.epoch, None, c.burst) == 1
    peer.response.end = end = peer.response.available = 300_000
    data = peer.send(peer.claim(burst, wants=((end - 1, end),)))
    assert [len(d.payload) for d in data] == [1]
    assert data[0].short == 1
