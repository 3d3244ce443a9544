"""Digests of files' contents: remembered, and made in threads where that takes long.

A digest belongs to a version of a file, which is what `stat` shows of it. The memory of digests is
one for the process: whatever asks, nothing is hashed twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import stat
import threading
import time

MOST_AT_ONCE = 262_144
"""Bytes hashed on the event loop: 0.3 ms."""

MOST_REMEMBERED = 16_384
"""Versions of files: about 5 MB."""

THREADS = 2
"""Files hashed at a time: the threads are the application's too."""

PIECE = 1 << 20
"""Bytes hashed between two looks whether anybody still wants it."""

YOUNG_S = 0.02
"""Within a tick of the kernel's clock (10 ms at most) a file changes without a new mtime."""

Version = tuple[int, int, int, int]
"""Device, inode, bytes, mtime in ns."""

_digests: dict[Version, bytes] = {}
_lock = threading.Lock()


def version_of(status: os.stat_result) -> Version:
    """What of a file changes when its content does."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def is_young(status: os.stat_result) -> bool:
    """May it change once more and look the same?"""
    return 0 <= time.time_ns() - status.st_mtime_ns < YOUNG_S * 1e9


def open_regular(path: bytes) -> int:
    """A descriptor of the regular file at `path`. Raises OSError: ENOENT for special files."""
    # Looked at first: merely opening a device can do something.
    if stat.S_ISREG(os.stat(path).st_mode):
        # Non-blocking: opening a pipe that takes the file's place must not hang.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        if stat.S_ISREG(os.fstat(fd).st_mode):
            return fd
        os.close(fd)
    raise OSError(errno.ENOENT, "not a regular file", path)


def content_digest(fd: int, stop: threading.Event | None = None) -> bytes:
    """16 bytes of BLAKE2b over the file. Blocks. Raises OSError: EAGAIN if it changes meanwhile."""
    status = os.fstat(fd)
    young = is_young(status)
    digest = hashlib.blake2b(digest_size=16)
    at = 0
    while at <= status.st_size and (piece := os.pread(fd, PIECE, at)):
        if stop is not None and stop.is_set():
            raise OSError(errno.ECANCELED, "no longer wanted")
        digest.update(piece)
        at += len(piece)
    version = version_of(status)
    if at != status.st_size or version_of(os.fstat(fd)) != version:
        raise OSError(errno.EAGAIN, "the file changes while it is read")
    result = digest.digest()
    if not young:
        with _lock:
            _digests[version] = result
            if len(_digests) > MOST_REMEMBERED:
                del _digests[next(iter(_digests))]
    return result


class Digests:
    """Asks for digests from an event loop: each file is hashed once at a time, a few in all."""

    def __init__(self) -> None:
        self._tasks: dict[bytes, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(THREADS)

    @staticmethod
    def known(status: os.stat_result) -> bytes | None:
        """The digest of a file with this status, if it was made before."""
        return _digests.get(version_of(status))

    def at_once(self, fd: int, status: os.stat_result) -> bytes | None:
        """The digest if it is known or soon made, None if it takes a thread. Raises OSError."""
        found = self.known(status)
        if found is None and status.st_size <= MOST_AT_ONCE:
            try:
                return content_digest(fd)
            except BlockingIOError:
                return None
        return found

    def begin(self, path: bytes) -> asyncio.Task[None]:
        """Have the digest of the file at `path` made. The task does not raise; wait shielded."""
        task = self._tasks.get(path)
        if task is None:
            task = self._tasks[path] = asyncio.get_running_loop().create_task(self._make(path))
            task.add_done_callback(lambda _: self._tasks.pop(path, None))
        return task

    async def make(self, path: bytes) -> None:
        """Return when the digest is made, or cannot be: then reading the file says why."""
        await asyncio.shield(self.begin(path))

    async def _make(self, path: bytes) -> None:
        stop = threading.Event()
        try:
            async with self._slots:
                await asyncio.to_thread(_remember, path, stop)
        finally:
            stop.set()  # a loop that ends does not wait for a large file


def _remember(path: bytes, stop: threading.Event) -> None:
    with contextlib.suppress(OSError):
        fd = open_regular(path)
        try:
            if is_young(os.fstat(fd)):
                stop.wait(YOUNG_S)
            content_digest(fd, stop)
        finally:
            os.close(fd)
