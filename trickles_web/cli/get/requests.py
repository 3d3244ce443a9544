"""What is sent: method, headers and body, of what the command line says; and where redirects lead.

options, job -> build_request -> Request -> redirected -> Request -> ...
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import stat
import sys
from collections.abc import AsyncIterator
from typing import IO

import trickles_web
from trickles_web.cli.get.failures import Exit, Failure
from trickles_web.cli.get.options import STDIO, Asking, Job
from trickles_web.client.fetch import Head, Request
from trickles_web.client.url import SCHEMES, Url, followed, parse_url
from trickles_web.config import PRIVATE_SCHEME, SCHEME
from trickles_web.errors import UsageError

AGENT = f"trickles-get/{trickles_web.__version__}"
PIECE_BYTES = 64 * 1024
FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""Done twice they do what they do once (RFC 9110 §9.2.2)."""
REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PRIVATE = frozenset({b"authorization", b"cookie", b"host"})
"""Headers of the user's that are meant for the first server only."""
_OF_BODY = frozenset({b"content-length", b"content-type", b"transfer-encoding"})


class BytesBody:
    """A body in memory."""

    def __init__(self, data: bytes) -> None:
        self.length = len(data)
        self._data = data

    async def pieces(self) -> AsyncIterator[bytes]:
        for at in range(0, self.length, PIECE_BYTES):
            yield self._data[at : at + PIECE_BYTES]


class FileBody:
    """A file's bytes, or what comes through a pipe, which has no length and comes but once."""

    def __init__(self, path: str) -> None:
        """Raises Failure."""
        self._path = path
        self._used = False
        try:
            status = os.fstat(0) if path == STDIO else os.stat(path)
        except OSError as error:
            raise self._unreadable(error) from None
        if stat.S_ISDIR(status.st_mode):
            raise Failure(Exit.READ, f"cannot read {path}: it is a directory")
        whole = stat.S_ISREG(status.st_mode) and path != STDIO
        self.length = status.st_size if whole else None

    def _unreadable(self, error: OSError) -> Failure:
        name = "standard input" if self._path == STDIO else self._path
        return Failure(Exit.READ, f"cannot read {name}: {error.strerror}")

    async def pieces(self) -> AsyncIterator[bytes]:
        """Raises Failure: also for a file whose size has changed, and for a pipe's second time."""
        if self._used and self.length is None:
            raise Failure(Exit.READ, "what came from a pipe cannot be sent a second time")
        self._used = True
        left = self.length
        try:
            with self._open() as file:
                while left is None or left:
                    size = PIECE_BYTES if left is None else min(left, PIECE_BYTES)
                    # A pipe may stand still for minutes; the flow's timers must not.
                    data = file.read(size) if left else await asyncio.to_thread(file.read, size)
                    if not data:
                        break
                    left = None if left is None else left - len(data)
                    yield data
        except OSError as error:
            raise self._unreadable(error) from None
        if left:
            raise Failure(Exit.READ, f"{self._path} became shorter while it was sent")

    def _open(self) -> IO[bytes]:
        if self._path == STDIO:
            return os.fdopen(os.dup(0), "rb", buffering=0)
        return open(self._path, "rb", buffering=0)


def build_request(asking: Asking, job: Job) -> Request:
    """The request, -H applied as curl does: "Name: value" sets, "Name:" removes, "Name;" empties.

    Raises Failure for what is none of these, and for an upload that cannot be read.
    """
    body = _body(asking, job)
    headers = [("Host", job.url.authority), ("User-Agent", AGENT), ("Accept", "*/*")]
    if asking.json:
        headers[-1] = ("Accept", JSON)
    if asking.byte_range:
        headers.append(("Range", f"bytes={asking.byte_range}"))
    if asking.data is not None:
        headers.append(("Content-Type", JSON if asking.json else FORM))
    if body is not None:
        framing = ("Content-Length", str(body.length))
        headers.append(framing if body.length is not None else ("Transfer-Encoding", "chunked"))
    headers = _with_own(headers, asking.headers)
    encoded = [(name.encode("latin-1", "replace"), value.encode()) for name, value in headers]
    return Request(_method(asking, job), job.url.target, encoded, body)


