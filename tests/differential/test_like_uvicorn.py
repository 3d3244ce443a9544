"""The same application behind uvicorn and behind the product's gateway: the same answers."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.differential.answers import Answer, answers, listens, talk, talk_in_turn
from tests.differential.asking import EVERY, Asked, last
from tests.differential.servers import ORDER, uvicorn
from tests.net.processes import serving

pytestmark = [pytest.mark.live, pytest.mark.xdist_group("differential")]

APPLICATION = "tests.differential.application:app"
REQUESTS_OF_A_KIND = 30
CONVERSATIONS = 8
REQUESTS_OF_A_CONVERSATION = 6


class Difference(NamedTuple):
    """A request whose answers differ on purpose: what only the one has, and only the other."""

    reason: str
    asked: bytes
    uvicorn: bytes
    trickles: bytes


def head(first: bytes, *lines: bytes, host: bytes = b"Host: x") -> bytes:
    return b"\r\n".join([first + b" HTTP/1.1", host, b"Connection: close", *lines, b"", b""])


OK = b"HTTP/1.1 200 "
BAD = b"HTTP/1.1 400 "
DIFFERENCES = (
    # What is refused, for two readers may understand it differently, or for its size.
    Difference(
        "RFC 9110 §7.4: nothing proves that the server may speak for an https origin",
        head(b"GET https://x/"),
        OK,
        b"HTTP/1.1 421 ",
    ),
    Difference("RFC 9110 §9.3.6: no tunnel", head(b"CONNECT x:80"), BAD, b"HTTP/1.1 501 "),
    Difference(
        "RFC 9112 §3.2: a Host is needed",
        b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
        OK,
        BAD,
    ),
    Difference("RFC 9112 §3.2: and only one", head(b"GET /", b"Host: y"), OK, BAD),
    Difference("no user information in it", head(b"GET /", host=b"Host: user@x"), OK, BAD),
    Difference("RFC 9112 §3: single spaces", head(b"GET / "), OK, BAD),
    Difference("RFC 9112 §3.2: no fragments", head(b"GET /a#b"), OK, BAD),
    Difference("a limit of 16 KiB", head(b"GET /" + b"a" * 20_000), OK, b"HTTP/1.1 414 "),
    Difference("a limit of 128 lines", head(b"GET /", *[b"A: b"] * 200), OK, b"HTTP/1.1 431 "),
    Difference("RFC 9110 §10.1.1", head(b"GET /", b"Expect: x"), OK, b"HTTP/1.1 417 "),
    Difference(
        "RFC 9110 §15.6.6: only 1.0 and 1.1 are known",
        b"GET / HTTP/2.0\r\nHost: x\r\nConnection: close\r\n\r\n",
        OK,
        b"HTTP/1.1 505 ",
    ),
    # What is understood as RFC 9110 and 9112 say.
    Difference(
        "methods are any tokens: the application decides",
        head(b"get /"),
        BAD,
        b"HTTP/1.1 405 ",
    ),
    Difference(
        "RFC 9112 §3.2.2: the target's authority in place of Host",
        head(b"GET http://y/"),
        b'["host","x"]',
        b'["host","y"]',
    ),
    Difference(
        "RFC 9112 §5.1: no blanks at the ends of a value",
        head(b"GET /", b"A: b "),
        b'["a","b "]',
        b'["a","b"]',
    ),
    # What is written otherwise.
    Difference(
        "an error page in the words of the status", head(b"G@T /"), b"Invalid", b"\r\n\r\nBad"
    ),
    Difference(
        "an application's headers stay as they are",
        head(b"GET /headers"),
        b"\r\nx-latin:",
        b"\r\nX-Latin:",
    ),
    Difference(
        "RFC 9110 §9.3.2: the header lines that GET would get; uvicorn with h11 does so too",
        head(b"HEAD /stream"),
        b"",
        b"transfer-encoding: chunked",
    ),
    Difference(
        "RFC 9112 §6.1: HTTP/1.0 knows no chunks",
        b"GET /stream HTTP/1.0\r\n\r\n",
        b"transfer-encoding: chunked",
        b"\r\n\r\n0\n1\n2\n",
    ),
    Difference(
        "RFC 9110 §10.1.1: no 100 when the body is here already",
        head(b"POST /", b"Expect: 100-continue", b"Content-Length: 1") + b"a",
        b"HTTP/1.1 100 ",
        b"",
    ),
    Difference(
        "a file goes out as one (pathsend), and Starlette compresses only what passes through it",
        head(b"GET /gzip/file", b"Accept-Encoding: gzip"),
        b"content-encoding: gzip",
        b'\r\n\r\n"""A Starlette application',
    ),
)
"""Known and intended. uvicorn is one with httptools; with h11 it differs from itself."""


