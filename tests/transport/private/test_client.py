"""A private flow at the client: what it believes, of whom, and how it ends."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.transport.driver import NOW, Bytes, keyring, redeemed
from tests.transport.private.answers import IDENTITY
from tests.transport.private.peer import private_server
from trickles_web.config import BASE_DATAGRAM, ClientConfig
from trickles_web.errors import ConnectError, FlowRefused, IdentityError, WireError
from trickles_web.testing.cluster import stranger
from trickles_web.transport import wire
from trickles_web.transport.private import introduction
from trickles_web.transport.private.cover import DOWN, FlowKeys, Nonces
from trickles_web.transport.private.exchange import Exchange, public_key
from trickles_web.transport.private.flow import PrivateFlow
from trickles_web.transport.private.introduction import MOST_BYTES, PART, Introduction
from trickles_web.transport.redeemed import Train
from trickles_web.transport.server import Server
from trickles_web.transport.wire import Code, Kind

ADDRESS = ("192.0.2.7", 4711)
CREDENTIALS = IDENTITY.credentials(keyring(), [Exchange.X25519], NOW)


class Known:
    """What a client knows of a server's keys: all that it is told of, and how often."""

    def __init__(self) -> None:
        self.learned = self.forgotten = 0
        self.servers = stranger(lambda: NOW)

    def known(self) -> tuple[int, object] | None:
        return self.servers.known()

    def learn(self, blob: bytes) -> None:
        self.learned += 1
        self.servers.learn(blob)

    def forget(self, generation: int) -> None:
        self.forgotten += 1
        self.servers.forget(generation)


def new_flow(known: Known | None = None) -> PrivateFlow:
    draw = random.Random(5).randbytes
    flow = PrivateFlow(draw(8), ClientConfig(), 0.0, known or Known(), draw)
    flow.write(b"GET / HTTP/1.1\r\n\r\n")
    return flow


def run(flow: PrivateFlow, answer: Callable[[bytes], list[bytes]], seconds: float = 120.0) -> float:
    """The flow with somebody who answers at once, until it ends; returns when it did."""
    now = 0.0
    while flow.error is None and now < seconds:
        for _ in range(50):
            replies = [reply for datagram in flow.transmit(now) for reply in answer(datagram)]
            for reply in replies:
                flow.receive(reply, now)
            if not replies:
                break
        at = flow.timeout()
        if at is None:
            break
        now = max(now + 0.001, at)
    return now


def introduced(server: Server) -> PrivateFlow:
    """One whose HELLO is about to leave."""
    flow = new_flow()
    for question in flow.transmit(0.0):
        reply = server.redeem(question, ADDRESS, NOW).reply  # type: ignore[union-attr]
        assert reply is not None
        flow.receive(reply, 0.0)
    return flow


def refused(datagram: bytes, code: Code) -> bytes:
    """In clear, as anybody can say it who saw the datagram."""
    said = wire.Refused(wire.flow_of(datagram), code, 0, wire.echo_of(datagram))
    return wire.encode_refused(said)


def test_an_empty_datagram_is_nothing() -> None:
    flow = introduced(private_server())
    flow.receive(b"", 0.0)
    flow.receive_train(b"", 0, 0.0)
    assert flow.error is None and flow.transmit(0.0)


def test_nothing_but_the_question_is_sent_before_the_server_is_known() -> None:
    flow = new_flow()
    sent = [datagram for at in (0.0, 0.3, 1.0, 3.0, 9.0) for datagram in flow.transmit(at)]
    assert sent and {datagram[0] & 15 for datagram in sent} == {Kind.IDENTIFY}
    assert not any(b"GET" in datagram for datagram in sent)


def test_a_server_that_is_not_trusted_gets_nothing_more() -> None:
    flow, draw = new_flow(), random.Random(1)
    for question in flow.transmit(0.0):
        if wire.decode_identify(question).offset == 0:
            forged = bytearray(CREDENTIALS)
            forged[draw.randrange(len(forged))] ^= 1
            said = wire.Identity(flow.id, b"any name", len(forged), 0, bytes(forged))
            flow.receive(wire.encode_identity(said), 0.0)
    assert isinstance(flow.error, IdentityError)
    assert [flow.transmit(at) for at in (0.0, 1.0, 60.0)] == [[], [], []]


