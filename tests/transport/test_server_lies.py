"""Lies that a server must not reward, whatever is redeemed before what is answered.

A number sent twice is the yardstick: a client that gets one has talked the server into sending
faster than TCP would.
"""

from __future__ import annotations

from tests.transport.driver import (
    ADDRESS,
    EVERYTHING,
    FLOW,
    NOW,
    Bytes,
    Peer,
    datagrams,
    redeemed,
    server,
)
from trickles_web.transport import wire
from trickles_web.transport.redeemed import Refusal
from trickles_web.transport.wire import Earlier


def running(until: int = 0) -> Peer:
    peer = Peer(server())
    peer.begin()
    if until:
        peer.advance(until)
    return peer


def test_a_loss_report_of_2_to_the_32_minus_1_is_refused() -> None:
    peer = running()
    claim = peer.claim(peer.held()[0], lost=(1 << 32) - 1, proof=0)
    assert isinstance(peer.redeem(claim), Refusal)


def test_an_earlier_claim_never_covers_numbers_claimed_already() -> None:
    peer = running(500)
    a, b = peer.unclaimed()[:2]
    peer.send(peer.claim(a))
    inside = a.continuation.stop - 1
    earlier = Earlier(a.continuation.burst, inside, EVERYTHING)
    peer.send(peer.claim(b, earlier=(earlier,)))
    assert len(peer.numbers()) == len(set(peer.numbers()))


def test_a_burst_is_not_claimed_again_after_a_part_of_it_was() -> None:
    peer = running(500)
    a, b = peer.unclaimed()[:2]
    earlier = Earlier(a.continuation.burst, a.continuation.stop - 1, EVERYTHING)
    peer.send(peer.claim(b, earlier=(earlier,)))
    result = peer.redeem(peer.claim(a))
    if not isinstance(result, Refusal):
        peer.take(datagrams(peer.server.burst(result, Bytes(), NOW)))
    assert len(peer.numbers()) == len(set(peer.numbers()))


def test_two_earlier_claims_never_overlap() -> None:
    peer = running(500)
    a, b = peer.unclaimed()[:2]
    start, stop = a.continuation.burst, a.continuation.stop
    both = (Earlier(start, stop - 1, EVERYTHING), Earlier(start, stop, EVERYTHING))
    peer.send(peer.claim(b, earlier=both))
    assert len(peer.numbers()) == len(set(peer.numbers()))


def test_of_overlapping_claims_redeemed_together_one_wins() -> None:
    peer = running(500)
    a, b = peer.unclaimed()[:2]
    reaching = redeemed(peer.redeem(peer.claim(b, start=a.continuation.burst)))
    plain = redeemed(peer.redeem(peer.claim(a)))
    for result in (plain, reaching):
        peer.take(datagrams(peer.server.burst(result, Bytes(), NOW)))
    assert len(peer.numbers()) == len(set(peer.numbers()))


def test_of_different_losses_redeemed_together_one_wins() -> None:
    peer = running(100)
    a, b = peer.unclaimed()[:2]
    first = a.continuation.burst
    one = redeemed(peer.redeem(peer.claim(a, lost=first)))
    two = redeemed(peer.redeem(peer.claim(b, lost=first - 1)))
    assert peer.server.burst(one, Bytes(), NOW)
    assert peer.server.burst(two, Bytes(), NOW) == []


def test_a_refusal_is_never_longer_than_what_it_refuses() -> None:
    for length in range(9):
        cancel = wire.encode_cancel(wire.Cancel(FLOW, bytes(length)))
        result = server().redeem(cancel, ADDRESS, NOW)
        assert isinstance(result, Refusal)
        assert len(result.reply or b"") <= len(cancel)
