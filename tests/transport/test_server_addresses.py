"""Addresses, amplification, and datagrams that are not to be served, at the real server."""

from __future__ import annotations

import random

import pytest

from tests.transport.driver import (
    ADDRESS,
    CONFIG,
    FLOW,
    NOW,
    Burst,
    Bytes,
    Peer,
    datagrams,
    hello,
    keyring,
    redeemed,
    refused,
    refused_code,
    server,
)
from trickles_web.config import TransportConfig
from trickles_web.transport import continuation as sealing
from trickles_web.transport import wire
from trickles_web.transport.server import Redeemed, Refusal, Server
from trickles_web.transport.wire import Code, Kind

DAY = 86_400_000


def running(until: int = 0) -> Peer:
    peer = Peer(server())
    peer.begin()
    if until:
        peer.advance(until)
    return peer


def total(target: Server, result: Redeemed, response: Bytes | None = None) -> int:
    trains = target.burst(result, response or Bytes(), NOW)
    return sum(map(len, datagrams(trains)))


# ---- HELLO


def test_a_stranger_gets_a_reply_no_longer_than_what_it_sent_and_may_not_run() -> None:
    target = server()
    first = hello()
    result = redeemed(target.redeem(first, ADDRESS, NOW))
    assert (result.validated, result.may_run, result.progress) == (False, False, b"")
    assert result.request_bytes == b"hello"
    for progress in (b"", b"p" * 700, b"p" * 768):
        reply = target.acknowledge(result, 0, progress, NOW)
        assert reply is None or len(reply) <= len(first)
    reply = target.acknowledge(redeemed(target.redeem(first, ADDRESS, NOW)), 0, b"", NOW)
    assert reply is not None
    c = sealing.parse(wire.decode_ack(reply).continuation)
    assert (c.refreshed, c.port, c.store) == (True, ADDRESS[1], target.store)


@pytest.mark.parametrize("length", [1200, 1201, 1452, 4000])
def test_data_for_a_hello_is_three_times_its_bytes_at_most(length: int) -> None:
    target = server()
    result = redeemed(target.redeem(hello(length=length), ADDRESS, NOW))
    # Whatever is sent for it counts together.
    reply = target.acknowledge(result, 0, b"", NOW)
    sent = total(target, result)
    assert 0 < sent <= 3 * length - len(reply or b"")
    assert target.burst(result, Bytes(), NOW) == []


def test_a_token_lets_a_request_run_at_once_for_a_day_and_from_its_host_only() -> None:
    token = running().held()[0].blob
    other_port = (ADDRESS[0], 999)
    for address, age, runs in [
        (ADDRESS, 0, True),
        (other_port, DAY, True),
        (ADDRESS, DAY + 1, False),
        (("192.0.2.8", ADDRESS[1]), 0, False),
        (ADDRESS, -5001, False),
    ]:
        target = server()
        result = redeemed(target.redeem(hello(token=token), address, NOW + age))
        assert (result.may_run, result.validated) == (runs, False)
        assert total(target, result) <= 3 * 1200
    for bad in (token[:-1], token + b"\0", b"", b"x" * 200, token[::-1]):
        assert not redeemed(server().redeem(hello(token=bad), ADDRESS, NOW)).may_run
    stranger = server(keys=keyring("other"))
    assert not redeemed(stranger.redeem(hello(token=token), ADDRESS, NOW)).may_run


def test_a_copy_of_a_hello_is_answered_once_and_a_repeat_again() -> None:
    target = server()
    assert total(target, redeemed(target.redeem(hello(), ADDRESS, NOW)))
    assert refused_code(target.redeem(hello(), ADDRESS, NOW)) is None
    again = redeemed(target.redeem(hello(attempt=1), ADDRESS, NOW))
    first_data = wire.decode_data(datagrams(target.burst(again, Bytes(), NOW))[0])
    assert first_data.attempt == 1


