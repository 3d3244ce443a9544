"""How an application's messages become a response, or an error that cannot be taken for one."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from tests.behaviours.apps import (
    Header,
    body,
    keeps_state,
    raises,
    returns,
    sends,
    sends_file,
    sends_no_file,
    start,
    streams,
    tries,
)
from tests.behaviours.rows_of_requests import ask, closes, post
from tests.behaviours.ways import Application, Check, Outcome, Row, World
from tests.http.peer import QUIET
from trickles_web.http.responses import KEPT_BEHIND, KEPT_WHOLE
from trickles_web.transport.wire import Code

HELLO = body(b"hello")
LENGTH_5: Header = (b"content-length", b"5")
CHUNKED = (b"transfer-encoding", b"chunked")
DATE = b"Tue, 14 Nov 2023 22:13:20 GMT"
FILE = bytes(range(256)) * 800
BUFFER = 100_000
PIECES = [bytes([i]) * 10_000 for i in range(200)]
"""2 MB, of which a server may hold 100 kB."""

GET, HEAD, OLD = ask(), ask(method="HEAD"), ask(version="1.0")

# Checks


def reply(status: int = 200, content: bytes = b"hello", **headers: list[bytes]) -> Check:
    """Status, body, and all values of these headers."""

    def check(outcome: Outcome) -> None:
        assert (outcome.reply.status, outcome.reply.body) == (status, content)
        for name, values in headers.items():
            assert outcome.reply.all(name.replace("_", "-").encode()) == values

    return check


def bare(status: int, **headers: list[bytes]) -> Check:
    """A head and not a byte more, with these headers."""

    def check(outcome: Outcome) -> None:
        reply(status, b"", **headers)(outcome)
        assert outcome.reply.raw == b""

    return check


def noted(*parts: str) -> Check:
    """Each call noted just these errors; a lost safe response is made by another call."""

    def check(outcome: Outcome) -> None:
        calls, rest = divmod(len(outcome.seen), len(parts))
        assert calls >= 1
        assert rest == 0
        for seen, part in zip(outcome.seen, parts * calls, strict=True):
            assert part in seen

    return check


def breaks_off(outcome: Outcome) -> None:
    """A part of the body, and an error that ends the flow."""
    assert outcome.replies == []
    assert outcome.code is Code.FAILED
    assert outcome.part.startswith(b"HTTP/1.1 200 OK\r\n")


def is_gone(outcome: Outcome) -> None:
    assert outcome.replies == []
    assert outcome.code is Code.GONE
    assert (
        outcome.part.partition(b"\r\n\r\n")[2]
        == FILE[: 40_000 - outcome.part.index(b"\r\n\r\n") - 4]
    )


def raw(expected: bytes) -> Check:
    def check(outcome: Outcome) -> None:
        assert outcome.reply.raw == expected

    return check


ERROR_PAGE = reply(500, b"Internal Server Error", content_length=[b"21"], date=[DATE])

# What clients do


async def reads_slowly(world: World) -> None:
    """The application is suspended when it is far enough ahead of its client."""
    peer = world.peer()
    ahead = used = 0

    async def between() -> None:
        nonlocal ahead, used
        for _ in range(5):
            await asyncio.sleep(0)
        sent = world.stage.seen[-1] if world.stage.seen else 0
        ahead = max(ahead, sent - len(peer.got))
        used = max(used, *(site.store.used for site in world.sites), 0)

    while not await world.exchange(peer, world.request, between):
        assert world.outcome.code is Code.GONE
        assert world.forgetful
        peer = world.peer(peer.incarnation + 1)
        world.outcome.code = None
        world.stage.seen.clear()
    assert BUFFER / 2 < ahead <= BUFFER + len(PIECES[0])
    assert used < ahead + KEPT_BEHIND + KEPT_WHOLE + 100_000 < sum(map(len, PIECES))


async def gets_the_file(world: World) -> None:
    world.stage.file.write_bytes(FILE)
    await world.exchange(world.peer(), world.request)


async def changes_the_file(world: World) -> None:
    """After 40,000 bytes of the response."""
    world.stage.file.write_bytes(FILE)
    peer = world.peer()
    peer.piece = lambda: 40_000 if not peer.got else 1000

    def change() -> None:
        if len(peer.got) == 40_000:
            world.stage.file.write_bytes(bytes(len(FILE) + 1))

    await world.exchange(peer, world.request, change)


def row(name: str, app: Application, request: bytes, *checks: Check, **config: object) -> Row:
    return Row(name, app, request, checks, replace(QUIET, **config))  # type: ignore[arg-type]


def of_a_file(name: str, request: bytes, *checks: Check) -> Row:
    return Row(name, sends_file, request, checks, play=gets_the_file)


FRAMED = [
    row(
        "content-length framing",
        sends(start(200, LENGTH_5), HELLO),
        *(GET, reply(content_length=[b"5"], transfer_encoding=[]), raw(b"hello"), closes(False)),
    ),
    row(
        "chunked framing",
        sends(start(), body(b"he", more=True), body(b"llo")),
        *(GET, reply(content_length=[], transfer_encoding=[b"chunked"]), closes(False)),
        raw(b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"),
    ),
    row(
        "the application's own chunked",
        sends(start(200, CHUNKED), HELLO),
        GET,
        reply(transfer_encoding=[b"chunked"]),
    ),
    row(
        "an empty chunk does not end it", sends(start(), body(b"", more=True), HELLO), GET, reply()
    ),
    row("an empty body", sends(start(), body(b"")), GET, reply(content=b""), raw(b"0\r\n\r\n")),
    row("HTTP/1.0 gets no chunks", sends(start(), HELLO), OLD, raw(b"hello"), closes(True)),
    row(
        "HEAD",
        sends(start(200, LENGTH_5), HELLO),
        HEAD,
        bare(200, content_length=[b"5"]),
        closes(False),
    ),
    row("HEAD of a stream", streams(PIECES[:3]), HEAD, bare(200, transfer_encoding=[b"chunked"])),
    row(
        "204", sends(start(204), body(b"")), GET, bare(204, content_length=[], transfer_encoding=[])
    ),
    row("204 to a POST", sends(start(204), body(b"")), post(), bare(204, transfer_encoding=[])),
    row("204 with a body", sends(start(204), HELLO), GET, bare(204, transfer_encoding=[])),
    row(
        "304",
        sends(start(304, (b"etag", b'"a"')), body(b"")),
        GET,
        bare(304, etag=[b'"a"'], transfer_encoding=[]),
    ),
    row(
        "304 with a length",
        sends(start(304, LENGTH_5), body(b"")),
        GET,
        bare(304, content_length=[b"5"]),
    ),
    row("a status without a name", sends(start(299), HELLO), GET, reply(299)),
    row(
        "the application closes",
        sends(start(200, (b"connection", b"close")), HELLO),
        GET,
        reply(),
        closes(True),
    ),
]

HEADERS = [
    row(
        "date and server", sends(start(), HELLO), GET, reply(date=[DATE], server=[b"trickles-web"])
    ),
    row(
        "the application's date and server",
        sends(start(200, (b"Date", b"then"), (b"SERVER", b"mine")), HELLO),
        *(GET, reply(date=[b"then"], server=[b"mine"])),
    ),
    row("no date", sends(start(), HELLO), GET, reply(date=[]), date_header=False),
    row("no server", sends(start(), HELLO), GET, reply(server=[]), server_header=False),
    row(
        "date and server of an error",
        sends(),
        GET,
        reply(500, b"Internal Server Error", date=[DATE], server=[b"trickles-web"]),
    ),
    row(
        "repeated headers",
        sends(start(200, (b"x", b"1"), (b"X", b"2")), HELLO),
        GET,
        reply(x=[b"1", b"2"]),
    ),
    *[
        row(
            f"{name} in a header value",
            sends(start(200, (b"x", b"a" + byte + b"b")), HELLO),
            GET,
            ERROR_PAGE,
        )
        for name, byte in {"CR": b"\r", "LF": b"\n", "NUL": b"\0", "CRLF": b"\r\nx: y"}.items()
    ],
    row("CRLF in a header name", sends(start(200, (b"x\r\ny", b"z")), HELLO), GET, ERROR_PAGE),
    row(
        "an invalid content-length",
        sends(start(200, (b"content-length", b"-1")), HELLO),
        GET,
        ERROR_PAGE,
    ),
    row("two content-lengths", sends(start(200, LENGTH_5, LENGTH_5), HELLO), GET, ERROR_PAGE),
    row("length and chunks", sends(start(200, LENGTH_5, CHUNKED), HELLO), GET, ERROR_PAGE),
    row("an informational status", sends(start(101), HELLO), GET, ERROR_PAGE),
]

WRONG = [
    row("raises before the head", raises(), GET, ERROR_PAGE, closes(False)),
    row("raises before the head of a POST", raises(), post(), ERROR_PAGE),
    row("raises after start", raises(start()), GET, ERROR_PAGE),
    row("raises, and the request was a HEAD", raises(), HEAD, bare(500, content_length=[b"21"])),
    row(
        "raises after a part of the body",
        raises(start(), body(bytes(5000), more=True)),
        *(GET, breaks_off),
        response_buffer_bytes=1000,
    ),
    row(
        "raises after a part of the body of a POST",
        raises(start(200, (b"content-length", b"9000")), body(bytes(5000), more=True)),
        *(post(), breaks_off),
        response_buffer_bytes=1000,
    ),
    row("raises after the response", raises(start(), HELLO), GET, reply()),
    row("no response", sends(), GET, ERROR_PAGE),
    row("no body", sends(start()), GET, ERROR_PAGE),
    row("returns something", returns, GET, reply()),
    row("too long a body", sends(start(200, LENGTH_5), body(b"hello!")), GET, ERROR_PAGE),
    row("too short a body", sends(start(200, LENGTH_5), body(b"hell")), GET, ERROR_PAGE),
    row(
        "too short a body, part of it was read",
        sends(start(200, (b"content-length", b"9000")), body(bytes(5000), more=True), body(b"")),
        *(GET, breaks_off),
        response_buffer_bytes=1000,
    ),
    row(
        "body before start",
        tries(HELLO, start(), HELLO),
        GET,
        reply(),
        noted("Expected ASGI message 'http.response.start'"),
    ),
    row(
        "start twice",
        tries(start(), start(500), HELLO),
        GET,
        reply(),
        noted("Expected ASGI message 'http.response.body'"),
    ),
    row(
        "messages after the last",
        tries(start(), HELLO, HELLO, start()),
        GET,
        reply(),
        noted("already completed", "already completed"),
    ),
    row(
        "an unknown message",
        tries(start(), {"type": "http.response.trailers"}, HELLO),
        GET,
        reply(),
        noted("'http.response.trailers'"),
    ),
]

LARGE = [
    Row("a stream", streams(PIECES[:20]), GET, reply(content=b"".join(PIECES[:20])), remade=False),
    row("a stream to a POST", streams(PIECES[:20]), post(), reply(content=b"".join(PIECES[:20]))),
    Row(
        "a large response waits for its client",
        *(streams(PIECES), GET, reply(content=b"".join(PIECES))),
        *(replace(QUIET, response_buffer_bytes=BUFFER), reads_slowly),
    ),
    row(
        "a large response at once",
        sends(start(200, (b"content-length", b"300000")), body(bytes(300_000))),
        *(GET, reply(content=bytes(300_000))),
    ),
    Row(
        "too many calls",
        *(sends(start(), HELLO), GET, reply(503, b"Service Unavailable")),
        replace(QUIET, max_running=0),
        ways=("one", "replicas"),
    ),
    row("lifespan state", keeps_state, GET, reply(content=b"open"), lifespan="on"),
]

FILES = [
    of_a_file("a file", GET, reply(content=FILE, content_length=[b"204800"], transfer_encoding=[])),
    of_a_file("a file to a POST", post(), reply(content=FILE)),
    of_a_file("a file to HTTP/1.0", OLD, reply(content=FILE), closes(True)),
    of_a_file("HEAD of a file", HEAD, bare(200, content_type=[b"application/x-test"])),
    row("no such file", sends_no_file, GET, ERROR_PAGE),
    Row("a file that changes", sends_file, GET, is_gone, play=changes_the_file),
]

ROWS = [*FRAMED, *HEADERS, *WRONG, *LARGE, *FILES]
