"""Openings at the real server: by proof, by attempt, from old continuations; generations closed."""

from __future__ import annotations

import pytest

from tests.transport.driver import (
    FLOW,
    NOW,
    Burst,
    Peer,
    datagrams,
    keyring,
    redeemed,
    refused,
    refused_code,
    replay_filter,
    server,
)
from trickles_web.config import TransportConfig
from trickles_web.errors import ContinuationError
from trickles_web.transport import continuation as sealing
from trickles_web.transport import wire
from trickles_web.transport.epochs import LARGEST_WINDOW, opened, opened_after_timeout
from trickles_web.transport.layout import LARGEST_SEND
from trickles_web.transport.redeemed import Redeemed, Refusal
from trickles_web.transport.wire import Code

MINUTE = 60_000
HOUR = 3_600_000


def running(until: int = 0) -> Peer:
    peer = Peer(server())
    peer.begin()
    if until:
        peer.advance(until)
    return peer


def answer_epoch(result: Redeemed | Refusal) -> tuple[int, int, int, int]:
    """(start, base, cwnd0, ssthresh) of what an opening is worth."""
    (answer,) = redeemed(result).answers
    assert (answer.low, answer.high) == (0, answer.epoch.cwnd0)
    return answer.epoch.numbers


def test_first_contact_opens_with_ten_packets() -> None:
    peer = running()
    assert peer.numbers() == list(range(10))
    first = peer.held()[0].continuation
    assert first.ordinal == 1
    assert first.epoch.numbers == (0, 0, 10, LARGEST_WINDOW)


