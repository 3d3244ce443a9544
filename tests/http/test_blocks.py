"""Header lines that are read once: the same again, and nobody's changes are anybody else's."""

from __future__ import annotations

import pytest

from trickles_web.config import HttpConfig
from trickles_web.http.blocks import LONGEST_KEPT, read_block
from trickles_web.http.heads import RequestError
from trickles_web.http.parsers import parser
from trickles_web.http.reader import read_whole
from trickles_web.http.request import Request

CONFIG = HttpConfig()


def read(head: bytes) -> Request:
    outcome = read_whole(CONFIG, head).outcome
    assert isinstance(outcome, Request)
    return outcome


def test_what_an_application_changes_is_its_own() -> None:
    first = read(b"GET /a HTTP/1.1\r\nHost: x\r\nA: b\r\n\r\n")
    first.headers.append((b"c", b"d"))
    second = read(b"HEAD /b HTTP/1.1\r\nHost: x\r\nA: b\r\n\r\n")
    assert (second.method, second.target) == ("HEAD", b"/b")
    assert second.headers == [(b"host", b"x"), (b"a", b"b")]
    assert second.size == first.size


def test_the_version_belongs_to_it() -> None:
    lines = b"A: b\r\n\r\n"
    assert not read_block(lines, True, parser("h11")).options[0]
    with pytest.raises(RequestError, match="no Host"):
        read_block(lines, False, parser("h11"))


def test_long_ones_are_not_kept() -> None:
    short = b"Host: x\r\n\r\n"
    long = b"Host: x\r\nA: " + b"b" * LONGEST_KEPT + b"\r\n\r\n"
    assert read_block(short, False, parser("h11")) is read_block(short, False, parser("h11"))
    assert read_block(long, False, parser("h11")) is not read_block(long, False, parser("h11"))
