from __future__ import annotations

import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.http.said import said
from trickles_web.config import HttpConfig
from trickles_web.http.names import digest
from trickles_web.http.parsers import speaks_websocket
from trickles_web.http.reader import MOST_COMPARED, Reader, read_whole
from trickles_web.http.request import Malformed, Request
from trickles_web.state.backing import Backing, Disk

CONFIGS = {name: HttpConfig(http=name) for name in ("h11", "httptools")}
parsers = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


def small(config: HttpConfig) -> HttpConfig:
    return replace(config, max_head_bytes=2048, max_target_bytes=256, max_body_bytes=1000)


GET = b"GET /a%20b?c=d HTTP/1.1\r\nHost: x\r\nX-A: 1\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabcde"
CHUNKED = (
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\nabc\r\n10;x=y\r\n0123456789abcdef\r\n0\r\nTrailer: t\r\n\r\n"
)


def read(data: bytes, config: HttpConfig) -> Request | Malformed | None:
    reader = read_whole(config, data)
    if isinstance(reader.outcome, Request):
        reader.take(data, 0)
    return reader.outcome


def whole(data: bytes, config: HttpConfig) -> Request:
    request = read(data, config)
    assert isinstance(request, Request)
    return request


@pytest.mark.parametrize(
    ("data", "body"), [(GET, b""), (POST, b"abcde"), (CHUNKED, b"abc0123456789abcdef")]
)
@pytest.mark.parametrize("after", [b"", b"GET / HTTP/1.1\r\n", b"\r\n", b"\xff\0", GET, CHUNKED])
@parsers
def test_a_request_ends_where_it_ends(
    data: bytes, body: bytes, after: bytes, config: HttpConfig
) -> None:
    request = whole(data + after, config)
    assert request.length == len(data)
    assert request.body == body
    assert not request.closes


@pytest.mark.parametrize("data", [GET, POST, CHUNKED])
@parsers
@given(cuts=st.lists(st.integers(0, 200), max_size=8))
def test_any_split_reads_alike(data: bytes, config: HttpConfig, cuts: list[int]) -> None:
    disk = Disk(1 << 20)
    reader, held = Reader(config, disk), Backing(disk, 150)
    for stop in sorted(min(cut, len(data)) for cut in cuts):
        held.append(data[len(held) : stop])
        outcome = reader.read(held)
        assert outcome is None or len(held) == len(data)
    held.append(data[len(held) :])
    outcome, expected = reader.read(held), whole(data, config)
    assert isinstance(outcome, Request)
    assert reader.name == digest(data)
    reader.take(held, 0)
    assert said(outcome) == said(expected)
    assert outcome.body[:] == expected.body
    outcome.drop_body()
    held.close()
    reader.close()
    assert disk.used == 0


@parsers
def test_any_part_can_be_compared(config: HttpConfig) -> None:
    disk, body = Disk(1 << 30), bytes(i % 251 for i in range(3 * MOST_COMPARED))
    data = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    reader, held = Reader(config, disk), Backing(disk)
    held.append(data + b"more")
    while reader.read(held) is None:
        assert reader.behind
    for stop in (5, len(data) - 5, len(data), len(data) + 3):
        for name, right in ((digest((data + b"more")[:stop]), True), (b"x" * 8, False)):
            calls = 1
            while (agrees := reader.agrees(held, stop, name)) is None:
                calls += 1
            assert agrees is right
            assert calls <= stop // MOST_COMPARED + 1
    assert reader.agrees(held, len(data) + 5, b"x" * 8)
    held.close()


@pytest.mark.parametrize("data", [GET, POST, CHUNKED])
@parsers
def test_no_prefix_is_whole(data: bytes, config: HttpConfig) -> None:
    for stop in range(len(data)):
        assert read(data[:stop], config) is None


@parsers
def test_pipelined_requests_are_read_one_by_one(config: HttpConfig) -> None:
    stream = GET + CHUNKED + POST + GET
    left = stream
    for expected in (GET, CHUNKED, POST, GET):
        held = Backing(Disk(0))
        held.append(left)
        request = Reader(config).read(held)
        assert isinstance(request, Request)
        assert held[:] == left  # nothing is taken until `take`
        assert left[: request.length] == expected
        left = left[request.length :]
    assert left == b""


