"""Files as responses: served from sealed progress alone, by any replica with the same tree.

What names a file's version, its validator, is sealed too. It is made of size and mtime, or of the
content, for replicas whose files have other mtimes.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from trickles_web.errors import ResponseGone
from trickles_web.http.buffers import Buffers
from trickles_web.http.digests import MOST_AT_ONCE, Digests, Version, open_regular, version_of
from trickles_web.http.names import digest, edition_of
from trickles_web.http.progress import Body, Phase, Progress, encode
from trickles_web.state.store import Part, Published
from trickles_web.transport.note import Note

MOST_TRIES = 3
"""A file that changes faster than it is hashed cannot be served by content."""

MOST_WAITING = 10_000
"""Flows told when one file's digest is made; others ask again."""

_IDENTITY = struct.Struct(">QQ")


def validator(status: os.stat_result) -> bytes:
    """8 bytes that change when the file does: of its size and modification time."""
    return digest(_IDENTITY.pack(status.st_size, status.st_mtime_ns & (1 << 64) - 1))


def _read_into(data: memoryview, fd: int, offset: int) -> bool:
    """Fill `data` with what the file has from `offset` on; False if that is less; or OSError."""
    done = 0
    while done < len(data):
        count = os.preadv(fd, [data[done:]], offset + done)
        if not count:
            return False
        done += count
    return True


@dataclass(slots=True)
class _Held:
    fd: int
    expected: bytes
    """The validator that clients ask for."""
    version: Version
    """With this status it has that validator."""
    used: int
    """Wall-clock ms."""


class Files:
    """Open files by path, a bounded few, each checked against its validator at every use.

    A file replaced by another keeps its bytes while it is open here, so a download in progress ends
    well; one changed in place is noticed.
    """

    def __init__(self, identity: str = "stat", capacity: int = 64, idle_ms: int = 5_000) -> None:
        """identity: what validators are made of, `stat` or `content`."""
        self.capacity = capacity
        self.idle_ms = idle_ms
        self._by_content = identity == "content"
        self._digests = Digests()
        self._buffers = Buffers()
        self._open: OrderedDict[bytes, _Held] = OrderedDict()
        self._waiting: dict[bytes, dict[int, None]] = {}

    def __len__(self) -> int:
        return len(self._open)

    def look(self, path: bytes) -> tuple[int, bytes]:
        """Size and validator of the regular file at `path` now. Raises OSError.

        By content, it must be known (see `examined`).
        """
        if not self._by_content:
            status = os.stat(path)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(f"not a regular file: {os.fsdecode(path)}")
            return status.st_size, validator(status)
        fd = open_regular(path)
        try:
            status = os.fstat(fd)
            return status.st_size, self._validator(fd, status)
        finally:
            os.close(fd)

    def is_known(self, path: bytes, expected: bytes = b"") -> bool:
        """Can `look` and `read` tell at once which version is there?"""
        if not self._by_content:
            return True
        held = self._open.get(path)
        try:
            if held is not None and held.expected == expected:
                status = os.fstat(held.fd)
                if version_of(status) == held.version:
                    return True
            status = os.stat(path)
        except OSError:
            return True  # reading it says why
        return status.st_size <= MOST_AT_ONCE or self._digests.known(status) is not None

    async def examined(self, path: bytes, expected: bytes = b"") -> None:
        """Return when it is known, or changes too fast for that."""
        for _ in range(MOST_TRIES):
            if self.is_known(path, expected):
                return
            await self._digests.make(path)

    def examine(self, path: bytes, waiter: int, ready: Callable[[int], None]) -> None:
        """Have it known, and call `ready(waiter)` then."""
        if path not in self._waiting:
            self._waiting[path] = {}
            making = self._digests.begin(path)
            making.add_done_callback(lambda made: self._examined(path, made.cancelled(), ready))
        waiting = self._waiting[path]
        if len(waiting) < MOST_WAITING:
            waiting[waiter] = None

    def _examined(self, path: bytes, cancelled: bool, ready: Callable[[int], None]) -> None:
        for waiter in self._waiting.pop(path):
            if not cancelled:
                ready(waiter)

    def read(self, path: bytes, expected: bytes, offset: int, length: int, now: int) -> memoryview:
        """`length` bytes of the file that has this validator. Raises ResponseGone.

        Not for keeping: while it lives, its memory cannot be used for the next one.
        """
        try:
            for _ in range(2):  # by content, a file that was merely touched is the same
                held = self._hold(path, expected, now)
                data = self._buffers.lend(length)
                whole = _read_into(data, held.fd, offset)
                # Checked after reading: what was read before a change is then not served either.
                if whole and version_of(os.fstat(held.fd)) == held.version:
                    return data
                self._forget(path)
        except OSError as error:
            self._forget(path)
            raise ResponseGone(f"file unreadable: {error.strerror}") from None
        raise ResponseGone("file changed")

    def _hold(self, path: bytes, expected: bytes, now: int) -> _Held:
        held = self._open.get(path)
        if held is not None and held.expected == expected:
            self._open.move_to_end(path)
            held.used = max(held.used, now)
            return held
        self._forget(path)
        fd = open_regular(path)
        try:
            status = os.fstat(fd)
            if self._validator(fd, status) != expected:
                raise ResponseGone("file changed")
        except BaseException:
            os.close(fd)
            raise
        held = self._open[path] = _Held(fd, expected, version_of(status), now)
        if len(self._open) > self.capacity:
            self._forget(next(iter(self._open)))
        return held

    def _validator(self, fd: int, status: os.stat_result) -> bytes:
        if not self._by_content:
            return validator(status)
        content = self._digests.at_once(fd, status)
        if content is None:
            raise OSError(errno.EAGAIN, "its content is not known yet")
        return content[:8]

    def _forget(self, path: bytes) -> None:
        held = self._open.pop(path, None)
        if held is not None:
            os.close(held.fd)

    def sweep(self, now: int) -> None:
        """Close what was not read for a while: a deleted file's space must come free."""
        while self._open:
            path, held = next(iter(self._open.items()))
            if held.used + self.idle_ms > now:
                return
            self._forget(path)

    def close(self) -> None:
        """Close everything."""
        while self._open:
            self._forget(next(iter(self._open)))


