"""The address that a server prefers: who may say so, and how much of its allowance that takes."""

from __future__ import annotations

import dataclasses

from tests.transport.driver import ADDRESS, CONFIG, FLOW, NOW, redeemed, server
from trickles_web.config import ClientConfig
from trickles_web.transport import wire
from trickles_web.transport.flow import Flow
from trickles_web.transport.origin import pack_origin

ELSEWHERE = ("192.0.2.77", 9000)
PREFERRING = dataclasses.replace(CONFIG, preferred=pack_origin(*ELSEWHERE))


def begun() -> tuple[Flow, bytes]:
    """A flow, and its HELLO."""
    flow = Flow(FLOW, ClientConfig(), 0.0)
    flow.write(b"hello")
    (hello,) = flow.transmit(0.0)
    return flow, hello


def test_it_is_told_and_taken() -> None:
    flow, hello = begun()
    at = server(config=PREFERRING)
    told = at.prefer(redeemed(at.redeem(hello, ADDRESS, NOW)))
    assert told is not None
    flow.receive(told, 0.1)
    assert flow.preferred == ELSEWHERE


def test_a_server_without_such_a_wish_says_nothing() -> None:
    _, hello = begun()
    at = server()
    assert at.prefer(redeemed(at.redeem(hello, ADDRESS, NOW))) is None


def test_it_counts_to_what_a_stranger_may_be_sent() -> None:
    _, hello = begun()
    at = server(config=PREFERRING)
    result = redeemed(at.redeem(hello, ADDRESS, NOW))
    before = result.allowance
    told = at.prefer(result)
    assert told is not None
    assert result.allowance == before - len(told)
    result.allowance = len(told) - 1
    assert at.prefer(result) is None


def test_who_has_not_seen_the_hello_is_not_believed() -> None:
    flow, hello = begun()
    for echo in (bytes(8), wire.echo_of(hello[:-1])):
        flow.receive(
            wire.encode_preferred(wire.Preferred(FLOW, echo, pack_origin(*ELSEWHERE))), 0.1
        )
        assert flow.preferred is None
