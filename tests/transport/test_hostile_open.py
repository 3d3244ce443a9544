"""A lying server and a client with an open request: whatever is acknowledged, the client sends its
own bytes only, none that were released, raises nothing, and keeps no more than it was given."""

from __future__ import annotations

import random
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transport.driver import FLOW, readable
from trickles_web.config import ClientConfig
from trickles_web.transport import wire
from trickles_web.transport.continuation import COMPLETE, OPEN, REFRESHED
from trickles_web.transport.flow import Flow
from trickles_web.transport.wire import Kind

WRITTEN = random.Random(5).randbytes(40_000)
MOST_OUT = 20_000
"""Datagrams that a client sends for so few events: a multiple of its window."""

offsets = st.one_of(
    st.integers(0, 41_000), st.sampled_from([0, 40_000, 1 << 31, (1 << 62) - 1, (1 << 64) - 1])
)
flags = st.sampled_from([0, OPEN, OPEN | REFRESHED, REFRESHED, COMPLETE | REFRESHED, COMPLETE, 255])
rooms = st.sampled_from([-1, 0, 1, 500, 100_000, (1 << 32) - 1])
lies = st.lists(
    st.one_of(
        st.tuples(
            st.just("ack"),
            offsets,
            rooms,
            st.booleans(),
            st.lists(st.integers(0, 50), max_size=8),
            st.one_of(st.none(), st.tuples(flags, offsets)),
        ),
        st.tuples(st.just("data"), st.integers(0, 20), offsets, flags, offsets, st.booleans()),
        st.tuples(st.just("need"), st.lists(st.tuples(offsets, offsets), max_size=5)),
        st.tuples(st.just("write"), st.integers(0, 5000)),
        st.tuples(st.just("time"), st.integers(0, 2)),
    ),
    max_size=25,
)


class Client:
    """A flow whose every datagram is looked at."""

    def __init__(self) -> None:
        self.flow = Flow(FLOW, ClientConfig(receive_buffer_bytes=50_000), 0.0)
        self.written = 0
        self.now = 0.0
        self.out = 0
        self.write(3000)
        self.send()
        self.data(0, 0, OPEN, 1000, False)

    def write(self, size: int) -> None:
        piece = WRITTEN[self.written : self.written + size]
        self.written += len(piece)
        self.flow.write(piece)

    def ack(
        self,
        held: int,
        room: int,
        complete: bool,
        numbers: list[int],
        sealed: tuple[int, int] | None,
    ) -> None:
        blob = b"" if sealed is None else readable(flags=sealed[0], request_wanted=sealed[1])
        message = wire.Ack(FLOW, complete, held, room, tuple(numbers), blob)
        self.flow.receive(wire.encode_ack(message), self.now)

    def data(self, place: int, offset: int, flag: int, wanted: int, ends: bool) -> None:
        end = offset + 50 if ends and offset < 1 << 60 else -1
        blob = readable(
            flags=flag & ~REFRESHED,
            request_wanted=wanted,
            response_end=end,
            burst=place,
            stop=place + 1,
            edition=5,
        )
        prefix = wire.data_prefix(FLOW, 0, 1, 0, 0, 10, 10, 0, 0, 0, 5, place, 1, 0)
        own = wire.DATA_PACKET.pack(0, 7, offset, len(blob))
        self.flow.receive(prefix + own + blob + bytes(50), self.now)

    def need(self, ranges: list[tuple[int, int]]) -> None:
        kept = [(x, max(y, x + 1)) for x, y in ranges if max(x + 1, y) < 1 << 62]
        kept = [(x, y) for x, y in kept if y - x < (1 << 32) - 1]
        self.flow.receive(wire.encode_need(FLOW, kept), self.now)

    def send(self) -> None:
        for datagram in self.flow.transmit(self.now):
            self.out += 1
            kind = wire.kind_of(datagram)
            offset, carried = 0, b""
            if kind == Kind.REQUEST:
                request = wire.decode_request(datagram)
                offset, carried = request.request_offset, request.request
            elif kind == Kind.UPLOAD:
                upload = wire.decode_upload(datagram)
                offset, carried = upload.offset, upload.request
                assert carried
            assert carried == WRITTEN[offset : offset + len(carried)]
            assert offset + len(carried) <= self.written
            assert not carried or offset >= self.flow._requests.start
        self.flow.read()
        assert 0 <= self.flow.unacknowledged() <= self.written
        assert self.flow.untaken() >= 0

    def pass_time(self, steps: int) -> None:
        for _ in range(steps):
            at = self.flow.timeout()
            if at is None:
                return
            self.now = max(self.now, at)
            self.send()


@settings(max_examples=400)
@given(lies)
def test_whatever_a_server_says(told: list[tuple[object, ...]]) -> None:
    client = Client()
    actions: dict[str, Callable[..., None]] = {
        "ack": client.ack,
        "data": client.data,
        "need": client.need,
        "write": client.write,
        "time": client.pass_time,
    }
    for name, *arguments in told:
        actions[str(name)](*arguments)
        client.send()
        uploader = client.flow._uploader
        assert len(uploader._again) <= len(told) * 50
        assert len(uploader._held) <= 50 * len(told)
        assert len(uploader._flights) <= 1 + client.written
    client.pass_time(200)
    assert client.out < MOST_OUT


def test_what_was_not_written_yet_cannot_be_taken() -> None:
    client = Client()
    client.ack((1 << 62) - 1, (1 << 32) - 1, False, [], (OPEN | REFRESHED, 5))
    client.send()
    assert client.flow.unacknowledged() == 0
    before = client.out
    client.write(500)
    client.send()
    assert client.out == before + 1
    assert client.flow.unacknowledged() == 500
    assert client.flow._requests.start == 3000


def test_a_hello_begins_with_the_first_byte_of_the_request() -> None:
    """It has no offset to say otherwise. A server that took a byte for good, as it says, before it
    knew the flow would make the client tell the next server another request.
    """
    flow = Flow(FLOW, ClientConfig(), 0.0)
    flow.write(WRITTEN[:3000])
    flow.transmit(0.0)
    flow.receive(wire.encode_ack(wire.Ack(FLOW, False, 1, 1000, (), readable(flags=OPEN))), 0.1)
    now, hellos = 0.1, 0
    while (at := flow.timeout()) is not None and hellos < 5:
        now = max(now, at)
        for datagram in flow.transmit(now):
            if wire.kind_of(datagram) == Kind.HELLO:
                hellos += 1
                told = wire.decode_hello(datagram).request
                assert told == WRITTEN[: len(told)]
    assert hellos