def test_a_client_that_wants_the_hybrid_takes_nothing_less() -> None:
    """Whoever strikes its key out of what the server says breaks the signature."""
    servers = stranger(lambda: NOW, Exchange.MLKEM768_X25519)
    with pytest.raises(IdentityError, match="no key for MLKEM768_X25519"):
        servers.learn(CREDENTIALS)
    assert servers.known() is None
    servers.learn(IDENTITY.credentials(keyring(), list(Exchange), NOW))
    assert servers.known() is not None


def test_who_does_not_know_the_flow_id_introduces_nobody() -> None:
    known = Known()
    flow = new_flow(known)
    flow.transmit(0.0)
    for name in (bytes(8), b"flow-id."):
        for at in range(0, MOST_BYTES, PART):
            part = wire.Identity(
                name, b"the name", MOST_BYTES, at, b"x" * min(PART, MOST_BYTES - at)
            )
            flow.receive(wire.encode_identity(part), 0.0)
    assert (known.learned, flow.error) == (0, None)


def test_a_key_that_no_server_has_any_more_is_asked_for_anew() -> None:
    """Servers have rotated since: one refusal in clear, and the new key is used."""
    known, server = Known(), private_server()
    old = IDENTITY.credentials(keyring(secret=b"o" * 32), [Exchange.X25519], NOW)
    assert known.known() is None
    known.servers.learn(old)
    flow, seen = new_flow(known), list[int]()

    def answer(datagram: bytes) -> list[bytes]:
        seen.append(datagram[0] & 15)
        result = server.redeem(datagram, ADDRESS, NOW)
        reply = getattr(result, "reply", None)
        if reply is None and seen[-1] == Kind.HELLO:
            reply = server.acknowledge(redeemed(result), 0, b"", NOW)
        return [reply] if reply else []

    run(flow, answer, 1.0)
    assert (known.forgotten, known.learned) == (1, 1)
    asked = seen.index(Kind.IDENTIFY)
    assert seen[:asked] == [Kind.HELLO]
    assert Kind.REQUEST in seen


def test_a_server_that_knows_no_key_of_its_own_ends_the_flow() -> None:
    """Forgetting and asking again does not go on for ever."""
    for code, most in ((Code.FORGED, 24), (Code.EXPIRED, 8), (Code.VERSION, 8)):
        known, server = Known(), private_server()
        flow = new_flow(known)

        def answer(datagram: bytes, code: Code = code, server: Server = server) -> list[bytes]:
            if datagram[0] & 15 == Kind.HELLO:
                return [refused(datagram, code)]
            return [server.redeem(datagram, ADDRESS, NOW).reply or b""]  # type: ignore[union-attr]

        ended = run(flow, answer)
        assert isinstance(flow.error, FlowRefused)
        assert known.learned == known.forgotten == most
        assert ended < 10


def test_whoever_introduces_itself_again_and_again_ends_the_flow_in_its_time() -> None:
    """Parts of ever other names, of which no whole comes."""
    count = 0

    def answer(datagram: bytes) -> list[bytes]:
        nonlocal count
        count += 1
        said = wire.decode_identify(datagram)
        name = count.to_bytes(8, "big")
        part = wire.Identity(said.flow, name, 5 * PART, said.offset, b"x" * PART)
        return [wire.encode_identity(part)]

    flow = new_flow()
    ended = run(flow, answer)
    assert isinstance(flow.error, ConnectError)
    assert 10 <= ended < 11
    assert count < 200


def test_hints_in_clear_are_of_three_kinds_and_echo_what_was_sent() -> None:
    server = private_server()
    flow = introduced(server)
    [datagram] = flow.transmit(0.0)
    for code in set(Code) - {Code.VERSION, Code.FORGED, Code.EXPIRED}:
        for _ in range(30):
            flow.receive(refused(datagram, code), 0.0)
    for _ in range(30):
        said = wire.Refused(flow.id, Code.FORGED, 0, b"guessed!")
        flow.receive(wire.encode_refused(said), 0.0)
    assert flow.error is None
    assert flow.stats.datagrams_in == 0


def test_nothing_else_in_clear_is_taken() -> None:
    flow = introduced(private_server())
    flow.transmit(0.0)
    for message in (
        wire.encode_ack(wire.Ack(flow.id, True, 5, -1, (), b"")),
        wire.encode_need(flow.id, [(0, 5)]),
        wire.encode_wait(wire.Wait(flow.id, 1, 1, 1, 1)),
        wire.encode_preferred(wire.Preferred(flow.id, bytes(8), bytes(6))),
        wire.data_prefix(flow.id, *([0] * 13)) + bytes(19) + b"HTTP/1.1 200 OK",
    ):
        flow.receive(message, 0.0)
    assert (flow.stats.datagrams_in, flow.read()) == (0, b"")