@parsers
def test_what_a_request_says(config: HttpConfig) -> None:
    request = whole(GET, config)
    assert (request.method, request.target, request.version) == ("GET", b"/a%20b?c=d", "1.1")
    assert request.headers == [(b"host", b"x"), (b"x-a", b"1")]
    assert request.safe
    assert not whole(POST, config).safe
    assert whole(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: foo, Close\r\n\r\n", config).closes
    assert whole(b"GET / HTTP/1.0\r\n\r\n", config).closes
    assert whole(b"\r\n" + GET, config).length == len(GET) + 2


def awaiting(*lines: bytes, version: bytes = b"1.1") -> bytes:
    return b"\r\n".join((b"POST / HTTP/" + version, b"Host: x", *lines, b"", b""))


@pytest.mark.parametrize(
    ("lines", "expects"),
    [
        ((b"Expect: 100-continue",), True),
        ((b"expect:100-Continue \t",), True),
        ((b"Expect: , 100-continue ,",), True),
        ((b"Expect: 100-continue", b"Expect: 100-continue"), True),
        ((b"Expect:",), False),
        ((), False),
    ],
)
@pytest.mark.parametrize(
    ("framing", "body"),
    [(b"Content-Length: 5", b"abcde"), (b"Transfer-Encoding: chunked", b"1\r\na\r\n0\r\n\r\n")],
)
@parsers
def test_a_client_waits_for_a_100_until_its_body_begins(
    lines: tuple[bytes, ...], expects: bool, framing: bytes, body: bytes, config: HttpConfig
) -> None:
    head = awaiting(*lines, framing)
    reader = Reader(config)
    for stop in range(len(head) + len(body) + 1):
        reader.read((head + body)[:stop])
        assert reader.expects_continue == (expects and stop == len(head))
    assert isinstance(reader.outcome, Request)


@parsers
def test_no_100_for_what_cannot_have_one(config: HttpConfig) -> None:
    expect = b"Expect: 100-continue"
    old = awaiting(expect, b"Content-Length: 5", version=b"1.0")
    for head in (old, awaiting(expect), awaiting(expect, b"Content-Length: 0")):
        reader = Reader(config)
        assert not isinstance(reader.read(head), Malformed)
        assert not reader.expects_continue
    for head, status in (
        (awaiting(expect, b"Content-Length: 99999999"), 413),
        (awaiting(expect, b"Host: y", b"Content-Length: 5"), 400),
        (awaiting(expect, b"Expect: 200-ok", b"Content-Length: 5"), 417),
    ):
        reader = Reader(config)
        outcome = reader.read(head)
        assert isinstance(outcome, Malformed)
        assert outcome.status == status
        assert not reader.expects_continue
    reader = Reader(config)
    reader.read(awaiting(expect, b"Transfer-Encoding: chunked") + b"zz\r\n")
    assert isinstance(reader.outcome, Malformed)
    assert not reader.expects_continue


@parsers
def test_a_chunked_request_shows_its_headers_as_they_came(config: HttpConfig) -> None:
    request = whole(CHUNKED.replace(b"Host: x", b"Host: x\r\nTrailer: Trailer"), config)
    assert request.headers == [
        (b"host", b"x"),
        (b"trailer", b"Trailer"),
        (b"transfer-encoding", b"chunked"),
    ]
    assert request.body == b"abc0123456789abcdef"


H = b"Host: x\r\n"
BAD = {
    b"GET / HTTP/1.1\nHost: x\n\n": 400,
    b"GET / HTTP/1.1\r\nHost: x\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: x\r\nA: b\0\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: x\r\nA : b\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\n" + H + H + b"\r\n": 400,
    b"GET / HTTP/1.0\r\n" + H + H + b"\r\n": 400,
    b"GET / HTTP/1.9\r\n" + H + b"\r\n": 505,
    b"GET / HTTP/2.0\r\n" + H + b"\r\n": 505,
    b"GET / http/1.1\r\n" + H + b"\r\n": 400,
    b"GET /\r\n\r\n": 400,
    b"G\xc3T / HTTP/1.1\r\n" + H + b"\r\n": 400,
    b"POST / HTTP/1.1\r\n" + H + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\n": 400,
    b"POST / HTTP/1.1\r\n" + H + b"Content-Length: 0, 0\r\n\r\n": 400,
    b"POST / HTTP/1.1\r\n" + H + b"Content-Length: +1\r\n\r\n": 400,
    b"POST / HTTP/1.1\r\n" + H + b"Content-Length: -1\r\n\r\n": 400,
    b"POST / HTTP/1.1\r\n" + H + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n": 400,
    b"POST / HTTP/1.1\r\n" + H + b"Content-Length: 99999999999\r\n\r\n": 413,
    b"POST / HTTP/1.1\r\n" + H + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n": 400,
    b"POST / HTTP/1.0\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n": 400,
    b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: gzip, chunked\r\n\r\n": 501,
    b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: gzip\r\n\r\n": 501,
    b"POST / HTTP/1.1\r\n"
    + H
    + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n": 400,
    CHUNKED.replace(b"\r\n3\r\n", b"\r\nzz\r\n"): 400,
    CHUNKED.replace(b"\r\n3\r\n", b"\r\n4\r\n"): 400,
    b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n" + H + b"\r\n": 414,
    b"GET /" + b"a" * 20_000: 414,
    b"GET / HTTP/1.1\r\n" + H + b"A: " + b"b" * 70_000 + b"\r\n\r\n": 431,
    b"GET / HTTP/1.1\r\n" + H + b"A: " + b"b" * 70_000: 431,
}


@pytest.mark.parametrize(("data", "status"), BAD.items(), ids=range(len(BAD)))
@parsers
def test_bad_requests(data: bytes, status: int, config: HttpConfig) -> None:
    outcome = read(data, config)
    assert isinstance(outcome, Malformed)
    assert outcome.status == status, outcome.reason


@parsers
def test_a_chunked_body_is_bounded_as_well(config: HttpConfig) -> None:
    config = small(config)
    head = CHUNKED[: CHUNKED.index(b"\r\n\r\n") + 4]
    outcome = read(head + b"40\r\n" + b"a" * 64 + b"\r\n" + b"20\r\n" + b"a" * 32 + b"\r\n", config)
    assert outcome is None
    outcome = read(head + (b"20\r\n" + b"a" * 32 + b"\r\n") * 32, config)
    assert isinstance(outcome, Malformed)
    assert outcome.status == 413
    outcome = read(head + b"1;" + b"e" * 80_000, config)
    assert isinstance(outcome, Malformed)
    assert outcome.status in (400, 413, 431)


@parsers
@given(
    data=st.binary(max_size=300)
    | st.text("GETPOS /HTTP.1\r\n:xContent-Length0chunked ", max_size=200).map(str.encode)
)
def test_any_bytes_are_read_without_an_exception(config: HttpConfig, data: bytes) -> None:
    config = small(config)
    for prefix in (b"", b"POST / HTTP/1.1\r\nHost: x\r\n", CHUNKED[:-20]):
        outcome = read(prefix + data, config)
        assert outcome is None or 0 < outcome.length <= len(prefix + data)


def test_an_upgrade_that_is_not_made(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """That wsproto is missing is said once."""
    monkeypatch.setitem(sys.modules, "wsproto", None)
    speaks_websocket.cache_clear()
    for ws, protocol in (("auto", b"websocket"), ("none", b"WebSocket"), ("auto", b"h2c")) * 2:
        head = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: %b\r\n\r\n"
        assert not whole(head % protocol, HttpConfig(ws=ws)).websocket
    speaks_websocket.cache_clear()
    plain = "Unsupported upgrade request."
    missing = (
        "Unsupported upgrade request: WebSockets need wsproto (pip install 'trickles-web[ws]')"
    )
    assert caplog.messages == [missing, plain, plain, plain, plain]
