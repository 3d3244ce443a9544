"""A train of datagrams is taken as its datagrams one by one, whatever happened to them before."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.transport.driver import (
    ADDRESS,
    CONFIG,
    FLOW,
    NOW,
    Bytes,
    datagrams,
    readable,
    server,
)
from trickles_web.config import ClientConfig
from trickles_web.transport import wire
from trickles_web.transport.epochs import Epoch
from trickles_web.transport.flow import Flow
from trickles_web.transport.redeemed import Refusal
from trickles_web.transport.wire import Kind, run_of_one, with_neighbours

WHOLE = random.Random(4).randbytes(1_500_000)
EPOCH = Epoch(0, 0, 0, 10, 10)
STEP_S = 0.01


class Whole(Bytes):
    def read(self, start: int, stop: int) -> bytes:
        return WHOLE[start:stop]


class Twins:
    """Two flows of one id: one gets trains, the other the same datagrams one by one."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        config = ClientConfig(receive_buffer_bytes=self.rng.choice([100_000, 4 << 20]))
        self.by_train = Flow(FLOW, config, 0.0)
        self.by_one = Flow(FLOW, config, 0.0)
        self.server = server(config=CONFIG)
        self.response = Whole(end=len(WHOLE))
        self.now = 0.0
        self.read = bytearray()
        self.before: list[bytes] = []

    def both(self) -> list[bytes]:
        """What they send, which is the same."""
        sent = self.by_train.transmit(self.now)
        assert self.by_one.transmit(self.now) == sent
        assert self.by_one.timeout() == self.by_train.timeout()
        assert self.by_one.stats == self.by_train.stats
        assert str(self.by_one.error) == str(self.by_train.error)
        return sent

    def answered(self, requests: list[bytes]) -> list[bytes]:
        replies: list[bytes] = []
        now = NOW + int(self.now * 1000)
        for request in requests:
            redeemed = self.server.redeem(request, ADDRESS, now)
            if isinstance(redeemed, Refusal):
                replies += [] if redeemed.reply is None else [redeemed.reply]
            elif not redeemed.validated:
                reply = self.server.acknowledge(redeemed, 0, b"", now)
                replies += [] if reply is None else [reply]
            else:
                replies += datagrams(self.server.burst(redeemed, self.response, now))
        return replies

    def deliver(self, sent: list[bytes], harm: float) -> None:
        received = on_the_way(self.rng, sent, harm)
        self.before = (self.before + sent)[-300:]
        if self.before and self.rng.random() < 10 * harm:  # many come late, or again
            at = self.rng.randrange(len(self.before))
            received += self.before[at : at + self.rng.randrange(1, 60)]
        for train in trains(received):
            self.by_train.receive_train(b"".join(train), len(train[0]), self.now)
            for datagram in train:
                self.by_one.receive(datagram, self.now)
        if self.rng.random() < 0.8:
            limit = self.rng.choice([1, 3000, 1 << 30])
            data = self.by_train.read(limit)
            assert self.by_one.read(limit) == data
            self.read += data


def trains(received: list[bytes]) -> Iterator[list[bytes]]:
    """As a kernel puts them together: of one length, but for a shorter one at the end."""
    train: list[bytes] = []
    for datagram in received:
        if train and not len(train[-1]) == len(train[0]) >= len(datagram):
            yield train
            train = []
        train.append(datagram)
    if train:
        yield train


def on_the_way(rng: random.Random, sent: list[bytes], harm: float) -> list[bytes]:
    """Lost, repeated, swapped, cut and changed."""
    received: list[bytes] = []
    for datagram in sent:
        what = rng.random() / harm
        if what < 0.3:
            continue
        if what < 0.5:
            received.append(datagram)
        elif what < 0.7:
            received.insert(rng.randrange(len(received) + 1), datagram)
            continue
        elif what < 0.8:
            datagram = datagram[: rng.randrange(1, len(datagram))]
        elif what < 1:
            changed = bytearray(datagram)
            at = rng.randrange(9, min(len(changed), rng.choice([63, 250])))
            changed[at] = rng.choice([0, 1, 0xFF, changed[at] ^ 1, rng.randrange(256)])
            datagram = bytes(changed)
        received.append(datagram)
    return received


@pytest.mark.parametrize("harm", [1e-9, 0.02, 0.1])
@pytest.mark.parametrize("seed", range(5))
def test_a_train_is_its_datagrams_one_by_one(seed: int, harm: float) -> None:
    twins = Twins(seed)
    for flow in (twins.by_train, twins.by_one):
        flow.write(b"hello")
    requests = twins.both()
    for _ in range(600):
        twins.now += STEP_S
        twins.deliver(twins.answered(requests), harm)
        requests = twins.both()
        if twins.by_train.idle or twins.by_train.error is not None:
            break
        due = twins.by_train.timeout()
        if not requests and due is not None:
            twins.now = max(twins.now, due)
            requests = twins.both()
    if harm < 1e-6:
        assert twins.by_train.idle
        twins.read += twins.by_train.read()
        assert twins.read == WHOLE


# ---- runs


def packet(
    place: int,
    offset: int,
    payload: bytes,
    *,
    burst_length: int = 20,
    flags: int = 0,
    carried: bytes = b"",
) -> bytes:
    prefix = wire.data_prefix(FLOW, 0, 1, 0, 0, 10, 10, 0, flags, 1, 5, 3, burst_length, 0)
    own = wire.DATA_PACKET.pack(place, 1 << place, offset, len(carried))
    return prefix + own + carried + payload


