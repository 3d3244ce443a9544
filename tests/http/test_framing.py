from __future__ import annotations

from typing import Any

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trickles_web.config import HttpConfig
from trickles_web.errors import FramingError
from trickles_web.http.framing import Framing, error_page

Headers = list[tuple[bytes, bytes]]


def framing(**changes: bool) -> Framing:
    options: dict[str, Any] = {"head_only": False, "old": False, "closes": False, **changes}
    return Framing(date=784_111_777, **options)


def read_by_h11(wire: bytes, method: str = "GET") -> tuple[h11.Response, bytes, bool]:
    """Response, body, and whether the connection can go on, as a parser not ours sees them."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
    client.send(h11.EndOfMessage())
    client.receive_data(wire)
    response = client.next_event()
    assert isinstance(response, h11.Response)
    body = b""
    closed = False
    while True:
        event = client.next_event()
        if event is h11.NEED_DATA and not closed:
            client.receive_data(b"")
            closed = True
        elif isinstance(event, h11.Data):
            body += event.data
        else:
            assert isinstance(event, h11.EndOfMessage), event
            return response, body, client.their_state is h11.DONE


@given(
    chunks=st.lists(st.binary(max_size=50), max_size=5),
    announced=st.booleans(),
    old=st.booleans(),
    closes=st.booleans(),
    head_only=st.booleans(),
)
def test_another_parser_reads_what_was_written(
    chunks: list[bytes], announced: bool, old: bool, closes: bool, head_only: bool
) -> None:
    f = framing(old=old, closes=closes, head_only=head_only)
    headers: Headers = [(b"X-Thing", b"v")]
    body = b"".join(chunks)
    if announced:
        headers.append((b"Content-Length", b"%d" % len(body)))
    wire = f.head(200, headers) + b"".join(f.body(chunk) for chunk in chunks) + f.end()
    response, got, goes_on = read_by_h11(wire, "HEAD" if head_only else "GET")
    assert got == (b"" if head_only else body)
    assert goes_on is not f.closes
    assert f.closes == (old or closes)
    names = [name for name, _ in response.headers.raw_items()]
    assert names[:3] == [b"date", b"server", b"X-Thing"]


def test_the_bytes_of_a_head() -> None:
    assert framing().head(404, [(b"content-length", b"0")]) == (
        b"HTTP/1.1 404 Not Found\r\n"
        b"date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
        b"server: trickles-web\r\n"
        b"content-length: 0\r\n\r\n"
    )
    own = framing().head(299, [(b"Date", b"d"), (b"SERVER", b"s"), (b"content-length", b"1")])
    assert own == b"HTTP/1.1 299 \r\nDate: d\r\nSERVER: s\r\ncontent-length: 1\r\n\r\n"


@pytest.mark.parametrize("status", [204, 304])
def test_statuses_without_body(status: int) -> None:
    f = framing()
    head = f.head(status, [])
    assert b"transfer-encoding" not in head
    assert (f.body(b""), f.end(), f.bodiless) == (b"", b"", True)
    assert f.body(b"x") == b""


BAD: list[Headers] = [
    [(b"a", b"b\r\nc: d")],
    [(b"a", b"b\n")],
    [(b"a", b"b\r")],
    [(b"a", b"b\0")],
    [(b"a b", b"c")],
    [(b"", b"c")],
    [(b"a:", b"c")],
    [(b"content-length", b"1"), (b"Content-Length", b"1")],
    [(b"content-length", b"1x")],
    [(b"content-length", b"-1")],
    [(b"content-length", b"1"), (b"transfer-encoding", b"chunked")],
    [(b"transfer-encoding", b"gzip")],
]


@pytest.mark.parametrize("headers", BAD, ids=range(len(BAD)))
def test_what_could_be_misread_is_an_error(headers: Headers) -> None:
    with pytest.raises(FramingError):
        framing().head(200, headers)


@pytest.mark.parametrize("status", [0, 100, 101, 199, 1000])
def test_only_final_statuses(status: int) -> None:
    with pytest.raises(FramingError):
        framing().head(status, [])


def test_body_against_content_length() -> None:
    f = framing()
    f.head(200, [(b"content-length", b"3")])
    f.body(b"ab")
    with pytest.raises(RuntimeError, match="Response content shorter than Content-Length"):
        f.end()
    with pytest.raises(RuntimeError, match="Response content longer than Content-Length"):
        f.body(b"cd")


def test_chunked_by_the_application() -> None:
    f = framing()
    head = f.head(200, [(b"transfer-encoding", b"chunked")])
    assert head.count(b"chunked") == 1
    assert f.body(b"abc") + f.body(b"") + f.end() == b"3\r\nabc\r\n0\r\n\r\n"


def test_connection_close() -> None:
    f = framing(closes=True)
    assert b"\r\nconnection: close\r\n" in f.head(200, [])
    f = framing()
    assert f.head(200, [(b"Connection", b"Close")]).lower().count(b"close") == 1
    assert f.closes
    f = framing(old=True)
    assert b"chunked" not in f.head(200, [])


def test_file_length() -> None:
    assert b"content-length: 12\r\n" in framing().head(200, [], 12)
    assert framing().head(200, [(b"content-length", b"12")], 12).count(b"content-length") == 1
    with pytest.raises(FramingError):
        framing().head(200, [(b"content-length", b"11")], 12)


def test_error_page() -> None:
    page = error_page(HttpConfig(), 413, head_only=False, date=784_111_777)
    response, body, goes_on = read_by_h11(page)
    assert (response.status_code, goes_on) == (413, False)
    assert body.startswith((b"Request Entity", b"Content Too"))
    assert error_page(HttpConfig(), 500, head_only=True, date=0, closes=False).endswith(b"\r\n\r\n")