def test_a_short_hello_is_dropped() -> None:
    target = server()
    for length in (0, 1, 9, 20, 1199):
        result = target.redeem(hello()[:length], ADDRESS, NOW)
        assert isinstance(result, Refusal)
        assert result.reply is None


# ---- what is not answered


@pytest.mark.parametrize("kind", [Kind.DATA, Kind.ACK, Kind.NEED, Kind.WAIT, Kind.REFUSED, 0, 15])
@pytest.mark.parametrize("length", [9, 100, 1200, 9000])
def test_server_kinds_and_unknown_kinds_get_silence(kind: int, length: int) -> None:
    datagram = bytes([wire.VERSION << 4 | kind]) + bytes(length - 1)
    result = server().redeem(datagram, ADDRESS, NOW)
    assert result == Refusal("kind")


@pytest.mark.parametrize("version", [0, 2, 15])
def test_an_unknown_version_is_answered_from_1200_bytes_on(version: int) -> None:
    for kind in range(16):
        first = bytes([version << 4 | kind]) + FLOW
        assert server().redeem(first.ljust(1199), ADDRESS, NOW) == Refusal("version")
        result = server().redeem(first.ljust(1200), ADDRESS, NOW)
        assert refused_code(result) == Code.VERSION
        assert refused(result).flow == FLOW


# ---- continuations that are not good


def test_a_continuation_cut_lengthened_or_of_strangers_is_refused() -> None:
    peer = running()
    burst = peer.held()[0]
    for length in range(len(burst.blob)):
        result = peer.redeem(peer.claim(burst, blob=burst.blob[:length]))
        assert refused_code(result) == Code.FORGED
    for extra in (b"\0", b"\0" * 16, burst.blob):
        result = peer.redeem(peer.claim(burst, blob=burst.blob + extra))
        assert refused_code(result) == Code.FORGED
    claim = peer.claim(burst)
    for stranger in (keyring("other"), keyring(secret=b"k" * 32)):
        assert refused_code(peer.redeem(claim, server(keys=stranger))) == Code.FORGED


