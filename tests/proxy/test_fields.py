"""Header fields that are for the proxy, and those that are not."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trickles_web.proxy.fields import (
    VIA,
    has_body,
    is_ambiguous,
    may_pass,
    request_headers,
    response_headers,
)

CREDENTIAL = b"trickles:open sesame"
RIGHT = b"Basic " + base64.b64encode(CREDENTIAL)


def test_what_is_for_the_proxy_goes_no_further() -> None:
    headers = [
        (b"Host", b"elsewhere"),
        (b"Proxy-Authorization", RIGHT),
        (b"Proxy-Connection", b"keep-alive"),
        (b"Connection", b"keep-alive, X-Mine"),
        (b"Keep-Alive", b"timeout=5"),
        (b"TE", b"trailers"),
        (b"x-mine", b"1"),
        (b"X-Case", b"Kept"),
    ]
    assert request_headers(headers, b"here:80") == [
        (b"Host", b"here:80"),
        (b"X-Case", b"Kept"),
        (b"Via", VIA),
    ]


def test_no_option_of_the_connection_moves_the_end_of_a_message() -> None:
    headers = [
        (b"Connection", b"content-length, Transfer-Encoding, host"),
        (b"Content-Length", b"3"),
    ]
    assert (b"Content-Length", b"3") in request_headers(headers, b"here")
    headers[1] = (b"Transfer-Encoding", b"chunked")
    assert (b"Transfer-Encoding", b"chunked") in response_headers(headers)


def test_an_upgrade_is_passed_on_if_it_is_wanted() -> None:
    upgrade = (b"Upgrade", b"websocket")
    wanted = [(b"Connection", b"keep-alive, Upgrade"), upgrade]
    assert response_headers(wanted) == [(b"Connection", b"Upgrade"), upgrade, (b"Via", VIA)]
    assert response_headers([upgrade]) == [(b"Via", VIA)]


@pytest.mark.parametrize(
    ("headers", "answer"),
    [
        ([], False),
        ([(b"content-length", b"0")], False),
        ([(b"Content-Length", b"1")], True),
        ([(b"transfer-encoding", b"chunked")], True),
    ],
)
def test_has_body(headers: list[tuple[bytes, bytes]], answer: bool) -> None:
    assert has_body(headers) is answer
    assert not is_ambiguous(headers)


def test_a_message_that_ends_in_two_ways() -> None:
    assert is_ambiguous([(b"Content-Length", b"1"), (b"Transfer-Encoding", b"chunked")])


def test_the_credential() -> None:
    name = b"Proxy-Authorization"
    assert may_pass([(name, RIGHT)], CREDENTIAL)
    assert may_pass([(b"proxy-authorization", RIGHT.replace(b"Basic", b"bAsIc"))], CREDENTIAL)
    for wrong in (
        b"",
        b"Basic",
        b"Basic !",
        b"Bearer" + RIGHT[5:],
        RIGHT[:-4],
        RIGHT + b"A",
        b"==",
    ):
        assert not may_pass([(name, wrong)], CREDENTIAL), wrong
    assert not may_pass([], CREDENTIAL)
    assert not may_pass([(b"Authorization", RIGHT)], CREDENTIAL)
    assert not may_pass([(name, RIGHT), (name, RIGHT)], CREDENTIAL)


@given(st.binary(max_size=40))
def test_nothing_else_is_the_credential(value: bytes) -> None:
    assert not may_pass([(b"Proxy-Authorization", value)], CREDENTIAL)
    encoded = b"Basic " + base64.b64encode(value)
    assert may_pass([(b"Proxy-Authorization", encoded)], CREDENTIAL) is (value == CREDENTIAL)
