"""What requests may look like, and what becomes of them (RFC 9110, RFC 9112, the ASGI scope)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from loadtest.kind import flows
from tests.behaviours.apps import describe
from tests.behaviours.ways import Check, Outcome, Row, World
from tests.http.peer import ADDRESS, QUIET

# Requests


def ask(
    *lines: str,
    method: str = "GET",
    target: str = "/",
    version: str = "1.1",
    host: str | None = "test",
    body: bytes = b"",
) -> bytes:
    hosts = [] if host is None else [f"Host: {host}"]
    head = [f"{method} {target} HTTP/{version}", *hosts, *lines, "", ""]
    return "\r\n".join(head).encode("latin-1") + body


def post(data: bytes = b"abc", *lines: str, target: str = "/") -> bytes:
    length = f"Content-Length: {len(data)}"
    return ask(length, *lines, method="POST", target=target, body=data)


def chunked(*chunks: bytes, trailers: bytes = b"", extension: bytes = b"") -> bytes:
    parts = [b"%x%b\r\n%b\r\n" % (len(chunk), extension, chunk) for chunk in chunks]
    body = b"".join(parts) + b"0\r\n" + trailers + b"\r\n"
    return ask("Transfer-Encoding: chunked", method="POST", body=body)


# Checks

HTTP, WS = ("https", "wss") if flows().private else ("http", "ws")
"""What a scope says of how the request came."""


def scope(**expected: object) -> Check:
    """The last reply describes a request with these fields."""

    def check(outcome: Outcome) -> None:
        assert outcome.reply.status == 200
        said = json.loads(outcome.reply.body)
        assert {name: said[name] for name in expected} == expected

    return check


def has(name: str, value: str | None) -> Check:
    """The application was given this header once, or with None not at all."""

    def check(outcome: Outcome) -> None:
        headers = json.loads(outcome.reply.body)["headers"]
        assert [v for n, v in headers if n == name] == ([] if value is None else [value])

    return check


def closes(expected: bool) -> Check:
    """The last exchange of the flow, or one that others can follow."""

    def check(outcome: Outcome) -> None:
        assert outcome.reply.closed is expected
        assert outcome.reply.all(b"connection") == ([b"close"] if expected else [])

    return check


def replies(*methods_and_bodies: str) -> Check:
    """All replies of the flow, as "METHOD body"."""

    def check(outcome: Outcome) -> None:
        said = [json.loads(reply.body) for reply in outcome.replies]
        assert [f"{one['method']} {one['body']}" for one in said] == list(methods_and_bodies)

    return check


def error(status: int) -> Check:
    """A page of the server, the end of the flow, and the application was never called."""

    def check(outcome: Outcome) -> None:
        assert outcome.reply.status == status
        assert outcome.reply.closed
        assert outcome.reply.all(b"connection") == [b"close"]
        assert len(outcome.reply.body) == int(outcome.reply.all(b"content-length")[0])
        assert outcome.seen == []

    return check


def statuses(*expected: int) -> Check:
    """Of all replies of the flow."""

    def check(outcome: Outcome) -> None:
        assert [reply.status for reply in outcome.replies] == list(expected)

    return check


def once(outcome: Outcome) -> None:
    """Each request of an unsafe method was executed once, whatever was lost."""
    unsafe = [seen for seen in outcome.seen if not seen.startswith(("GET", "HEAD", "OPTIONS"))]
    assert len(unsafe) == len(set(unsafe)) > 0


# What clients do


async def pipelined(world: World) -> None:
    """All requests at once; what the server did not take is sent from where it wants more."""
    peer = world.peer()
    assert not isinstance(world.row.requests, bytes)
    rest = b"".join(world.row.requests)
    while rest:
        assert await world.exchange(peer, rest)
        start = peer.request_start
        assert start < peer.wanted <= start + len(rest)
        rest = rest[peer.wanted - start :]
        peer.stream = peer.stream[: peer.wanted]


def row(name: str, request: bytes | Sequence[bytes], *checks: Check, **config: object) -> Row:
    return Row(name, describe, request, checks, replace(QUIET, **config))  # type: ignore[arg-type]


def pipeline(name: str, requests: Sequence[bytes], *checks: Check) -> Row:
    return Row(name, describe, requests, checks, play=pipelined)


BLOCK = b"0123456789" * 100
LONG = BLOCK.decode() * 40

TAKEN = [
    row("one datagram", ask(), scope(method="GET", path="/", body=""), closes(False)),
    row("several exchanges", [ask(), post(b"a"), ask()], replies("GET ", "POST a", "GET "), once),
    row("a head of many datagrams", ask(f"X: {LONG}"), has("x", LONG)),
    row("127 header lines", ask(*[f"X{i}: {i}" for i in range(127)]), has("x126", "126")),
    row("content-length of 0", post(b""), scope(method="POST", body=""), once),
    row("a body of one datagram", post(b"a\0b\r\n"), scope(body="a\0b\r\n"), once),
    row("a body of many datagrams", post(LONG.encode()), scope(body=LONG), once),
    row("a GET with a body", ask("Content-Length: 2", body=b"ab"), scope(body="ab")),
    row("a chunked body", chunked(b"abc", b"\r\n0\r\n\r\n"), scope(body="abc\r\n0\r\n\r\n"), once),
    row("chunks of many datagrams", chunked(*[BLOCK] * 40), scope(body=LONG), once),
    row("no chunks but the last", chunked(), scope(body=""), once),
    row("extensions of chunks", chunked(b"ab", extension=b";a=b"), scope(body="ab"), once),
    row(
        "trailers are dropped",
        chunked(b"ab", trailers=b"X: y\r\n"),
        scope(body="ab"),
        has("x", None),
    ),
    pipeline("pipelined", [ask(), ask(method="OPTIONS")], replies("GET ", "OPTIONS ")),
    pipeline("pipelined after a body", [post(b"a"), ask()], replies("POST a", "GET "), once),
    pipeline(
        "pipelined after chunks",
        [chunked(b"a"), post(b"b", target="/b"), ask()],
        *(replies("POST a", "POST b", "GET "), once),
    ),
    pipeline(
        "pipelined, of many datagrams",
        [post(BLOCK * 3), post(BLOCK * 2, target="/b")],
        *(replies(f"POST {BLOCK.decode() * 3}", f"POST {BLOCK.decode() * 2}"), once),
    ),
    row("HTTP/1.0", ask(version="1.0"), scope(http_version="1.0"), closes(True)),
    row("HTTP/1.0 without a host", ask(version="1.0", host=None), has("host", None)),
    row("HTTP/1.0 keep-alive", ask("Connection: keep-alive", version="1.0"), closes(True)),
    row("connection: close", ask("Connection: close"), scope(method="GET"), closes(True)),
    row("close among options", ask("Connection: x, Close"), closes(True)),
    row("keep-alive", ask("Connection: keep-alive"), closes(False)),
    row(
        "absolute-form",
        ask(target="http://other:81/a?b"),
        *(scope(path="/a", query="b", raw_path="/a"), has("host", "other:81")),
    ),
    row("asterisk-form", ask(method="OPTIONS", target="*"), scope(path="*", method="OPTIONS")),
    row("asterisk in absolute-form", ask(method="OPTIONS", target="http://x"), scope(path="*")),
    row("an empty line first", b"\r\n" + ask(), scope(method="GET")),
    row("a bodiless upgrade is not one", ask("Connection: upgrade", "Upgrade: h2c"), closes(False)),
    row("100-continue", post(b"ab", "Expect: 100-continue"), scope(body="ab"), once),
    row("a method of its own", ask(method="PURGE"), scope(method="PURGE"), once),
    row("methods have cases", ask(method="get"), scope(method="get"), once),
]

SCOPES = [
    row("addresses", ask(), scope(client=list(ADDRESS), server=["192.0.2.1", 8000])),
    row("scheme", ask(), scope(scheme=HTTP)),
    row("a path is decoded", ask(target="/a%20b%C3%A4%2F+"), scope(path="/a bä/+")),
    row("a raw path is not", ask(target="/a%20b?c"), scope(raw_path="/a%20b")),
    row("a path that is no UTF-8", ask(target="/%ff"), scope(path="/\ufffd", raw_path="/%ff")),
    row("paths are not normalised", ask(target="//a/../b"), scope(path="//a/../b")),
    row("a query is raw", ask(target="/?a=%20&b=?+"), scope(path="/", query="a=%20&b=?+")),
    row("an empty query", ask(target="/a?"), scope(path="/a", query="")),
    row("root_path", ask(target="/a"), scope(root_path="/r", path="/r/a"), root_path="/r"),
    row("header names in lower case", ask("X-Y: Z "), has("x-y", "Z")),
    row("header values are bytes", ask("X: \xe4"), has("x", "\xe4")),
    row("a stranger's X-Forwarded-Proto", ask("X-Forwarded-Proto: https"), scope(scheme=HTTP)),
    row(
        "a proxy's X-Forwarded-Proto and -For",
        ask("X-Forwarded-Proto: https", "X-Forwarded-For: 198.51.100.1"),
        scope(scheme="https", client=["198.51.100.1", 0]),
        forwarded_allow_ips=ADDRESS[0],
    ),
]

REFUSED = [
    row("bare LF", b"GET / HTTP/1.1\nHost: x\n\n", error(400)),
    row("bare LF among lines", b"GET / HTTP/1.1\r\nHost: x\nA: b\r\n\r\n", error(400)),
    row("two empty lines first", b"\r\n\r\n" + ask(), error(400)),
    row("obs-fold", ask("A: b", " c"), error(400)),
    row("a blank before the colon", ask("A : b"), error(400)),
    row("NUL in a header", ask("A: b\0"), error(400)),
    row("no version", b"GET /\r\nHost: x\r\n\r\n", error(400)),
    row("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", error(400)),
    row(
        "content-length and chunks",
        chunked(b"a").replace(b"Host", b"Content-Length: 1\r\nHost"),
        error(400),
    ),
    row("repeated content-length", post(b"a", "Content-Length: 1"), error(400)),
    row("different content-lengths", post(b"a", "Content-Length: 2"), error(400)),
    row(
        "a list of content-lengths",
        ask("Content-Length: 1, 1", method="POST", body=b"a"),
        error(400),
    ),
    row("a negative content-length", ask("Content-Length: -1", method="POST"), error(400)),
    row(
        "a bad size of a chunk",
        chunked(b"a").replace(b"\r\n\r\n1\r\n", b"\r\n\r\n+1\r\n"),
        error(400),
    ),
    row("chunks of HTTP/1.0", chunked(b"a").replace(b"HTTP/1.1", b"HTTP/1.0"), error(400)),
    row("no host", ask(host=None), error(400)),
    row("two hosts", ask("Host: test"), error(400)),
    row("a bad host", ask(host="a b"), error(400)),
    row("a fragment", ask(target="/#a"), error(400)),
    row("asterisk-form of a GET", ask(target="*"), error(400)),
    row("too large a body", post(bytes(20_000)), error(413), max_body_bytes=10_000),
    row("too large, in chunks", chunked(*[BLOCK] * 20), error(413), max_body_bytes=10_000),
    row("too long a target", ask(target="/" + "a" * 20_000), error(414)),
    row(
        "too long a target for the limit",
        ask(target="/" + "a" * 99),
        error(414),
        max_target_bytes=99,
    ),
    row("an expectation", ask("Expect: miracles"), error(417)),
    row("https, which this is not", ask(target="https://x/"), error(421)),
    row("too long a head", ask("A: " + "b" * 70_000), error(431)),
    row("too many lines", ask(*["A: b"] * 128), error(431)),
    row("another coding", ask("Transfer-Encoding: gzip, chunked", method="POST"), error(501)),
    row("CONNECT", ask(method="CONNECT", target="x:80"), error(501)),
    row("too long a method", ask(method="M" * 33), error(501)),
    row("HTTP/1.2", ask(version="1.2"), error(505)),
    row("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", error(505)),
    row("a bad one after a good one", [post(b"a"), ask(host=None)], statuses(200, 400), once),
]

ROWS = [*TAKEN, *SCOPES, *REFUSED]
