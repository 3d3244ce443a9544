"""Files as responses: served from sealed progress alone, by any replica with the same tree."""

from __future__ import annotations

import os
import stat
import struct
from collections import OrderedDict

from trickles_web.errors import ResponseGone
from trickles_web.http.progress import Body, Phase, Progress, digest, edition_of, encode
from trickles_web.state.store import Published
from trickles_web.transport.note import Note

_IDENTITY = struct.Struct(">QQ")


def validator(status: os.stat_result) -> bytes:
    """8 bytes that change when the file does: of its size and modification time."""
    return digest(_IDENTITY.pack(status.st_size, status.st_mtime_ns & (1 << 64) - 1))


class Files:
    """Open files by path, a bounded few, each checked against its validator at every use.

    A file replaced by another keeps its bytes while it is open here, so a download in progress ends
    well; one changed in place is noticed.
    """

    def __init__(self, capacity: int = 64, idle_ms: int = 5_000) -> None:
        self.capacity = capacity
        self.idle_ms = idle_ms
        self._open: OrderedDict[bytes, tuple[int, bytes, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    def look(self, path: bytes) -> tuple[int, bytes]:
        """Size and validator of the regular file at `path` now. Raises OSError."""
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f"not a regular file: {os.fsdecode(path)}")
        return status.st_size, validator(status)

    def read(self, path: bytes, expected: bytes, offset: int, length: int, now: int) -> bytes:
        """`length` bytes of the file that has this validator. Raises ResponseGone."""
        try:
            fd = self._descriptor(path, expected, now)
            data = os.pread(fd, length, offset)
            while len(data) < length:
                more = os.pread(fd, length - len(data), offset + len(data))
                if not more:
                    break
                data += more
            # Checked after reading: what was read before a change is then not served either.
            changed = len(data) < length or validator(os.fstat(fd)) != expected
        except OSError as error:
            self._forget(path)
            raise ResponseGone(f"file unreadable: {error.strerror}") from None
        if changed:
            self._forget(path)
            raise ResponseGone("file changed")
        return data

    def _descriptor(self, path: bytes, expected: bytes, now: int) -> int:
        held = self._open.get(path)
        if held is not None:
            if held[1] == expected:
                self._open.move_to_end(path)
                if now > held[2]:
                    self._open[path] = (held[0], expected, now)
                return held[0]
            self._forget(path)
        # Non-blocking: opening a pipe that took the file's place must not hang the loop.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        self._open[path] = (fd, expected, now)
        if len(self._open) > self.capacity:
            self._forget(next(iter(self._open)))
        return fd

    def _forget(self, path: bytes) -> None:
        held = self._open.pop(path, None)
        if held is not None:
            os.close(held[0])

    def sweep(self, now: int) -> None:
        """Close what was not read for a while: a deleted file's space must come free."""
        while self._open:
            path, (_, _, used) = next(iter(self._open.items()))
            if used + self.idle_ms > now:
                return
            self._forget(path)

    def close(self) -> None:
        """Close everything."""
        while self._open:
            self._forget(next(iter(self._open)))


class FileResponse:
    """A file's bytes behind a response head: served from sealed progress alone, by any replica."""

    __slots__ = ("_files", "_now", "_p", "authorised_at", "progress")
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
        return self._p.request_digest

    @property
    def size(self) -> int:
        return len(self.progress) + len(self._p.path) + len(self._p.head)

    def published(self) -> Published:
        """The response for other processes: all of it is in the progress."""
        return Published(self.progress, b"", b"", False, self.authorised_at)

    def is_same_file(self, p: Progress) -> bool:
        """True if `p` names the same bytes of body."""
        mine = self._p
        return (
            (mine.path, mine.validator) == (p.path, p.validator)
            and mine.response_end - mine.response_start - mine.head_length
            == p.response_end - p.response_start - p.head_length
        )

    def read(self, start: int, stop: int) -> bytes:
        """Bytes [start, stop) of the response stream. Raises ResponseGone."""
        p = self._p
        body = p.response_start + p.head_length
        if start < p.response_start or stop > p.response_end:
            raise ResponseGone("outside the response")
        if start >= body:
            return self._files.read(p.path, p.validator, start - body, stop - start, self._now)
        if not p.head:
            raise ResponseGone("the head was given before and is no longer held")
        head = p.head[start - p.response_start : stop - p.response_start]
        if stop <= body:
            return head
        return head + self._files.read(p.path, p.validator, 0, stop - body, self._now)


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
    p: Progress, path: bytes, valid: bytes, head: bytes, size: int, closes: bool
) -> Progress:
    """The progress of exchange `p` once its response is known to be `head` and a file."""
    return Progress(
        exchange=p.exchange,
        request_start=p.request_start,
        response_start=p.response_start,
        phase=Phase.RESPONDING,
        unsafe=p.unsafe,
        request_end=p.request_end,
        response_end=p.response_start + len(head) + size,
        reruns=p.reruns,
        kind=Body.FILE,
        closes=closes,
        request_digest=p.request_digest,
        date=p.date,
        # Of what every replica with the same tree sees: all of them name it alike.
        edition=edition_of(digest(b"\0".join((path, valid, head)))),
        validator=valid,
        head_length=len(head),
        path=path,
        head=head,
    )