def run_at_start(packets: list[bytes]) -> wire.Run:
    train, segment = memoryview(b"".join(packets)), len(packets[0])
    return with_neighbours(run_of_one(train[:segment]), train, 0, segment)


@given(st.integers(1, 20), st.sampled_from([1, 100, 1137, 5000]))
def test_neighbours_make_one_run(count: int, length: int) -> None:
    payloads = [bytes([i]) * length for i in range(count)]
    run = run_at_start([packet(i, 7 + i * length, payload) for i, payload in enumerate(payloads)])
    assert (run.start, run.stop, run.size) == (3, 3 + count, count * length)
    assert run.proof == (1 << count) - 1
    assert b"".join(run.payloads) == b"".join(payloads)


@given(st.integers(2, 20), st.sampled_from([101, 1137, 5000]))
def test_a_burst_with_its_carriers_is_one_run(count: int, length: int) -> None:
    blob, offset = bytes(range(100)), 7
    payloads = [bytes([i]) * (length - 100 * (i in (0, count - 1))) for i in range(count)]
    packets: list[bytes] = []
    for i, payload in enumerate(payloads):
        packets.append(packet(i, offset, payload, carried=b"" if 0 < i < count - 1 else blob))
        offset += len(payload)
    run = run_at_start(packets)
    assert (run.start, run.stop, run.size) == (3, 3 + count, offset - 7)
    assert run.data.continuation == blob
    assert run.proof == (1 << count) - 1
    assert b"".join(run.payloads) == b"".join(payloads)


def carrier(place: int, blob: bytes, payload: bytes, flags: int = 0) -> bytes:
    return packet(place, 50 * place, payload, carried=blob, flags=flags)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (carrier(0, b"", bytes(50)), carrier(1, b"c" * 50, b"")),
        (carrier(0, b"a" * 50, bytes(50)), carrier(1, b"b" * 50, bytes(50))),
        (carrier(0, b"a" * 50, bytes(50)), carrier(1, b"a" * 49, bytes(51))),
        (
            carrier(0, b"a" * 48, bytes(52), wire.FLAG_NOTED),
            carrier(1, b"a" * 48, bytes(52), wire.FLAG_NOTED),
        ),
    ],
)
def test_what_a_carrier_says_is_heard(first: bytes, second: bytes) -> None:
    """Of a run only the first packet is asked for a continuation, and for a note none."""
    run = run_at_start([first, second])
    assert (run.start, run.stop) == (3, 4)


@pytest.mark.parametrize(
    "odd",
    [
        packet(3, 300, bytes(100)),  # a number left out
        packet(2, 201, bytes(100)),  # bytes that do not follow
        packet(2, 200, bytes(100), burst_length=21),  # another burst
        packet(2, 200, bytes(100), flags=wire.FLAG_PROBE),
        bytes(163),
        packet(2, 200, bytes(99)),  # shorter: the end of its train
    ],
)
def test_a_run_ends_before_what_is_no_neighbour(odd: bytes) -> None:
    run = run_at_start([packet(0, 0, bytes(100)), packet(1, 100, bytes(100)), odd])
    assert (run.start, run.stop, run.size) == (3, 5, 200)


def test_a_run_stays_within_its_burst() -> None:
    run = run_at_start([packet(i, i * 9, bytes(9), burst_length=2) for i in range(4)])
    assert (run.start, run.stop) == (3, 5)


def data(burst: int, length: int, place: int, blob: bytes = b"") -> bytes:
    prefix = wire.data_prefix(FLOW, 0, 1, *EPOCH.numbers, 0, 0, 1, 5, burst, length, 0)
    own = wire.DATA_PACKET.pack(place, 7, (burst + place) * 1000, len(blob))
    return prefix + own + blob + bytes(1000)


def asked() -> Flow:
    flow = Flow(FLOW, ClientConfig(), 0.0)
    flow.write(b"request")
    flow.transmit(0.0)
    return flow


def test_bursts_that_overlap_do_no_harm() -> None:
    """The end of one lies within a run of another: no proof was ever noted there."""
    flow = asked()
    blob = readable(epoch=EPOCH, burst=0, stop=5, edition=5)
    flow.receive(data(0, 5, 0, blob), 0.1)
    flow.receive(data(0, 5, 1), 0.1)
    overlapping = [data(2, 7, place) for place in range(7)]
    flow.receive_train(b"".join(overlapping), len(overlapping[0]), 0.1)
    assert flow.readable() == 9000
    (claim,) = flow.transmit(0.1)
    assert wire.kind_of(claim) == Kind.REQUEST


def test_nothing_is_taken_beyond_the_end() -> None:
    """The exchange is complete in the middle of a train: the rest of it comes too late."""
    flow = asked()
    blob = readable(epoch=EPOCH, burst=0, stop=9, edition=5, response_end=3000, request_wanted=7)
    flow.receive(data(0, 9, 0, blob), 0.1)
    rest = [data(0, 9, place) for place in range(1, 9)]
    flow.receive_train(b"".join(rest), len(rest[0]), 0.1)
    assert flow.idle
    assert flow.readable() == 3000