def test_every_flipped_bit_of_a_request_is_survived() -> None:
    """Refused, dropped, or served as what it says now: nothing is raised, nothing is spent."""
    peer = running(30)
    claim = peer.claim(peer.unclaimed()[0], request=b"bytes")
    served = 0
    for bit in range(8 * len(claim)):
        damaged = bytearray(claim)
        damaged[bit // 8] ^= 1 << bit % 8
        # The loss report's own field is the subject of a finding.
        result = peer.redeem(bytes(damaged))
        served += isinstance(result, Redeemed)
        if isinstance(result, Refusal) and result.reply is not None:
            assert len(result.reply) <= len(claim)
    assert served
    redeemed(peer.redeem(claim))


def test_truncated_and_trailing_requests_are_dropped() -> None:
    peer = running()
    burst = peer.held()[0]
    claim = peer.claim(burst)
    for length in range(len(claim)):
        result = peer.redeem(claim[:length])
        assert isinstance(result, Refusal)
        assert result.reply is None
    assert peer.redeem(claim + b"\0") == Refusal("trailing")
    upload = wire.encode_upload(wire.Upload(FLOW, 1, 0, None, burst.blob, b"body"))
    cancel = wire.encode_cancel(wire.Cancel(FLOW, burst.blob))
    for datagram in (upload, cancel):
        assert peer.redeem(datagram + b"\0") == Refusal("trailing")
        assert peer.redeem(datagram[:-1]) == Refusal("truncated")
        redeemed(peer.redeem(datagram))


@pytest.mark.parametrize("seed", range(4))
def test_random_bytes_are_survived(seed: int) -> None:
    rng = random.Random(seed)
    target = server()
    for _ in range(2000):
        length = rng.choice([0, 1, 9, 12, 60, 300, 1200, 3000])
        datagram = bytearray(rng.randbytes(length))
        if length and rng.random() < 0.9:
            datagram[0] = 0x10 | rng.randrange(16)
        result = target.redeem(bytes(datagram), ADDRESS, NOW)
        if isinstance(result, Redeemed):
            assert result.kind is Kind.HELLO
    assert sum(target.counters.values()) > 1500


# ---- other addresses


def test_another_port_of_the_host_gets_ten_packets_until_it_has_echoed() -> None:
    peer = running(400)
    burst = peer.held()[-1]
    opening = peer.opening(burst)
    assert redeemed(peer.redeem(opening)).answers[0].high > 40
    peer.address = (ADDRESS[0], 5)
    result = redeemed(peer.redeem(opening))
    assert (result.validated, result.may_run) == (True, True)
    sent = datagrams(peer.server.burst(result, Bytes(), NOW))
    assert len(sent) == 10
    peer.take(sent)
    # The line is short; what comes back from there is of the new port, and unlimited.
    newest = peer.held(2)[-1]
    assert newest.continuation.port == 5
    assert len(peer.send(peer.opening(newest))) >= 10


@pytest.mark.parametrize("pad_to", [0, 700, 1200, 5000])
def test_another_host_gets_three_times_its_bytes_until_it_has_echoed(pad_to: int) -> None:
    peer = running(200)
    opening = peer.opening(peer.held()[-1], pad_to=pad_to)
    peer.address = ("198.51.100.1", ADDRESS[1])
    result = redeemed(peer.redeem(opening))
    assert (result.validated, result.may_run) == (False, False)
    sent = datagrams(peer.server.burst(result, Bytes(), NOW))
    assert sum(map(len, sent)) <= 3 * len(opening)
    assert len(sent) == 3 * len(opening) // 1200
    if sent:
        peer.take(sent)
        newest = peer.held(2)[-1]
        assert redeemed(peer.redeem(peer.opening(newest))).validated
        # From the old address, or a third, the new continuation is a stranger's.
        peer.address = ADDRESS
        assert not redeemed(peer.redeem(peer.opening(newest))).validated


def test_claims_and_earlier_claims_from_another_host_share_one_allowance() -> None:
    peer = running(300)
    a, b = peer.unclaimed()[:2]
    earlier = wire.Earlier(a.continuation.burst, a.continuation.stop, ((0, wire.OPEN_END),))
    claim = peer.claim(b, earlier=(earlier,), pad_to=1200)
    peer.address = ("198.51.100.1", 1)
    result = redeemed(peer.redeem(claim))
    assert len(result.answers) == 2
    assert total(peer.server, result) <= 3 * len(claim)


def test_a_probe_shows_a_larger_size_to_proven_addresses_only() -> None:
    peer = running()
    a, b = peer.held()[:2]
    probe = peer.send(peer.claim(a, size=1452))[-1]
    assert probe.flags == wire.FLAG_PROBE
    assert wire.DATA_HEADER_BYTES + len(probe.payload) == 1452
    claim = peer.claim(b, size=1452, pad_to=1200)
    peer.address = ("198.51.100.1", 1)
    result = redeemed(peer.redeem(claim))
    sent = datagrams(peer.server.burst(result, Bytes(), NOW))
    assert all(len(datagram) <= 1200 for datagram in sent)


def test_a_size_that_nobody_gets_is_not_probed_beside_the_largest() -> None:
    peer = running()
    largest = TransportConfig().max_datagram_bytes
    answer = peer.send(peer.opening(peer.held()[-1], size=largest + 1))
    assert answer
    assert not any(data.flags & wire.FLAG_PROBE for data in answer)


def test_sixty_four_numbers_of_a_generation_are_probed_once() -> None:
    """A probe comes on top of the window."""
    peer = running()
    probes = packets = 0
    for claims in range(100):
        answer = peer.send(peer.claim(peer.held()[claims], size=1452))
        probes += sum(data.flags & wire.FLAG_PROBE for data in answer)
        packets += len(answer)
    assert 2 < probes <= packets / 64 + 2


def test_an_answer_that_an_address_may_not_have_sends_it_back_with_a_new_continuation() -> None:
    peer = running(100)
    opening = peer.opening(peer.held()[-1])
    assert 3 * len(opening) < 1200
    peer.address = ("198.51.100.1", 1)
    result = redeemed(peer.redeem(opening))
    assert peer.server.burst(result, Bytes(), NOW) == []
    assert result.starved
    reply = peer.server.come_back(result, NOW)
    assert reply is not None
    assert len(reply) <= len(opening)
    blob = wire.decode_ack(reply).continuation
    back = redeemed(peer.redeem(peer.opening(Burst(sealing.parse(blob), blob))))
    assert (back.validated, back.starved) == (True, False)


def test_loopback_may_have_larger_datagrams() -> None:
    for host, most in [("127.0.0.1", 16_376), ("::1", 16_376), ("192.0.2.1", 1472)]:
        peer = Peer(server(), (host, 7))
        peer.begin()
        (answer,) = redeemed(peer.redeem(peer.opening(peer.held()[0], size=20_000))).answers
        assert answer.size == most
        largest = max(CONFIG.max_datagram_bytes, CONFIG.max_loopback_datagram_bytes)
        assert answer.size <= largest


# ---- answers without data


def test_answers_without_data_are_never_longer_than_what_they_answer() -> None:
    peer = running(30)
    burst = peer.unclaimed()[0]
    requests = [
        hello(),
        peer.claim(burst),
        peer.opening(burst),
        wire.encode_upload(wire.Upload(FLOW, 1, 0, None, burst.blob, b"")),
        wire.encode_cancel(wire.Cancel(FLOW, burst.blob)),
    ]
    ranges = [(2 * k, 2 * k + 1) for k in range(40)]
    for request in requests:
        for address in (ADDRESS, (ADDRESS[0], 3), ("198.51.100.1", 3)):
            sent = 0
            result = redeemed(peer.server.redeem(request, address, NOW))
            for reply in (
                peer.server.wait(result, 100_000, NOW),
                peer.server.wait(result, 5, NOW + 40_000),
                peer.server.need(result, ranges),
                peer.server.refuse(result, Code.BUSY, 100_000),
                peer.server.acknowledge(result, 10, b"p" * 768, NOW),
                peer.server.acknowledge(result, 10, b"", NOW),
            ):
                if reply is not None:
                    assert len(reply) <= len(request)
                    sent += len(reply)
            if address[0] != ADDRESS[0]:
                assert sent <= 3 * len(request)


def test_wait_names_the_request_and_keeps_an_old_one_young() -> None:
    peer = running(30)
    burst = peer.unclaimed()[0]
    c = burst.continuation
    result = redeemed(peer.redeem(peer.claim(burst)))
    reply = peer.server.wait(result, 250, NOW)
    assert reply is not None
    expected = wire.Wait(FLOW, c.ordinal, c.generation & 0xFFFF_FFFF, c.stop, 250)
    assert wire.decode_wait(reply) == expected
    # After half the horizon the client gets a fresh continuation instead, if it fits.
    padded = redeemed(peer.redeem(peer.claim(burst, pad_to=1200)))
    late = peer.server.wait(padded, 250, NOW + 30_001)
    assert late is not None
    assert sealing.parse(wire.decode_ack(late).continuation).minted == NOW + 30_001


def test_refusals_carry_the_hash_of_what_they_refuse() -> None:
    import hashlib

    peer = running()
    peer.now += 61_000
    claim = peer.claim(peer.held()[0])
    reply = refused(peer.redeem(claim))
    assert reply.echo == hashlib.blake2b(claim, digest_size=8).digest()
    assert reply.flow == FLOW