def test_a_train_is_taken_whatever_of_it_opens() -> None:
    """Of datagrams that lie end to end some are forged, some in clear, and the last is shorter."""
    server = private_server()
    flow = introduced(server)
    [hello] = flow.transmit(0.0)
    response = Bytes(end=2500)
    trains: list[Train] = server.burst(redeemed(server.redeem(hello, ADDRESS, NOW)), response, NOW)
    sent = [one for train in trains for one in train.datagrams()]
    assert len(sent) >= 2
    size = len(sent[0])
    forged = sent[0][:-1] + bytes([sent[0][-1] ^ 1])
    clear = wire.encode_ack(wire.Ack(flow.id, True, 5, -1, (), b"")).ljust(size, b"\0")
    train = b"".join([forged, clear, *sent])
    assert all(len(one) == size for one in sent[:-1])
    flow.receive_train(train, size, 0.1)
    assert flow.stats.datagrams_in == len(sent)
    got = flow.read()
    assert len(got) > 1000 and got == bytes(x % 251 for x in range(len(got)))


def test_forged_prefixes_take_no_places_at_the_client() -> None:
    flow = introduced(private_server())
    flow.transmit(0.0)
    keys = FlowKeys(flow._secret_keys.secret)
    ack = wire.encode_ack(wire.Ack(flow.id, False, 0, -1, (), b""))
    good = keys.seal(DOWN, ack, b"", Nonces(random.Random(1).randbytes))
    flow.receive(good, 0.0)
    made = dict(flow._secret_keys._made)
    assert made
    for number in range(1000):
        flow.receive(good[: wire.START_BYTES] + number.to_bytes(8, "big") + good[17:], 0.0)
    assert flow._secret_keys._made == made


def test_many_replicas_are_heard_with_few_keys_remembered() -> None:
    """More of them than keys are remembered cost microseconds, and nothing else."""
    secret, draw = bytes(32), random.Random(1)
    theirs, mine = FlowKeys(secret), FlowKeys(secret)
    senders = [Nonces(draw.randbytes) for _ in range(100)]
    for _ in range(3):
        for sender in senders:
            sealed = theirs.seal(DOWN, b"\x19flow-id.said", b"", sender)
            assert mine.unseal(DOWN, sealed, wire.START_BYTES) == b"\x19flow-id.said"
    assert len(mine._made) <= 32


parts = st.builds(
    wire.Identity,
    st.just(b"flow-id."),
    st.sampled_from([b"one name", b"other..."]),
    st.sampled_from([1, PART, PART + 1, 3 * PART + 5, MOST_BYTES, MOST_BYTES + 1, 65_535]),
    st.one_of(st.sampled_from([i * PART for i in range(5)]), st.integers(0, 65_535)),
    st.one_of(st.just(b"x" * PART), st.just(b"x" * 5), st.just(b"x"), st.just(b"")),
)


@given(st.lists(parts, max_size=60))
def test_whatever_comes_as_parts_it_is_a_whole_or_nothing(told: list[wire.Identity]) -> None:
    asking = Introduction(b"flow-id.")
    for one in told:
        whole = asking.take(one)
        assert whole is None or (len(whole) == one.size <= MOST_BYTES)
        assert sum(map(len, asking._parts.values())) <= MOST_BYTES
        assert len(asking.ask()) <= -(-MOST_BYTES // PART)
        assert all(len(question) == BASE_DATAGRAM for question in asking.ask())


@given(st.integers(1, MOST_BYTES), st.randoms(use_true_random=False))
def test_parts_in_any_order_are_the_whole(size: int, draw: random.Random) -> None:
    blob = draw.randbytes(size)
    cut = [(at, blob[at : at + PART]) for at in range(0, size, PART)]
    draw.shuffle(cut)
    asking = Introduction(b"flow-id.")
    found = [asking.take(wire.Identity(b"flow-id.", b"one name", size, *one)) for one in cut]
    assert found == [None] * (len(cut) - 1) + [blob]
    assert introduction.AT_FIRST * PART > 3000


def test_a_key_of_small_order_is_none() -> None:
    """Whoever is trusted and says so all the same gets a typed error, and no secret."""
    for exchange, length in ((Exchange.X25519, 0), (Exchange.MLKEM768_X25519, 1184)):
        for point in (bytes(32), (1).to_bytes(32, "little")):
            with pytest.raises(WireError, match="key"):
                public_key(exchange, bytes(length) + point)
