"""Requests drawn from a seeded generator, as bytes; each as (method, bytes)."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable

from itsdangerous import TimestampSigner

from tests.differential.application import EVERY_METHOD, SECRET

Asked = tuple[str, bytes]
Draw = Callable[[random.Random], Asked]

CLOSE = b"Connection: close"

PAGES = (
    *("/status/200", "/status/201", "/status/204", "/status/304", "/status/418", "/status/503"),
    *("/headers", "/closing", "/cookies", "/session", "/stream", "/empty", "/broken", "/sync"),
    *("/page/0", "/page/1", "/page/1400", "/page/40000", "/page/600000", "/slash"),
    *("/slash/", "/form", "/leave", "/nowhere", "/status/x"),
)
TARGETS = (
    *(
        b"/",
        b"//",
        b"//a//b",
        b"/a/../b",
        b"/a/./b",
        b"/..",
        b"/.",
        b"/a%20b",
        b"/%2e%2E/",
        b"/%2F",
    ),
    *(b"/%c3%a4", b"/%C3%A4", b"/%ff", b"/%", b"/%zz", b"/%00", b"/%0d%0a", b"/%25", b"/~a!$&'()*"),
    *(b"/;a=b", b"/:80", b"/@x", b"/a+b", b"/,", b"/%E2%82%AC/%F0%9F%98%80", b"/a:b@c", b"/a%2fb"),
    *(b"/http://x/", b"/[]", b"/{}", b"/|", b"/^", b"/`", b"/\\", b'/"', b"/<>"),
    b"/" + b"a" * 8000,
)
QUERIES = (
    *(b"", b"?", b"??", b"?a", b"?a=", b"?=b", b"?a=b&a=c", b"?a=b;c", b"?%20+%2B", b"?%c3%a4=%ff"),
    *(b"?a=/../", b"?http://x/?y", b"?[]=1&[]=2", b"?&&&", b"?a=%", b'?"<>\\^`{|}', b"?a?b=c?"),
    b"?" + b"q=1&" * 2000,
)
ODD_HEADERS = (
    *(b"X-Odd: a", b"x-odd: b", b"X-ODD:c", b"X-oDD: \t d", b"X-Empty:", b"X-Blank:   "),
    *(b"X-Latin: \xe4\xff\x80", b"X-Words: a  b\tc", b"X-Colons: a:b::c", b"!#$%&'*+-.^_`|~: v"),
    *(b"Cookie: a=1", b"Cookie: b=2; c=3", b'Cookie: odd; d="x y"; =e; f=', b"Accept: */*"),
    *(b"Accept-Encoding: gzip", b"User-Agent: x (y; z)", b"Under_Score: u", b"Referer: http://x/"),
    *(b"X-Forwarded-For: 192.0.2.7", b"X-Forwarded-Proto: https", b"Authorization: Basic YTpi"),
    *(b"Range: bytes=0-9", b"If-None-Match: *", b"Origin: null", b"Upgrade-Insecure-Requests: 1"),
    *(
        b"X-Long: " + b"l" * 20_000,
        b"Content-Type: text/plain",
        b"Host-Of-Mine: y",
        b"TE: trailers",
    ),
)
FILE_HEADERS = (
    *((), (b"Range: bytes=0-9",), (b"Range: bytes=-5",)),
    *((b"Range: bytes=999999-",), (b"Range: lines=1-2",), (b"Range: bytes=0-9", b"If-Range: x")),
    *((b"If-None-Match: *",), (b"If-Modified-Since: Fri, 01 Jan 2038 00:00:00 GMT",)),
)


def request(
    method: str,
    target: str | bytes,
    *lines: bytes,
    body: bytes | None = None,
    version: bytes = b"HTTP/1.1",
) -> Asked:
    target = target.encode() if isinstance(target, str) else target
    length = [] if body is None else [b"Content-Length: %d" % len(body)]
    first = b" ".join((method.encode(), target, version))
    head = b"\r\n".join((first, b"Host: x:80", *lines, *length, b"", b""))
    return method, head + (body or b"")


def chunked(draw: random.Random, body: bytes) -> bytes:
    """`body` in chunks of any size, some with an extension, and now and then a trailer."""
    parts, at = [], 0
    while at < len(body):
        part = body[at : at + draw.choice((1, 7, 100, 5000, 40_000))]
        at += len(part)
        size = draw.choice((b"%x", b"%X", b"0%x")) % len(part)
        parts.append(size + draw.choice((b"", b"", b";a=b")) + b"\r\n" + part + b"\r\n")
    return b"".join(parts) + b"0\r\n\r\n"


def multipart(draw: random.Random) -> tuple[bytes, bytes]:
    """A body and its content type."""
    boundary = b"----%016x" % draw.getrandbits(64)
    parts = []
    for number in range(draw.randrange(1, 5)):
        name = draw.choice(("a", "über", "x y")).encode()
        line = b'Content-Disposition: form-data; name="' + name + b'"'
        value = draw.randbytes(draw.choice((0, 10, 3000))).hex().encode()
        if draw.random() < 0.5:
            line += b'; filename="f%d.bin"\r\nContent-Type: application/octet-stream' % number
            value = draw.randbytes(draw.choice((0, 100, 100_000)))
        parts.append(b"--" + boundary + b"\r\n" + line + b"\r\n\r\n" + value + b"\r\n")
    return b"".join(
        parts
    ) + b"--" + boundary + b"--\r\n", b"multipart/form-data; boundary=" + boundary


def methods(draw: random.Random) -> Asked:
    method = draw.choice((*EVERY_METHOD, "PROPFIND", "MKCOL", "M-SEARCH"))
    body = draw.choice((None, b"", b"small")) if method not in ("GET", "HEAD", "TRACE") else None
    return request(method, draw.choice((*PAGES, "/")), body=body)


def targets(draw: random.Random) -> Asked:
    return request(draw.choice(("GET", "POST")), draw.choice(TARGETS) + draw.choice(QUERIES))


def headers(draw: random.Random) -> Asked:
    lines = draw.choices(ODD_HEADERS, k=draw.randrange(1, 12))
    return request("GET", draw.choice(("/", "/cookies", "/page/40", "/file")), *lines)


def bodies(draw: random.Random) -> Asked:
    body = draw.randbytes(draw.choice((0, 1, 10, 1300, 5000, 40_000, 100_000)))
    method = draw.choice(("POST", "PUT", "PATCH", "DELETE", "GET", "OPTIONS"))
    target = draw.choice(("/", "/messages", "/status/200", "/nowhere"))
    if draw.random() < 0.5:
        return request(method, target, body=body)
    name, head = request(method, target, b"Transfer-Encoding: chunked")
    return name, head + chunked(draw, body)


def forms(draw: random.Random) -> Asked:
    if draw.random() < 0.5:
        body, kind = multipart(draw)
    else:
        kind = b"application/x-www-form-urlencoded"
        body = draw.choice(
            (b"", b"a=b", b"a=1&a=2&b=%20+%c3%a4", b"=&&x", b"text=" + b"y" * 50_000)
        )
    if draw.random() < 0.3:
        name, head = request(
            "POST", "/form", b"Content-Type: " + kind, b"Transfer-Encoding: chunked"
        )
        return name, head + chunked(draw, body)
    return request("POST", "/form", b"Content-Type: " + kind, body=body)


def pages(draw: random.Random) -> Asked:
    encodings: tuple[tuple[bytes, ...], ...] = (
        (),
        (b"Accept-Encoding: gzip, br",),
        (b"Accept-Encoding: identity",),
    )
    target = draw.choice(("/file", "/gzip" + draw.choice(PAGES), draw.choice(PAGES)))
    return request(draw.choice(("GET", "GET", "HEAD", "POST")), target, *draw.choice(encodings))


def files(draw: random.Random) -> Asked:
    return request(draw.choice(("GET", "HEAD")), "/file", *draw.choice(FILE_HEADERS))


def sessions(draw: random.Random) -> Asked:
    held = {"count": draw.randrange(100), "name": "ü" * draw.randrange(200)}
    cookie = TimestampSigner(SECRET).sign(base64.b64encode(json.dumps(held).encode()))
    if draw.random() < 0.2:
        cookie = cookie[:-2] + b"xx"
    method, target = draw.choice((("GET", "/session"), ("POST", "/leave"), ("GET", "/cookies")))
    return request(method, target, b"Cookie: a=b; session=" + cookie)


EVERY: dict[str, Draw] = {
    draw.__name__: draw
    for draw in (methods, targets, headers, bodies, forms, pages, files, sessions)
}


def last(asked: Asked) -> Asked:
    """The same request, and the wish that the server close."""
    method, data = asked
    first, _, rest = data.partition(b"\r\n")
    return method, first + b"\r\n" + CLOSE + b"\r\n" + rest
