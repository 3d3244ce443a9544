"""Whom a request to a proxy is for."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trickles_web.proxy.refusal import Refusal
from trickles_web.proxy.targets import Place, absolute, tunnel_place


@pytest.mark.parametrize(
    ("target", "place", "host", "asked"),
    [
        ("http://a/", Place("a", 80), "a", "/"),
        ("http://a", Place("a", 80), "a", "/"),
        ("HTTP://A.b:8000/x?y=1", Place("a.b", 8000), "A.b:8000", "/x?y=1"),
        ("http://a?x", Place("a", 80), "a", "/?x"),
        ("http://a:/", Place("a", 80), "a:", "/"),
        ("http://[::1]:8000/p", Place("::1", 8000), "[::1]:8000", "/p"),
        ("http://a//b/../c?http://d", Place("a", 80), "a", "//b/../c?http://d"),
    ],
)
def test_absolute_form(target: str, place: Place, host: str, asked: str) -> None:
    assert absolute(b"GET", target.encode()) == (place, host.encode(), asked.encode())


def test_options_of_a_whole_server() -> None:
    assert absolute(b"OPTIONS", b"http://a:1")[2] == b"*"
    assert absolute(b"OPTIONS", b"http://a:1/")[2] == b"/"


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/", 400),
        ("*", 400),
        ("a:80", 400),
        ("http:///x", 400),
        ("http://:80/", 400),
        ("http://a:0/", 400),
        ("http://a:65536/", 400),
        ("http://a:999999/", 400),
        ("http://a:+1/", 400),
        ("http://user:password@a/", 400),
        ("http://a\\@b/", 400),
        ("http://[::1/", 400),
        ("http://::1/", 400),
        ("ftp://a/", 400),
        ("https://a/", 502),
    ],
)
def test_refused(target: str, status: int) -> None:
    with pytest.raises(Refusal) as caught:
        absolute(b"GET", target.encode())
    assert caught.value.status == status
    assert "\n" not in caught.value.text


def test_authority_form() -> None:
    assert tunnel_place(b"A.b:443") == Place("a.b", 443)
    assert tunnel_place(b"[::1]:8000") == Place("::1", 8000)
    for bad in (b"a", b"a:", b":1", b"a:0", b"http://a:1", b"u@a:1", b"a:1/", b"a b:1", b""):
        with pytest.raises(Refusal):
            tunnel_place(bad)


@given(st.binary(max_size=60), st.sampled_from(["http://", "", "http://a:8000", "http://["]))
def test_anything_is_read_or_refused(tail: bytes, start: str) -> None:
    target = start.encode() + tail
    with contextlib.suppress(Refusal):
        place, host, asked = absolute(b"GET", target)
        assert place.host and 0 < place.port < 65_536
        assert asked[:1] == b"/"
        assert host in target
    with contextlib.suppress(Refusal):
        assert tunnel_place(target).host
