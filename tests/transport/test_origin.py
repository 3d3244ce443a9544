"""For whom a gateway speaks: as bytes, in every HELLO, and as far as the server's first step."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.transport.driver import ADDRESS, FLOW, NOW, redeemed, server
from trickles_web.config import BASE_DATAGRAM, ClientConfig
from trickles_web.transport import wire
from trickles_web.transport.flow import Flow
from trickles_web.transport.origin import ORIGIN_BYTES, pack_origin, unpack_origin
from trickles_web.transport.wire import Kind

ORIGIN = pack_origin("2001:db8::9", 4660)


@pytest.mark.parametrize(
    ("host", "seen"),
    [
        ("192.0.2.9", "192.0.2.9"),
        ("::1", "::1"),
        ("2001:db8::9", "2001:db8::9"),
        ("::ffff:192.0.2.9", "192.0.2.9"),
        ("fe80::1%eth0", "fe80::1"),
    ],
)
def test_there_and_back(host: str, seen: str) -> None:
    assert unpack_origin(pack_origin(host, 4660)) == (seen, 4660)


@pytest.mark.parametrize("host", ["", "/run/socket", "localhost", "192.0.2"])
def test_what_is_no_address_is_an_error(host: str) -> None:
    with pytest.raises(ValueError, match="address"):
        pack_origin(host, 1)


@given(st.sampled_from(ORIGIN_BYTES).flatmap(lambda n: st.binary(min_size=n, max_size=n)))
def test_any_bytes_of_the_right_length_are_an_address(origin: bytes) -> None:
    host, port = unpack_origin(origin)
    assert 0 <= port <= 0xFFFF
    assert host


@pytest.mark.parametrize("origin", [b"", ORIGIN, pack_origin("192.0.2.9", 80)])
@pytest.mark.parametrize("request_bytes", [10, 5000])
def test_every_hello_says_it_and_has_room_for_it(origin: bytes, request_bytes: int) -> None:
    token = bytes(140)
    flow = Flow(FLOW, ClientConfig(), 0.0, token=token, origin=origin)
    flow.write(bytes(request_bytes))
    now = 0.0
    attempts: list[int] = []
    while len(attempts) < 4:
        for datagram in flow.transmit(now):
            assert len(datagram) == BASE_DATAGRAM
            hello = wire.decode_hello(datagram)
            assert (hello.token, hello.origin) == (token, origin)
            assert len(hello.request) == min(request_bytes, wire.hello_room(hello, BASE_DATAGRAM))
            attempts.append(hello.attempt)
        due = flow.timeout()
        assert due is not None
        now = due
    assert attempts == [0, 1, 2, 3]


def test_the_server_hands_it_up_from_first_contact_and_no_later() -> None:
    target = server()
    hello = wire.encode_hello(wire.Hello(FLOW, 0, 0, b"", b"request", ORIGIN), BASE_DATAGRAM)
    first = redeemed(target.redeem(hello, ADDRESS, NOW))
    assert (first.origin, first.request_bytes) == (ORIGIN, b"request")
    ack = target.acknowledge(first, 0, b"sealed", NOW)
    assert ack is not None
    request = wire.Request(
        FLOW, True, False, False, 0, 0, 0, 0, -1, 0, 0, wire.decode_ack(ack).continuation,
        ((0, wire.OPEN_END),), request=b"request",
    )  # fmt: skip
    second = redeemed(target.redeem(wire.encode_request(request), ADDRESS, NOW))
    assert (second.kind, second.origin, second.progress) == (Kind.REQUEST, b"", b"sealed")