def _with_own(headers: list[tuple[str, str]], own: tuple[str, ...]) -> list[tuple[str, str]]:
    replaced: set[str] = set()
    for text in own:
        name, colon, value = text.partition(":")
        if not colon and text.rstrip().endswith(";"):
            name, value = text.rstrip()[:-1], " "
        elif not colon:
            raise Failure(Exit.USAGE, f"bad header {text!r}: give 'Name: value'")
        key = name.strip().lower()
        if key not in replaced:
            replaced.add(key)
            headers = [header for header in headers if header[0].lower() != key]
        if value:
            headers.append((name.strip(), value.strip()))
    return headers


def _method(asking: Asking, job: Job) -> str:
    if asking.method:
        return asking.method
    if asking.head:
        return "HEAD"
    if job.upload:
        return "PUT"
    return "GET" if asking.data is None else "POST"


def _body(asking: Asking, job: Job) -> BytesBody | FileBody | None:
    if job.upload:
        return FileBody(job.upload)
    return None if asking.data is None else BytesBody(asking.data)


def read_data(text: str, *, binary: bool) -> bytes:
    """The argument of -d and its like: itself, or `@FILE`, of which -d drops line ends and NULs.

    Raises Failure.
    """
    if not text.startswith("@"):
        return text.encode("utf-8", "surrogateescape")
    path = text[1:]
    try:
        if path == STDIO:
            data = sys.stdin.buffer.read()
        else:
            with open(path, "rb") as file:
                data = file.read()
    except OSError as error:
        raise Failure(Exit.READ, f"cannot read {path}: {error.strerror}") from None
    return data if binary else data.translate(None, b"\r\n\0")


def redirected(request: Request, url: Url, head: Head) -> tuple[Request, Url] | None:
    """Where a response sends its client, and with what; None if nowhere.

    As browsers do: 303, and 301 and 302 after a POST, are fetched with GET. Another server does not
    get what the user has for this one. Raises Failure for a place that Trickles does not lead to.
    """
    location = head.get(b"location").decode("latin-1")
    if head.status not in REDIRECTS or not location:
        return None
    place = followed(location, str(url))
    if place.lower().partition("://")[0] not in SCHEMES:
        ours = f"{SCHEME}:// or {PRIVATE_SCHEME}://"
        raise Failure(Exit.PROTOCOL, f"redirected to {place!r}, which is not {ours}")
    try:
        target = parse_url(place)
    except UsageError as error:
        raise Failure(Exit.BAD_URL, f"redirected to a {error}") from None
    if target.pin is not None:  # no server is to say by which key another one is known
        raise Failure(Exit.BAD_URL, f"redirected to {place!r}, which names a server's key")
    headers, body, method = list(request.headers), request.body, request.method
    if method != "HEAD" and (head.status == 303 or (head.status < 303 and method == "POST")):
        method, body = "GET", None
        headers = [header for header in headers if header[0].lower() not in _OF_BODY]
    if target.authority != url.authority:
        headers = [header for header in headers if header[0].lower() not in _PRIVATE]
        headers.insert(0, (b"Host", target.authority.encode()))
    elif target.private:
        target = dataclasses.replace(target, pin=url.pin)
    return Request(method, target.target, headers, body), target


def resumed(request: Request, offset: int, etag: bytes) -> Request:
    """The same for the bytes from `offset` on, of this version if `etag` names one."""
    mine = {b"range", b"if-range"}
    headers = [header for header in request.headers if header[0].lower() not in mine]
    headers.append((b"Range", b"bytes=%d-" % offset))
    if etag:
        headers.append((b"If-Range", etag))
    return dataclasses.replace(request, headers=headers)
