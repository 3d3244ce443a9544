"""What an attacker on the path makes of a private flow's datagrams: nothing that a server takes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transport.driver import (
    ADDRESS,
    CONFIG,
    NOW,
    SECRET,
    Bytes,
    hello,
    keyring,
    redeemed,
    refused_code,
)
from tests.transport.private.answers import IDENTITY
from tests.transport.private.peer import PrivatePeer, private_server
from trickles_web.config import BASE_DATAGRAM
from trickles_web.errors import ContinuationError, WireError
from trickles_web.transport import wire
from trickles_web.transport.continuation import FLAGS_AT, PRIVATE, TICKET_BYTES
from trickles_web.transport.private import channel as channels
from trickles_web.transport.private.channel import Privacy
from trickles_web.transport.private.cover import DOWN, UP, start_of
from trickles_web.transport.private.exchange import Exchange
from trickles_web.transport.private.ticket import open_ticket
from trickles_web.transport.server import Redeemed, Refusal
from trickles_web.transport.wire import START_BYTES, Code, Kind

BODY = START_BYTES + TICKET_BYTES
"""Where the nonce and what is sealed begin, in a client's datagram."""


def peers() -> tuple[PrivatePeer, PrivatePeer]:
    """Two flows of one server, begun."""
    server = private_server()
    return PrivatePeer(server, 1).begin(), PrivatePeer(server, 2).begin()


def kinds(peer: PrivatePeer) -> dict[str, bytes]:
    """One datagram of each kind that a client seals, none of which is spent."""
    return {
        "HELLO": PrivatePeer(peer.server, 3).hello(),
        "post-quantum HELLO": PrivatePeer(peer.server, 4, Exchange.MLKEM768_X25519).hello(),
        "REQUEST": peer.seal(peer.message(b"GET")),
        "UPLOAD": peer.seal(peer.upload()),
        "CANCEL": peer.seal(peer.cancel()),
    }