class FileResponse:
    """A file's bytes behind a response head: served from sealed progress alone, by any replica."""

    __slots__ = ("_files", "_now", "_p", "authorised_at", "progress")
    open = False
    running = False
    failed = False
    name = b""

    def __init__(
        self, p: Progress, progress: bytes, files: Files, authorised_at: int, now: int
    ) -> None:
        self._p = p
        self.progress = progress
        self._files = files
        self._now = now
        self.authorised_at = authorised_at

    @property
    def start(self) -> int:
        return self._p.response_start

    @property
    def base(self) -> int:
        return self._p.response_start

    @property
    def joins(self) -> int:
        return self._p.response_start

    def noted(self, stop: int) -> Note | None:
        return None

    @property
    def end(self) -> int | None:
        return self._p.response_end

    @property
    def available(self) -> int:
        return self._p.response_end

    @property
    def edition(self) -> int:
        return self._p.edition

    @property
    def closes(self) -> bool:
        return self._p.closes

    @property
    def request_start(self) -> int:
        return self._p.request_start

    @property
    def request_wanted(self) -> int:
        return self._p.request_end

    @property
    def request_digest(self) -> bytes:
        return self._p.whole_digest

    @property
    def size(self) -> int:
        return len(self.progress) + len(self._p.path) + len(self._p.head)

    def published(self, part: Part) -> Published:
        """The response for other processes: all of it is in the progress."""
        return Published(self.progress, (), b"", False, self.authorised_at)

    def is_same_file(self, p: Progress) -> bool:
        """True if `p` names the same bytes of body."""
        mine = self._p
        return (
            (mine.path, mine.validator, mine.offset) == (p.path, p.validator, p.offset)
            and mine.response_end - mine.response_start - mine.head_length
            == p.response_end - p.response_start - p.head_length
        )

    def read(self, start: int, stop: int) -> bytes | memoryview:
        """Bytes [start, stop) of the response stream. Raises ResponseGone."""
        p = self._p
        body = p.response_start + p.head_length
        if start < p.response_start or stop > p.response_end:
            raise ResponseGone("outside the response")
        if start >= body:
            return self._read(start - body, stop - start)
        if not p.head:
            raise ResponseGone("the head was given before and is no longer held")
        head = p.head[start - p.response_start : stop - p.response_start]
        if stop <= body:
            return head
        return b"".join((head, self._read(0, stop - body)))

    def _read(self, at: int, length: int) -> memoryview:
        p = self._p
        return self._files.read(p.path, p.validator, p.offset + at, length, self._now)

    @property
    def is_known(self) -> bool:
        """Can it be read at once? If not, `examine` it."""
        return self._files.is_known(self._p.path, self._p.validator)

    def examine(self, waiter: int, ready: Callable[[int], None]) -> None:
        """Have it made readable, and call `ready(waiter)` then."""
        self._files.examine(self._p.path, waiter, ready)


def sealed_for(p: Progress, sealed: bytes, edition: int, received: int) -> bytes:
    """What to seal next for a client that has the bytes of `edition` below `received`."""
    if not p.head or edition != p.edition or received < p.response_start + p.head_length:
        return sealed
    # The head is sealed no longer, but may be read under this continuation still.
    head, p.head = p.head, b""
    progress = encode(p)
    p.head = head
    return progress


def file_progress(
    p: Progress, path: bytes, valid: bytes, head: bytes, part: range, closes: bool
) -> Progress:
    """The progress of exchange `p` once its response is known to be `head` and part of a file."""
    return Progress(
        exchange=p.exchange,
        request_start=p.request_start,
        response_start=p.response_start,
        phase=Phase.RESPONDING,
        unsafe=p.unsafe,
        request_end=p.request_end,
        response_end=p.response_start + len(head) + len(part),
        reruns=p.reruns,
        head_only=p.head_only,
        kind=Body.FILE,
        closes=closes,
        request_digest=p.request_digest,
        date=p.date,
        origin=p.origin,
        streamed=p.streamed,
        # Of what every replica with the same tree sees: all of them name it alike.
        edition=edition_of(digest(b"\0".join((path, valid, b"%d" % part.start, head)))),
        validator=valid,
        head_length=len(head),
        offset=part.start,
        path=path,
        head=head,
    )