def test_an_answer_of_many_bursts_is_as_few_trains_as_can_be() -> None:
    peer = running(150)
    result = redeemed(peer.redeem(peer.opening(peer.held()[-1])))
    trains = peer.server.burst(result, peer.response, peer.now)
    numbers = [wire.decode_data(datagram) for datagram in datagrams(trains)]
    assert len({data.burst for data in numbers}) > len(trains)
    most = LARGEST_SEND // trains[0].segment
    assert len(trains) == -(-len(numbers) // most)
    assert [train.count for train in trains[:-1]] == [most] * (len(trains) - 1)


def test_an_opening_by_proof_keeps_the_window() -> None:
    peer = running(150)
    c = peer.held()[-1].continuation
    data = peer.send(peer.opening(peer.held()[-1]))
    expected = opened(c.epoch, c.stop, None, idle=False)
    assert len(data) == expected.cwnd0 > 40
    assert {d.ordinal for d in data} == {2}
    assert {(d.start, d.base, d.cwnd0, d.ssthresh) for d in data} == {expected.numbers}
    assert [d.burst + d.place for d in data] == list(range(expected.cwnd0))
    # Another incarnation it is not, but another generation, and nonces of its own.
    opened_one = peer.held(2)[0].continuation
    assert opened_one.incarnation == c.incarnation
    assert opened_one.generation != c.generation
    peer.advance(300, ordinal=2)


def test_an_opening_with_a_loss_halves_and_needs_the_proof_up_to_it() -> None:
    peer = Peer(server())
    peer.lose = lambda data: data.burst + data.place == 50
    peer.begin()
    peer.advance(80)
    burst = peer.held()[-1]
    c = burst.continuation
    for lie in (peer.opening(burst), peer.opening(burst, lost=51), peer.opening(burst, proof=1)):
        assert refused_code(peer.redeem(lie)) == Code.PROOF
    assert (
        answer_epoch(peer.redeem(peer.opening(burst, lost=50)))
        == opened(c.epoch, c.stop, 50, idle=False).numbers
    )


def test_idle_over_a_second_opens_with_ten() -> None:
    peer = running(150)
    burst = peer.held()[-1]
    peer.now += 1000
    assert answer_epoch(peer.redeem(peer.opening(burst)))[2] > 40
    peer.now += 1
    assert answer_epoch(peer.redeem(peer.opening(burst))) == (0, 0, 10, LARGEST_WINDOW)


def test_a_larger_datagram_takes_a_smaller_window() -> None:
    peer = running(150)
    burst = peer.held()[-1]
    w = answer_epoch(peer.redeem(peer.opening(burst)))[2]
    assert answer_epoch(peer.redeem(peer.opening(burst, size=1452)))[2] == w * 1200 // 1452
    # More than the server's limit is cut to it; less than every path carries is ignored.
    (answer,) = redeemed(peer.redeem(peer.opening(burst, size=60_000))).answers
    assert answer.size == 1472
    (answer,) = redeemed(peer.redeem(peer.opening(burst, size=100))).answers
    assert answer.size == 1200
    data = peer.send(peer.opening(burst, size=1452))
    assert max(len(d.payload) for d in data) == 1452 - wire.DATA_HEADER_BYTES


# ---- once, and closed


def test_an_opening_closes_its_parent() -> None:
    peer = running(60)
    unclaimed = peer.unclaimed()
    peer.send(peer.opening(unclaimed[1]))
    assert refused_code(peer.redeem(peer.claim(unclaimed[0]))) == Code.CLOSED
    for burst in unclaimed[:2]:
        assert refused_code(peer.redeem(peer.opening(burst))) == Code.CLOSED


def test_of_two_openings_redeemed_together_one_is_answered() -> None:
    peer = running(60)
    a, b = peer.unclaimed()[:2]
    results = [redeemed(peer.redeem(peer.opening(burst))) for burst in (a, b)]
    claim = redeemed(peer.redeem(peer.claim(a)))
    assert peer.server.burst(results[0], peer.response, peer.now)
    assert peer.server.burst(results[1], peer.response, peer.now) == []
    assert peer.server.burst(claim, peer.response, peer.now) == []


# ---- attempts


@pytest.mark.parametrize("attempt", range(1, 11))
def test_an_attempt_is_served_at_its_time_and_once(attempt: int) -> None:
    peer = running(60)
    burst = peer.unclaimed()[-1]
    c = burst.continuation
    other = server(2)
    due = NOW + 20 * 2 ** (attempt - 1)
    request = peer.opening(burst, attempt=attempt, proof=0)
    peer.now = due - 1
    refusal = refused(peer.redeem(request, other))
    assert (refusal.code, refusal.retry_after) == (Code.TOO_SOON, 1)
    peer.now = NOW
    assert refused(peer.redeem(request, other)).retry_after == due - NOW
    peer.now = due
    data = peer.send(request, other)
    assert [d.attempt for d in data] == [attempt] * 2
    expected = opened_after_timeout(c.epoch, c.stop, None)
    assert {(d.start, d.base, d.cwnd0, d.ssthresh) for d in data} == {expected.numbers}
    assert refused_code(peer.redeem(request, other)) is None


def test_there_are_ten_attempts() -> None:
    peer = running()
    peer.now += MINUTE
    request = peer.opening(peer.held()[0], attempt=11)
    assert refused_code(peer.redeem(request)) == Code.CLAIM


def test_an_attempt_needs_no_proof_but_halves_by_what_it_reports() -> None:
    peer = running(150)
    burst = peer.held()[-1]
    c = burst.continuation
    peer.now += 20
    epoch = answer_epoch(peer.redeem(peer.opening(burst, attempt=1, lost=70, proof=1)))
    assert epoch == opened_after_timeout(c.epoch, c.stop, 70).numbers


def test_an_attempt_where_only_the_request_was_lost_keeps_the_window() -> None:
    """At the replica that minted, with the opening unseen and the generation not closed."""
    peer = running(150)
    burst = peer.held()[-1]
    c = burst.continuation
    peer.now += 20
    request = peer.opening(burst, attempt=1)
    assert answer_epoch(peer.redeem(request, server(2)))[2] == 2
    data = peer.send(request)
    assert len(data) == opened(c.epoch, c.stop, None, idle=False).cwnd0
    assert {d.attempt for d in data} == {0}
    # Once the opening is known, a further attempt is what it says.
    peer.now += 20
    assert {d.attempt for d in peer.send(peer.opening(burst, attempt=2))} == {2}


def test_an_attempt_closes_its_parent_and_its_elder_siblings() -> None:
    peer = running(60)
    parent = peer.unclaimed()
    peer.send(peer.opening(parent[-1]))
    eldest = peer.held(2)
    peer.now += 40
    peer.send(peer.opening(parent[-1], attempt=2))
    younger = [b for b in peer.held(2) if b.continuation.generation != eldest[0][0].generation]
    assert younger
    assert refused_code(peer.redeem(peer.claim(eldest[-1]))) == Code.CLOSED
    assert refused_code(peer.redeem(peer.opening(eldest[-1]))) == Code.CLOSED
    assert refused_code(peer.redeem(peer.claim(parent[0]))) == Code.CLOSED
    redeemed(peer.redeem(peer.claim(younger[0], proof=younger_proof(peer, younger[0]))))
    # An attempt on a closed generation is still served: the client may have seen none of it.
    peer.now += 80
    peer.send(peer.opening(parent[-1], attempt=3))
    assert refused_code(peer.redeem(peer.claim(younger[-1]))) == Code.CLOSED


def younger_proof(peer: Peer, burst: Burst) -> int:
    c = burst.continuation
    return peer.proof(c.ordinal, 0, c.stop)


def test_generations_do_not_multiply() -> None:
    """Who has opened from the child opens no more from the parent, by whatever attempt."""
    peer = running(60)
    parent = peer.unclaimed()[-1]
    peer.send(peer.opening(parent))
    child = peer.held(2)[-1]
    peer.send(peer.opening(child))
    peer.now += 30_000
    for attempt in range(1, 11):
        request = peer.opening(parent, attempt=attempt, proof=0)
        assert refused_code(peer.redeem(request)) == Code.CLOSED
    redeemed(peer.redeem(peer.opening(child, attempt=1, proof=0)))


def test_an_opening_from_a_burst_that_later_claims_have_passed_is_as_after_silence() -> None:
    """What those bought is in flight beyond it, and was not settled."""
    peer = running(150)
    passed = next(b for b in peer.held() if b.continuation.stop >= peer.accounted[1])
    c = passed.continuation
    expected = opened_after_timeout(c.epoch, c.stop, None)
    assert answer_epoch(peer.redeem(peer.opening(passed))) == expected.numbers
    newest = peer.held()[-1]
    assert answer_epoch(peer.redeem(peer.opening(newest)))[2] > expected.ssthresh


# ---- ages


def test_a_claim_is_good_for_a_minute() -> None:
    peer = running()
    claim = peer.claim(peer.held()[0])
    peer.now += MINUTE
    assert redeemed(peer.redeem(claim)).fresh
    peer.now += 1
    assert refused_code(peer.redeem(claim)) == Code.EXPIRED


@pytest.mark.parametrize("age", [MINUTE + 1, HOUR])
def test_an_old_continuation_opens_a_small_window_once_per_flow(age: int) -> None:
    peer = running(150)
    a, b = peer.held()[-2:]
    peer.now += age
    result = redeemed(peer.redeem(peer.opening(a, pad_to=1200)))
    assert not result.fresh
    assert not result.validated
    (answer,) = result.answers
    assert answer.epoch.numbers == (0, 0, 10, LARGEST_WINDOW)
    trains = peer.server.burst(result, peer.response, peer.now)
    # The address must prove itself anew: three times what it sent, for a start.
    assert len(datagrams(trains)) == 3
    # Not again from another of its continuations, nor by attempt, while that is remembered.
    for request in (peer.opening(b), peer.opening(b, attempt=1), peer.opening(a, attempt=2)):
        assert isinstance(peer.redeem(request), Refusal)


def test_an_old_continuation_opens_again_after_a_horizon() -> None:
    peer = running()
    peer.now += 2 * MINUTE
    peer.send(peer.opening(peer.held()[0], pad_to=1200))
    for _ in range(3):
        peer.now += 5 * MINUTE
        peer.redeem(b"\x11")
        peer.redeem(peer.claim(peer.held()[0]))  # time passes at the filter
    peer.send(peer.opening(peer.held()[0], pad_to=1200))


def test_over_an_hour_is_expired() -> None:
    peer = running()
    peer.now += HOUR + 1
    for request in (peer.claim(peer.held()[0]), peer.opening(peer.held()[0])):
        assert refused_code(peer.redeem(request)) == Code.EXPIRED


def test_the_future_is_refused_beyond_the_skew_of_clocks() -> None:
    peer = running()
    peer.now -= 5000
    redeemed(peer.redeem(peer.claim(peer.held()[0])))
    peer.now -= 1
    for request in (peer.claim(peer.held()[0]), peer.opening(peer.held()[0])):
        assert refused_code(peer.redeem(request)) == Code.FUTURE


def test_what_a_full_filter_forgot_counts_as_old() -> None:
    config = TransportConfig(replay_capacity=64)
    target = server(config=config, replay=replay_filter(config))
    peer = Peer(target)
    peer.begin()
    early = peer.held()[0]
    for _ in range(150):
        peer.now += 10
        stranger = Peer(target, ("192.0.2.99", 1))
        stranger.now = peer.now
        stranger.begin()
    assert peer.now - NOW < MINUTE
    assert refused_code(peer.redeem(peer.claim(early))) == Code.EXPIRED
    # It still opens, with a small window, as an old one does; the address counts as proven.
    result = redeemed(peer.redeem(peer.opening(early)))
    assert result.answers[0].epoch.numbers == (0, 0, 10, LARGEST_WINDOW)


# ---- keys


def test_a_line_ends_with_the_key_of_its_nonces() -> None:
    """An epoch is renewed, its window kept, before the key generation it seals is gone."""
    rotation = TransportConfig().rotation_ms
    peer = Peer(server())
    peer.now = (NOW // rotation + 1) * rotation - 100
    peer.begin()
    peer.advance(40)
    peer.now += 200
    burst = peer.unclaimed()[0]
    data = peer.send(peer.claim(burst))
    last = data[-1].burst + data[-1].place + 1
    assert {d.burst + d.short for d in data} == {last}
    # The numbers of that answer are proven under the old key, the next generation is of the new.
    newest = peer.held()[-1]
    opening = peer.opening(newest)
    result = redeemed(peer.redeem(opening))
    assert result.answers[0].nonce_generation & 3 == (peer.now // rotation) & 3
    assert result.answers[0].nonce_generation != newest.continuation.nonce_generation


def test_a_refreshed_continuation_opens_only() -> None:
    peer = running(60)
    fresh = kept_young(peer, peer.unclaimed()[0])
    assert fresh.continuation.refreshed
    assert refused_code(peer.redeem(peer.claim(fresh))) == Code.CLAIM
    assert answer_epoch(peer.redeem(peer.opening(fresh, proof=0)))[2] <= 10


def kept_young(peer: Peer, burst: Burst) -> Burst:
    """What comes back for an UPLOAD."""
    upload = wire.encode_upload(wire.Upload(FLOW, 3, 0, None, burst.blob, b"x" * 400))
    ack = peer.server.acknowledge(redeemed(peer.redeem(upload)), 400, b"p", peer.now)
    assert ack is not None
    decoded = wire.decode_ack(ack)
    assert (decoded.numbers, decoded.held) == ((3,), 400)
    return Burst(sealing.parse(decoded.continuation), decoded.continuation)


def test_who_hoards_continuations_has_as_many_flows_as_after_as_many_hellos() -> None:
    """Beyond the filter's memory, each of an ordinal of its own opens a first window, once."""
    peer = running()
    hoard: list[Burst] = []
    for ordinal in range(1, 6):
        hoard.append(peer.held(ordinal)[-1])
        peer.send(peer.opening(hoard[-1]))
    for _ in range(4):
        closed = [refused_code(peer.redeem(peer.opening(burst))) for burst in hoard]
        assert set(closed) <= {Code.CLOSED, None}
        peer.now += MINUTE - 1
        hoard = [kept_young(peer, burst) for burst in hoard]
    peer.now += 1
    opened_again = 0
    for burst in hoard:
        for _ in range(3):
            result = peer.redeem(peer.opening(burst))
            if isinstance(result, Redeemed):
                sent = peer.server.burst(result, peer.response, peer.now)
                assert len(datagrams(sent)) <= 10
                opened_again += 1
    assert opened_again == len(hoard)


def test_the_application_part_is_what_was_last_sealed() -> None:
    peer = running()
    assert redeemed(peer.redeem(peer.claim(peer.held()[0]))).progress == b"progress"
    with pytest.raises(ContinuationError):
        held = peer.held()[0]
        sealing.unseal(keyring("other").at(held.continuation.key_generation, NOW), held.blob)