@pytest.mark.parametrize("kind", kinds(peers()[0]))
def test_a_flipped_bit_anywhere_makes_it_nothing(kind: str) -> None:
    peer, _ = peers()
    datagram = kinds(peer)[kind]
    step = 7 if kind.endswith("HELLO") else 1  # a prime to 8: each bit of some byte
    for bit in range(0, 8 * len(datagram), step):
        changed = bytearray(datagram)
        changed[bit // 8] ^= 1 << bit % 8
        assert isinstance(peer.redeem(bytes(changed)), Refusal), bit
    assert isinstance(peer.redeem(datagram), Redeemed)


@pytest.mark.parametrize("kind", kinds(peers()[0]))
def test_a_part_of_it_or_more_than_it_is_nothing(kind: str) -> None:
    peer, _ = peers()
    datagram = kinds(peer)[kind]
    for length in range(len(datagram)):
        result = peer.redeem(datagram[:length])
        assert isinstance(result, Refusal)
        assert len(result.reply or b"") <= length
    assert isinstance(peer.redeem(datagram + b"\0"), Refusal)


def test_the_ticket_of_one_flow_opens_nothing_of_another() -> None:
    one, other = peers()
    mine, theirs = one.seal(one.message()), other.seal(other.message())
    spliced = mine[:BODY] + theirs[BODY:]
    assert isinstance(one.redeem(spliced), Refusal)
    assert isinstance(one.redeem(start_of(start_of(theirs)) + mine[START_BYTES:]), Refusal)


def test_who_has_two_flows_presents_no_continuation_with_the_ticket_of_the_other() -> None:
    """Its own secret would then be that of somebody else's incarnation."""
    one, other = peers()
    foreign = one.seal(one.message(blob=other.held.blob))
    answer = one.redeem(foreign)
    assert isinstance(answer, Refusal) and answer.reply is not None
    assert wire.decode_refused(one.open(answer.reply)).code == Code.FORGED


def test_a_continuation_of_a_private_flow_is_worth_nothing_in_clear() -> None:
    one, _ = peers()
    assert one.held.blob[FLAGS_AT] & PRIVATE
    for message in (one.message(b"GET"), one.upload(), one.cancel()):
        assert refused_code(one.redeem(message)) in (Code.FORGED, None)
        assert not isinstance(one.redeem(message), Redeemed)


def test_nor_is_one_of_a_flow_in_clear_in_a_private_one() -> None:
    one, _ = peers()
    result = redeemed(one.redeem(hello()))
    reply = one.server.acknowledge(result, 0, b"", NOW)
    assert reply is not None
    clear = wire.decode_ack(reply).continuation
    answer = one.redeem(one.seal(one.message(blob=clear)))
    assert isinstance(answer, Refusal) and answer.reply is not None
    assert wire.decode_refused(one.open(answer.reply)).code == Code.FORGED
    flagged = bytearray(clear)
    flagged[FLAGS_AT] |= PRIVATE
    assert isinstance(one.redeem(one.seal(one.message(blob=bytes(flagged)))), Refusal)


def test_neither_direction_is_taken_for_the_other() -> None:
    """What either sent comes back to it, whatever is put before."""
    one, _ = peers()
    sent = one.data()
    assert len(sent) > 1
    for datagram in sent:
        for first in (datagram[:1], bytes([0x20 | Kind.REQUEST]), bytes([0x20 | Kind.UPLOAD])):
            back = first + datagram[1:START_BYTES] + one.held.ticket + datagram[START_BYTES:]
            assert isinstance(one.redeem(back), Refusal)
    mine = one.seal(one.message())
    for at in (START_BYTES, BODY):
        with pytest.raises(WireError):
            one.keys.unseal(DOWN, mine[:START_BYTES] + mine[at:], START_BYTES)
    with pytest.raises(WireError):
        one.keys.unseal(UP, sent[0], START_BYTES)


def test_kinds_of_servers_and_of_nobody_are_not_answered() -> None:
    """Not even refused: two servers could be made to talk."""
    one, _ = peers()
    for kind in set(range(16)) - {Kind.HELLO, Kind.REQUEST, Kind.UPLOAD, Kind.CANCEL}:
        datagram = bytes([0x20 | kind]) + one.seal(one.message())[1:]
        for changed in (datagram, datagram[:START_BYTES].ljust(BASE_DATAGRAM, b"x")):
            result = one.redeem(changed)
            assert isinstance(result, Refusal) and result.reply is None


@given(st.integers(0, 1500))
def test_no_introduction_is_longer_than_the_question(length: int) -> None:
    question = wire.encode_identify(wire.Identify(b"flow-id.", 0), length)
    result = private_server().redeem(question, ADDRESS, NOW)
    assert isinstance(result, Refusal)
    if length >= BASE_DATAGRAM:
        assert result.reply is not None and len(result.reply) <= length
    else:
        assert result.reply is None


@settings(max_examples=60)
@given(
    st.sampled_from(sorted(kinds(peers()[0]))),
    st.booleans(),
    st.binary(max_size=40),
    st.sampled_from([ADDRESS, (ADDRESS[0], 99), ("198.51.100.1", 5)]),
)
def test_no_answer_without_data_is_longer_than_what_it_answers(
    kind: str, whole: bool, more: bytes, address: tuple[str, int]
) -> None:
    """On the wire, sealed as it is: ACK, NEED, WAIT, REFUSED."""
    peer, _ = peers()
    datagram = kinds(peer)[kind] + more * (not whole)
    result = peer.server.redeem(datagram, address, NOW)
    if isinstance(result, Refusal):
        assert len(result.reply or b"") <= len(datagram)
        return
    server = peer.server
    answers = [
        server.come_back(result, NOW),
        server.wait(result, 100, NOW),
        server.need(result, [(0, 100)] * 32),
        server.refuse(result, Code.BUSY),
        server.acknowledge(result, 10, b"x" * 200, NOW),
    ]
    assert all(len(answer or b"") <= len(datagram) for answer in answers)


@pytest.mark.parametrize("exchange", list(Exchange))
def test_data_for_a_private_hello_is_three_times_its_bytes_at_most(exchange: Exchange) -> None:
    peer = PrivatePeer(private_server(), exchange=exchange)
    datagram = peer.hello()
    trains = peer.server.burst(redeemed(peer.redeem(datagram)), Bytes(), NOW)
    sent = [one for train in trains for one in train.datagrams()]
    assert sent and sum(map(len, sent)) <= 3 * len(datagram)
    assert max(map(len, sent)) <= BASE_DATAGRAM


def test_a_hello_costs_nothing_before_it_is_long_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening it is the dearest that a stranger can ask for."""
    peer = PrivatePeer(private_server())

    def dear(*what: object) -> None:
        raise AssertionError("opened")

    monkeypatch.setattr(channels, "private_key", dear)
    assert isinstance(peer.redeem(peer.hello()[:-1]), Refusal)
    with pytest.raises(AssertionError, match="opened"):
        peer.redeem(peer.hello())


def test_forged_tickets_and_prefixes_take_no_places() -> None:
    one, other = peers()
    privacy = one.server._privacy
    assert privacy is not None
    for peer in (one, other):
        redeemed(peer.redeem(peer.seal(peer.message())))
    known = dict(privacy._tickets)
    made = {ticket: dict(keys._made) for ticket, (_, keys) in known.items()}
    good = one.seal(one.message())
    for number in range(2000):
        noise = number.to_bytes(8, "big")
        one.redeem(good[: BODY - 8] + noise + good[BODY:])
        one.redeem(good[:BODY] + noise + good[BODY + 8 :])
    assert privacy._tickets == known
    assert made == {ticket: keys._made for ticket, (_, keys) in privacy._tickets.items()}


def test_more_flows_than_tickets_are_remembered() -> None:
    """Forgetting costs microseconds, and nothing else."""
    server = private_server()
    privacy = server._privacy
    assert privacy is not None
    privacy._most_tickets = 3
    flows = [PrivatePeer(server, seed).begin() for seed in range(10)]
    for _ in range(2):
        for peer in flows:
            result = redeemed(peer.redeem(peer.seal(peer.upload())))
            assert result.incarnation == peer.held.continuation.incarnation
            assert len(privacy._tickets) <= 3


def test_a_hello_for_another_key_of_that_name_is_refused_and_not_met_with_silence() -> None:
    """So that who was told of the other one asks again, and does not take the server for dead."""
    peer = PrivatePeer(private_server())
    changed = bytearray(peer.hello())
    changed[-1] ^= 1
    assert refused_code(peer.redeem(bytes(changed))) is Code.FORGED


@pytest.mark.parametrize(
    ("away", "code"), [(-2, Code.EXPIRED), (2, Code.EXPIRED), (1 << 26, Code.FORGED)]
)
def test_keys_that_are_over_or_of_another_secret_are_refused_in_clear(
    away: int, code: Code
) -> None:
    peer = PrivatePeer(private_server())
    generation = peer.server._keyring.generation(NOW) + away & 0xFFFF_FFFF
    assert refused_code(peer.redeem(peer.hello(generation=generation))) is code


def test_a_ticket_ends_with_its_keys() -> None:
    """Though it was remembered; until then it is renewed with each answer."""
    peer, _ = peers()
    day = CONFIG.rotation_ms
    datagram = peer.seal(peer.upload())
    privacy = peer.server._privacy
    assert privacy is not None
    _, channel = privacy.opened(datagram, NOW)
    assert channel.ticket == peer.held.ticket
    _, later = privacy.opened(datagram, NOW + day)
    assert later.ticket != peer.held.ticket
    assert open_ticket(keyring(), later.ticket, NOW + 2 * day)[1] == peer.keys.secret
    with pytest.raises(ContinuationError, match="expired"):
        privacy.opened(datagram, NOW + 2 * day)


def test_who_has_the_master_secret_reads_what_was_recorded_and_nobody_without_it() -> None:
    """There is no forward secrecy but by replacing it: a replica with another one has no way."""
    peer, _ = peers()
    recorded = {"HELLO": peer.hello(), "REQUEST": peer.seal(peer.message(b"GET /private"))}
    with_it, without = (
        Privacy(keyring(secret=secret), IDENTITY.credentials, bytes)
        for secret in (SECRET, b"n" * 32)
    )
    for datagram in recorded.values():
        _, channel = with_it.opened(datagram, NOW)
        assert channel._keys.secret == peer.keys.secret
        with pytest.raises(ContinuationError, match="secret"):
            without.opened(datagram, NOW)


def test_a_copied_hello_is_a_flow_of_its_own_at_another_replica_and_nothing_at_the_same() -> None:
    """And whoever copied it cannot read the answer."""
    first, second = private_server(1), private_server(2)
    peer = PrivatePeer(first)
    datagram = peer.hello()
    one, other = (redeemed(s.redeem(datagram, ADDRESS, NOW)) for s in (first, second))
    assert one.incarnation != other.incarnation
    assert first.burst(one, Bytes(), NOW) and second.burst(other, Bytes(), NOW)
    assert isinstance(first.redeem(datagram, ADDRESS, NOW), Refusal)
