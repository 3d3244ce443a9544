"""An application that serves the files below a directory, and keeps nothing that a client needs.

    path -> redirect, or a file -> best coding -> preconditions -> range -> head and pathsend

Bodies are files or parts of files, so the server seals path, version and offset, and any replica
with the same tree goes on. Only several ranges at once go through memory; their bytes are the same
whenever they are made again.

For `trickles-serve` only: parts of files are an extension of ours to http.response.pathsend.
"""

from __future__ import annotations

import contextlib
import errno
import mimetypes
import os
import stat
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import quote

from trickles_web.http.byteranges import boundary_of, content_range, multipart, parse_ranges
from trickles_web.http.conditions import Validators, allows_range, outcome
from trickles_web.http.digests import Digests, open_regular, version_of
from trickles_web.http.files import MOST_TRIES, validator
from trickles_web.http.negotiation import IDENTITY, choose
from trickles_web.http.tree import Tree, segments_of, status_of

if TYPE_CHECKING:
    from trickles_web.http.scope import Message, Receive, Scope, Send

MOST_HASHED = 64 << 20
"""Bytes, 0.1 s. A larger file's tag is of size and mtime, as what names its version is: a process
that is killed often would else never answer. Where the content names the version, no limit."""

SIBLINGS = {"br": b".br", "gzip": b".gz"}
"""Suffixes of files that hold the same in a content coding, the best first."""

_COMPRESSED = {
    "gzip": "application/gzip",
    "bzip2": "application/x-bzip2",
    "xz": "application/x-xz",
}
"""Types of files that are compressed themselves: a client is to save them as they are."""

Headers = list[tuple[bytes, bytes]]


@dataclass(slots=True)
class Answer:
    """What to send: `body`, or else `part` of the file at `path` (None: all of it)."""

    status: int
    headers: Headers
    body: bytes = b""
    path: bytes = b""
    part: range | None = None