class Ports(NamedTuple):
    uvicorn: int
    trickles: int


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ports]:
    folder = tmp_path_factory.mktemp("servers")
    arguments = (APPLICATION, "--port", "0", "--gateway", "127.0.0.1:0", "--workers", "2")
    environment = ORDER | {"XDG_CACHE_HOME": str(folder)}
    with (
        uvicorn(folder, APPLICATION, "httptools") as theirs,
        serving(folder, *arguments, environment=environment) as server,
    ):
        server.port()
        ours = int(server.says(r"and http://127\.0\.0\.1:(\d+) \(Press")[1])
        server.until(lambda: listens(ours))  # the gateway may say so a little before
        yield Ports(theirs, ours)
        assert server.end() == 0
        assert "Warning" not in server.stderr


def differences(ports: Ports, asked: list[Asked], *, at_once: bool = False) -> list[str]:
    """What both answer to the requests of one connection, where it is not the same."""
    *before, end = asked
    requests = [*before, last(end)]
    names = [method for method, _ in requests]
    data = b"".join(data for _, data in requests)
    theirs, ours = (
        answers(talk(port, data) if at_once else talk_in_turn(port, requests), *names)
        for port in ports
    )
    if theirs == ours and len(ours) == len(asked):
        return []
    return [f"{data[:600]!r}\n  uvicorn:  {shown(theirs)}\n  trickles: {shown(ours)}"]


def shown(found: list[Answer]) -> str:
    return "; ".join(
        f"{a.status} {a.headers} {len(a.body)} bytes {a.body[:600]!r} complete={a.complete}"
        for a in found
    )


@pytest.mark.parametrize("kind", EVERY)
def test_one_request_on_a_connection(ports: Ports, kind: str) -> None:
    draw = random.Random(kind)
    found: list[str] = []
    for _ in range(REQUESTS_OF_A_KIND):
        found += differences(ports, [EVERY[kind](draw)])
    assert not found, f"{len(found)} differ:\n" + "\n".join(found)


def conversation(draw: random.Random) -> list[Asked]:
    """Requests of every kind, for one connection; none whose answer closes it."""
    kinds = draw.choices(list(EVERY.values()), k=REQUESTS_OF_A_CONVERSATION * 2)
    drawn = [asked for kind in kinds if b"/closing" not in (asked := kind(draw))[1]]
    return drawn[:REQUESTS_OF_A_CONVERSATION]


@pytest.mark.parametrize("at_once", [False, True], ids=["kept-alive", "pipelined"])
def test_many_requests_on_a_connection(ports: Ports, at_once: bool) -> None:
    draw = random.Random(f"at once: {at_once}")
    found: list[str] = []
    for _ in range(CONVERSATIONS):
        asked = conversation(draw)
        found += differences(ports, asked, at_once=at_once)
    assert not found, f"{len(found)} differ:\n" + "\n".join(found)


def test_a_stream_that_breaks_is_incomplete(ports: Ports) -> None:
    for port in ports:
        (answer,) = answers(talk(port, head(b"GET /breaks")), "GET")
        assert (answer.status, answer.complete) == (200, False)
        assert answer.body == b"begun" * 10


@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda difference: difference.reason)
def test_known_differences(ports: Ports, difference: Difference) -> None:
    theirs, ours = (talk(port, difference.asked) for port in ports)
    assert difference.uvicorn in theirs
    assert difference.trickles in ours
    assert not difference.uvicorn or difference.uvicorn not in ours
    assert not difference.trickles or difference.trickles not in theirs
