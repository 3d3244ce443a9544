"""Both parsers behind the same checks: one answer to any head, and the right one."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.fuzz.decoders import request_heads
from tests.http.hostile_heads import HOSTS, METHODS, REFUSED, TARGETS, VERSIONS, head
from tests.http.odd_heads import BODIES, TAKEN
from tests.http.said import said
from trickles_web.config import HttpConfig
from trickles_web.http.reader import Reader
from trickles_web.http.request import Malformed, Request

H11 = HttpConfig(http="h11")
HTTPTOOLS = HttpConfig(http="httptools")

Outcome = tuple[object, ...] | None


def outcome_of(data: bytes, config: HttpConfig) -> Outcome:
    reader = Reader(config)
    outcome = reader.read(data)
    if outcome is None:
        return None
    if isinstance(outcome, Malformed):
        return outcome.status, outcome.length, reader.name
    return said(outcome), reader.name, reader.expects_continue


def both(data: bytes) -> Request | Malformed | None:
    assert outcome_of(data, H11) == outcome_of(data, HTTPTOOLS)
    return Reader(HTTPTOOLS).read(data)


@pytest.mark.parametrize(("data", "status"), REFUSED.items(), ids=range(len(REFUSED)))
def test_hostile_heads(data: bytes, status: int) -> None:
    outcome = both(data)
    assert isinstance(outcome, Malformed)
    assert outcome.status == status, outcome.reason


@pytest.mark.parametrize(("data", "said"), TAKEN.items(), ids=range(len(TAKEN)))
def test_heads_that_are_odd_but_right(data: bytes, said: dict[str, object]) -> None:
    request = both(data)
    assert isinstance(request, Request), request
    assert request.length == len(data)
    for name, value in said.items():
        assert getattr(request, name) == value


@pytest.mark.parametrize("data", BODIES, ids=range(len(BODIES)))
def test_bodies(data: bytes) -> None:
    request = both(data + head())
    assert isinstance(request, Request), request
    assert request.length == len(data)
    for config in (H11, HTTPTOOLS):
        reader = Reader(config)
        outcome = reader.read(data)
        assert isinstance(outcome, Request)
        reader.take(data, 0)
        assert outcome.body == b"abc"


# Generated heads. What they are made of is what parsers have disagreed on.

METHOD = st.sampled_from([*METHODS, b"GET", b"HEAD", b"POST", b"OPTIONS", b"PRI", b"QUERY", b"get"])
TARGET = st.one_of(
    st.sampled_from([b"/", b"*", b"x:80", *TARGETS]),
    st.lists(st.sampled_from([b"/", b"a", b"http:", b"//", b"x", b"@", b"?", b"%41", b":8", b"["]))
    .map(b"".join)
    .map(lambda end: b"/" + end),
    st.binary(max_size=8).map(lambda end: b"/" + end),
    st.binary(max_size=8).map(lambda end: b"http://x" + end),
)
VERSION = st.sampled_from([b"HTTP/1.1"] * 8 + [b"HTTP/1.0"] * 2 + [*VERSIONS])
NAME = st.sampled_from(
    [
        *(b"Host", b"Content-Length", b"Transfer-Encoding", b"Connection", b"Upgrade", b"Expect"),
        *(
            b"A",
            b"",
            b"A ",
            b" A",
            b"A\0",
            b"Proxy-Connection",
            b"host",
            b"\xc4",
            b"TE",
            b"Trailer",
        ),
    ]
)
VALUE = st.one_of(
    st.sampled_from([*HOSTS, b"x", b"0", b"1", b"1, 1", b"chunked", b"gzip, chunked", b"close"]),
    st.sampled_from([b"upgrade", b"keep-alive, Upgrade", b"100-continue", b"websocket", b"h2c"]),
    st.lists(st.sampled_from([b"close", b",", b" ", b"\t", b"upgrade", b"chunked", b"\xff"])).map(
        b"".join
    ),
    st.binary(max_size=6),
)
LINE = st.tuples(
    NAME,
    st.sampled_from([b": "] * 6 + [b":", b":\t", b" : ", b""]),
    VALUE,
    st.sampled_from([b"\r\n"] * 12 + [b" \r\n", b"\n", b"\r\r\n", b"\r\n ", b"\r"]),
).map(b"".join)
WHOLE_LINE = st.one_of(
    st.just(b"Host: x\r\n"),
    st.tuples(NAME, st.just(b": "), VALUE, st.just(b"\r\n")).map(b"".join),
)
HEADS = st.tuples(
    *(METHOD, st.just(b" "), TARGET, st.just(b" "), VERSION, st.just(b"\r\nHost: x\r\n")),
    st.lists(LINE, max_size=4).map(b"".join),
    st.just(b"\r\n"),
).map(b"".join)
NEAR_HEADS = st.tuples(
    *(st.sampled_from([b"GET", b"POST", b"OPTIONS", b"PUT"]), st.just(b" /"), st.just(b" ")),
    st.just(b"HTTP/1.1\r\nHost: x\r\n"),
    st.lists(WHOLE_LINE, max_size=5).map(b"".join),
    st.just(b"\r\n"),
).map(b"".join)
SEEDS = [data for data in (*REFUSED, *TAKEN, *BODIES) if len(data) < 300]
BENT = st.tuples(
    st.sampled_from(SEEDS), st.integers(0, 300), st.integers(0, 3), st.binary(max_size=3)
).map(lambda bend: bend[0][: bend[1]] + bend[3] + bend[0][bend[1] + bend[2] :])


@settings(max_examples=1000)
@given(HEADS | NEAR_HEADS | BENT)
@example(b"GET http://x:/ HTTP/1.1\r\nHost:\r\n\r\n")
def test_one_answer_to_any_head(data: bytes) -> None:
    both(data)


@settings(max_examples=1000)
@given(HEADS | NEAR_HEADS | BENT)
def test_what_is_checked_is_parsed(data: bytes) -> None:
    """Neither parser refuses what the check lets pass, so the status never depends on it."""
    request_heads(data)


def test_heads_too_long_are_refused_before_they_end() -> None:
    for data, status in (
        (b"GET /" + b"a" * 20_000, 414),
        (b"A" * 20_000, 414),
        (b"GET / HTTP/1.1\r\nA: " + b"b" * 70_000, 431),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 140, 431),
        (b"GET / HTTP/1.1\nHost", 400),
    ):
        outcome = both(data)
        assert isinstance(outcome, Malformed)
        assert outcome.status == status