@dataclass(slots=True)
class Representation:
    """An open file that is about to be served."""

    fd: int
    path: bytes
    status: os.stat_result
    content_type: bytes
    coding: str = IDENTITY
    varies: bool = False
    """Are there others, for other values of Accept-Encoding?"""
    validators: Validators = field(default_factory=lambda: Validators("", 0))

    @property
    def size(self) -> int:
        return self.status.st_size

    def identify(self, name: bytes) -> None:
        """Make the validators: `name` is 16 bytes of the content, or 8 of size and mtime."""
        suffix = "" if self.coding == IDENTITY else f"-{self.coding}"
        # No date in the future (RFC 9110 §8.8.2.1).
        modified = max(0, min(self.status.st_mtime_ns // 10**9, int(time.time())))
        self.validators = Validators(f'"{name.hex()}{suffix}"', modified)

    def read(self, parts: Iterable[range]) -> list[tuple[range, bytes]]:
        """These parts. Raises OSError, also if the file was changed."""
        pieces = [(part, os.pread(self.fd, len(part), part.start)) for part in parts]
        changed = version_of(os.fstat(self.fd)) != version_of(self.status)
        if changed or any(len(part) != len(piece) for part, piece in pieces):
            raise OSError(errno.EAGAIN, "the file changes while it is read", self.path)
        return pieces


class StaticFiles:
    """The ASGI application."""

    def __init__(self, root: str, *, by_content: bool = False) -> None:
        """root: an existing directory. by_content: entity tags are of the content at any size."""
        self._tree = Tree(root)
        self._by_content = by_content
        self._digests = Digests()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            for phase in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{phase}.complete"})
            return
        answer = await self._answer(scope)
        await send(
            {
                "type": "http.response.start",
                "status": answer.status,
                "headers": answer.headers,
            }
        )
        message: Message = {"type": "http.response.body", "body": answer.body}
        if answer.path:
            message = {"type": "http.response.pathsend", "path": os.fsdecode(answer.path)}
            if answer.part is not None:
                message["trickles.offset"] = answer.part.start
                message["trickles.length"] = len(answer.part)
        await send(message)

    async def _answer(self, scope: Scope) -> Answer:
        if scope["method"] not in ("GET", "HEAD"):
            return _page(405, (b"allow", b"GET, HEAD"))
        fields = _combined(scope["headers"])
        segments = segments_of(scope["raw_path"], scope["root_path"])
        status = 404
        if segments is not None:
            try:
                return await self._find(scope, segments, fields)
            except OSError as error:
                status = status_of(error)
        if status == 404:
            with contextlib.suppress(FileNotFoundError, IsADirectoryError, PermissionError):
                return await self._page_of_404(fields)
        return _page(status)

    async def _find(self, scope: Scope, segments: list[bytes], fields: Mapping[str, str]) -> Answer:
        """What is there. Raises OSError."""
        *names, last = segments
        try:
            found = await self._open([*names, last or b"index.html"], fields)
        except IsADirectoryError:
            _, index = self._tree.find([*segments, b"index.html"])
            if last == b"" or not stat.S_ISREG(index.st_mode):
                raise
            return _redirect(scope, segments)
        try:
            return _respond(found, fields, scope["method"])
        finally:
            os.close(found.fd)

    async def _page_of_404(self, fields: Mapping[str, str]) -> Answer:
        """404.html in the root. Raises OSError."""
        page = await self._open([b"404.html"], fields)
        os.close(page.fd)
        return Answer(404, _description(page, page.size), path=page.path)

    async def _open(self, segments: list[bytes], fields: Mapping[str, str]) -> Representation:
        """The representation that the client prefers, with its validators. Raises OSError."""
        for tries_left in reversed(range(MOST_TRIES)):
            found = self._select(segments, fields.get("accept-encoding"))
            try:
                name = self._name(found, tries_left)
            except BaseException:
                os.close(found.fd)
                raise
            if name is not None:
                found.identify(name)
                return found
            os.close(found.fd)
            await self._digests.make(found.path)
        raise AssertionError("the last try gives a name")

    def _name(self, found: Representation, tries_left: int) -> bytes | None:
        """See `Representation.identify`; None if the content has to be hashed in a thread."""
        if found.size <= MOST_HASHED or self._by_content:
            name = self._digests.at_once(found.fd, found.status)
            if name is not None or tries_left:
                return name
        return validator(found.status)

    def _select(self, segments: list[bytes], accepted: str | None) -> Representation:
        """The file, or the one beside it in a better coding, opened. Raises OSError."""
        *names, last = segments
        path, status = self._tree.find(segments)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, "a directory", path)
        there: dict[str, bytes] = {}
        for coding, suffix in SIBLINGS.items():
            with contextlib.suppress(OSError):
                sibling, status = self._tree.find([*names, last + suffix])
                if stat.S_ISREG(status.st_mode) and os.access(sibling, os.R_OK, effective_ids=True):
                    there[coding] = sibling
        coding = choose(accepted, list(there))
        path = there.get(coding, path)
        fd = open_regular(path)
        content_type = _content_type(os.fsdecode(last))
        return Representation(fd, path, os.fstat(fd), content_type, coding, bool(there))


def _respond(found: Representation, fields: Mapping[str, str], method: str) -> Answer:
    """The answer to a GET or HEAD for this representation. Raises OSError."""
    status = outcome(fields, found.validators)
    if status == 304:
        return Answer(304, [(b"etag", found.validators.etag.encode()), *_variance(found)])
    if status == 412:
        return _page(412)
    parts = None
    # A Range field means something with GET only (RFC 9110 §14.2).
    if (
        method == "GET"
        and "range" in fields
        and allows_range(fields, found.validators, int(time.time()))
    ):
        parts = parse_ranges(fields["range"], found.size)
    # A multipart body of a coded file: clients differ on what it is that is coded.
    if parts is None or (len(parts) > 1 and found.coding != IDENTITY):
        return Answer(200, [*_description(found, found.size), *_validation(found)], path=found.path)
    if not parts:
        return _page(416, (b"content-range", b"bytes */%d" % found.size))
    return _partial(found, parts)


def _partial(found: Representation, parts: list[range]) -> Answer:
    """A 206 with one part of the file, or with several in a multipart body. Raises OSError."""
    if len(parts) == 1:
        place = (b"content-range", content_range(parts[0], found.size))
        headers = [*_description(found, len(parts[0])), place, *_validation(found)]
        return Answer(206, headers, path=found.path, part=parts[0])
    boundary = boundary_of(found.validators.etag.encode(), parts)
    body = multipart(found.read(parts), found.size, found.content_type, boundary)
    content_type = b"multipart/byteranges; boundary=" + boundary
    return Answer(206, [*_description(found, len(body), content_type), *_validation(found)], body)


def _description(found: Representation, length: int, content_type: bytes = b"") -> Headers:
    """Of a body of `length` bytes."""
    headers = [
        (b"content-type", content_type or found.content_type),
        (b"content-length", b"%d" % length),
    ]
    if found.coding != IDENTITY:
        headers.append((b"content-encoding", found.coding.encode()))
    return headers + _variance(found)


def _variance(found: Representation) -> Headers:
    return [(b"vary", b"accept-encoding")] if found.varies else []


def _validation(found: Representation) -> Headers:
    modified = formatdate(found.validators.modified, usegmt=True)
    return [
        (b"accept-ranges", b"bytes"),
        (b"last-modified", modified.encode()),
        (b"etag", found.validators.etag.encode()),
    ]


def _page(status: int, *headers: tuple[bytes, bytes]) -> Answer:
    """A line of text that says what the status means."""
    body = HTTPStatus(status).phrase.encode()
    described: Headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", b"%d" % len(body)),
    ]
    return Answer(status, [*described, *headers], body)


def _redirect(scope: Scope, names: list[bytes]) -> Answer:
    """To the directory of these names, with a slash at the end, so that relative links work."""
    # Built of names: a path that begins with two slashes would lead to another host.
    location = "/".join((quote(scope["root_path"].rstrip("/")), *map(quote, names), ""))
    query = scope["query_string"]
    headers = [
        (b"location", location.encode() + (b"?" + query if query else b"")),
        (b"content-length", b"0"),
    ]
    return Answer(307, headers)


def _content_type(name: str) -> bytes:
    """By the suffix; text is taken for UTF-8, as Starlette does."""
    kind, coding = mimetypes.guess_type("./" + name)  # a path: the name is no URL with a scheme
    if coding is not None:
        kind = _COMPRESSED.get(coding)
    kind = kind or "application/octet-stream"
    if kind.startswith("text/"):
        kind += "; charset=utf-8"
    return kind.encode()


def _combined(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Fields by lower-case name; the lines of one joined by commas (RFC 9110 §5.3)."""
    fields: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return fields
