"""Where bytes go: files, which may be continued, and descriptors."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from pathlib import Path

from trickles_web.cli.get.failures import Exit, Failure
from trickles_web.cli.get.options import STDIO

ETAG_ATTRIBUTE = "user.trickles.etag"
"""Of a file that is not whole yet: which version it is a part of. In the file's own attributes, for
it goes where the file goes, and away with it; where the file system has none, nobody knows."""


class Output:
    """One transfer's, opened when there is something to write."""

    def __init__(self, path: str, *, append: bool = False, create_dirs: bool = False) -> None:
        """append: what the file holds stays, and `start` is its size."""
        self.path = None if path == STDIO else path
        self.start = 0
        """What was there before this run,"""
        self.position = 0
        """and what is there now, in bytes; of a pipe, what was written."""
        self._append = append
        self._create_dirs = create_dirs
        self._fd: int | None = None
        self._blocking = False
        self._ours = False
        if append and self.path is not None:
            with contextlib.suppress(OSError):
                self.start = self.position = os.stat(self.path).st_size

    @property
    def can_restart(self) -> bool:
        """Can what this run has written be taken back?"""
        return self._ours or self.position == self.start

    def open(self) -> None:
        """Raises Failure."""
        if self._fd is not None:
            return
        try:
            if self.path is None:
                self._fd = 1
            else:
                self._fd = self._opened(self.path)
            self._blocking = not stat.S_ISREG(os.fstat(self._fd).st_mode)
            # A file that the shell has opened may hold what others wrote.
            self._ours = self.path is not None and not self._blocking
        except OSError as error:
            raise self._failed(error) from None

    def _opened(self, path: str) -> int:
        if self._create_dirs:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if self._append else os.O_TRUNC)
        return os.open(path, flags, 0o666)

    def _failed(self, error: OSError) -> Failure:
        return Failure(Exit.WRITE, f"cannot write {self.path or 'stdout'}: {error.strerror}")

    def restart(self) -> None:
        """Take back what this run has written. Raises Failure."""
        if self.position == self.start:
            return
        assert self._fd is not None and self.can_restart
        try:
            os.ftruncate(self._fd, self.start)
            os.lseek(self._fd, self.start, os.SEEK_SET)
        except OSError as error:
            raise self._failed(error) from None
        self.position = self.start

    async def write(self, data: bytes) -> None:
        """Raises Failure."""
        self.open()
        try:
            if self._blocking:
                # A pipe may stand still for minutes; the flow's timers must not.
                await asyncio.to_thread(self._write_all, data)
            else:
                self._write_all(data)
        except BrokenPipeError:
            raise Failure(Exit.WRITE, "the reader of the output has gone", quiet=True) from None
        except OSError as error:
            raise self._failed(error) from None

    def _write_all(self, data: bytes) -> None:
        assert self._fd is not None
        view = memoryview(data)
        while view:
            written = os.write(self._fd, view)
            self.position += written
            view = view[written:]

    # ---- which version it is a part of

    def etag(self) -> bytes:
        """The entity tag that `mark` noted, b"" if nobody knows."""
        if self.path is None:
            return b""
        try:
            return os.getxattr(self.path, ETAG_ATTRIBUTE)
        except OSError:
            return b""

    def mark(self, etag: bytes) -> None:
        """Note the entity tag of what is written; b"": it is whole, or has none."""
        if self._fd is None or not self._ours:
            return
        with contextlib.suppress(OSError):
            if etag:
                os.setxattr(self._fd, ETAG_ATTRIBUTE, etag)
            else:
                os.removexattr(self._fd, ETAG_ATTRIBUTE)

    def remove(self) -> None:
        """Delete the file, if this run has opened one."""
        if self._ours and self.path is not None:
            with contextlib.suppress(OSError):
                os.unlink(self.path)

    def close(self) -> None:
        if self._fd is not None and self.path is not None:
            os.close(self._fd)
        self._fd = None
