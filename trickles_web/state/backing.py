"""Bytes that begin in memory and move to disk when there are many of them.

    Disk (one for all: directory, bounds, how much is used)
      └── Backing   memory, up to `memory_bytes`, or more while some is lent
                    ->  a temporary file without a name

A backing is read like a bytearray, as far as readers of requests need that; it costs one descriptor
when on disk. Whoever made it closes it: the garbage collector would do so late, and complain.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from typing import IO, Final

from trickles_web.errors import TricklesError

MEMORY_BYTES: Final = 1 << 20
"""A backing of more lies on disk. Request heads are far shorter, so they are always parsed in
memory."""

MOST_LENT: Final = 16 << 20
"""Bytes of memory that are lent to one backing: all of a body, unless bodies may be very long."""

BLOCK_BYTES = 65_536
"""Read from disk at once, where a reader goes through many."""


class DiskError(TricklesError):
    """The disk takes no more bytes (its bound is reached, or it is full), or does not give them."""


class Disk:
    """The room that all backings share: `used` of `most_bytes`, and what they have in memory in its
    place, `lent` of `memory_bytes`: of a body that is gone in a moment a file costs as much as all
    else. Of a process's descriptors they have `files`, at most `most_files`: whoever uploads must
    not keep all others from opening any.
    """

    def __init__(
        self,
        most_bytes: int,
        directory: str | None = None,
        memory_bytes: int = 0,
        most_files: int = 512,
    ) -> None:
        """`directory`: for temporary files; None: where TMPDIR says."""
        self.most_bytes = most_bytes
        self.memory_bytes = memory_bytes
        self.most_files = most_files
        self.directory = directory
        self.used = 0
        self.files = 0
        self.lent = 0

    def lend(self, size: int) -> bool:
        """Reserve so many bytes of memory; False if they are not to be had."""
        if self.lent + size > self.memory_bytes:
            return False
        self.lent += size
        return True

    def take(self, size: int) -> None:
        """Reserve so many bytes. Raises DiskError if they are not to be had."""
        if self.used + size > self.most_bytes:
            raise DiskError(f"more than {self.most_bytes} bytes of requests on disk")
        self.used += size

    def give(self, size: int) -> None:
        """Give back what was taken."""
        self.used -= size


class Backing:
    """See the module. Slices are `bytes`; what is sought must not be empty.

    All that touches a file can raise DiskError. A call that did has changed no byte.
    """

    __slots__ = ("_behind", "_bytes", "_disk", "_file", "_front", "_length", "_lent", "_most")

    def __init__(self, disk: Disk, memory_bytes: int = MEMORY_BYTES) -> None:
        self._disk = disk
        self._most = memory_bytes
        self._lent = 0
        """Bytes of memory beyond those."""
        self._bytes = bytearray()
        self._file: IO[bytes] | None = None
        self._front = 0
        """Where in the file the first byte lies."""
        self._length = 0
        """Bytes in the file behind `_front`."""
        self._behind = 0
        """Bytes behind those, which the file did not let go."""

    def __len__(self) -> int:
        return len(self._bytes) if self._file is None else self._length

    @property
    def memory_bytes(self) -> int:
        """In memory: all, or nothing."""
        return len(self._bytes)

    @property
    def disk_bytes(self) -> int:
        """On disk, those cut off in front among them."""
        return self._front + self._length + self._behind

    # Writing

    def append(self, piece: bytes | bytearray | memoryview) -> None:
        """Add `piece` at the end."""
        if self._file is None:
            more = len(self._bytes) + len(piece) - self._most - self._lent
            if more > 0 and self._lent + more <= MOST_LENT and self._disk.lend(more):
                self._lent += more
            elif more > 0:
                self._move()
        if self._file is None:
            self._bytes += piece
            return
        self._disk.take(len(piece))
        try:
            _write(self._file, piece, self._front + self._length)
        except OSError as error:
            self._disk.give(len(piece))
            raise _explained(error) from error
        self._length += len(piece)

    def _move(self) -> None:
        """From memory to disk."""
        if self._disk.files >= self._disk.most_files:
            raise DiskError(f"more than {self._disk.most_files} requests on disk")
        self._disk.take(len(self._bytes))
        file: IO[bytes] | None = None
        try:
            file = tempfile.TemporaryFile(  # noqa: SIM115
                buffering=0, prefix="trickles-", dir=self._disk.directory
            )
            _write(file, self._bytes, 0)
        except OSError as error:
            self._disk.give(len(self._bytes))
            if file is not None:
                file.close()
            raise _explained(error) from error
        self._disk.files += 1
        self._file, self._length = file, len(self._bytes)
        self._bytes = bytearray()
        self._return()

    def _return(self) -> None:
        """Of the memory that was lent all is free again."""
        self._disk.lent -= self._lent
        self._lent = 0

    def cut_front(self, count: int) -> None:
        """Forget the first `count` bytes. No byte is moved; a file keeps its length."""
        if self._file is None:
            del self._bytes[:count]
        else:
            count = min(count, self._length)
            self._front += count
            self._length -= count

    def cut_back(self, length: int) -> None:
        """Forget all but the first `length` bytes. Their room is free at once, if that can be."""
        if self._file is None:
            del self._bytes[length:]
        elif length < self._length:
            freed, self._length = self._length - length, length
            try:
                os.ftruncate(self._file.fileno(), self._front + length)
            except OSError:
                self._behind += freed
            else:
                self._disk.give(freed)

    def close(self) -> None:
        """Give everything back; it is empty then."""
        self._disk.give(self.disk_bytes)
        if self._file is not None:
            self._disk.files -= 1
            self._file.close()
            self._file = None
        self._front = self._length = self._behind = 0
        self._bytes = bytearray()
        self._return()

    def moved(self) -> Backing:
        """All of this in a new backing, whose maker is who called; this one is empty then."""
        other = Backing(self._disk, self._most)
        other._bytes, other._file = self._bytes, self._file
        other._front, other._length, other._behind = self._front, self._length, self._behind
        other._lent, self._lent = self._lent, 0
        self._bytes, self._file = bytearray(), None
        self._front = self._length = self._behind = 0
        return other

    # Reading

    def __getitem__(self, part: slice) -> bytes:
        """Without a step."""
        start, stop, _ = part.indices(len(self))
        return self._read(start, max(start, stop))

    def blocks(self, start: int, stop: int) -> Iterator[bytes]:
        """[start, stop) in order, in pieces of a bounded size: for digests, for applications."""
        stop = min(stop, len(self))
        for at in range(start, stop, BLOCK_BYTES):
            yield self._read(at, min(at + BLOCK_BYTES, stop))

    def startswith(self, prefix: bytes) -> bool:
        return self._read(0, min(len(prefix), len(self))) == prefix

    def find(self, sought: bytes, start: int = 0, stop: int | None = None) -> int:
        """The lowest offset of `sought` within [start, stop), or -1."""
        stop = len(self) if stop is None else min(stop, len(self))
        if self._file is None:
            return self._bytes.find(sought, start, stop)
        for at in range(start, stop, BLOCK_BYTES):
            # All that begins in this block, with as much of the next as the last one needs.
            window = self._read(at, min(at + BLOCK_BYTES + len(sought) - 1, stop))
            found = window.find(sought)
            if found >= 0:
                return at + found
        return -1

    def count(self, sought: bytes, start: int = 0) -> int:
        """How often `sought` is there from `start` on, without overlaps."""
        if self._file is None:
            return self._bytes.count(sought, start)
        count, at = 0, start
        while at < self._length:
            window = self._read(at, min(at + BLOCK_BYTES + len(sought) - 1, self._length))
            behind = 0
            while (found := window.find(sought, behind)) >= 0:
                count += 1
                behind = found + len(sought)
            at += max(BLOCK_BYTES, behind)
        return count

    def _read(self, start: int, stop: int) -> bytes:
        if self._file is None:
            with memoryview(self._bytes) as view:
                return bytes(view[start:stop])
        try:
            data = os.pread(self._file.fileno(), stop - start, self._front + start)
        except OSError as error:
            raise _explained(error) from error
        if len(data) < stop - start:
            raise DiskError("a temporary file was cut short")
        return data


def memory_bytes(data: bytes | Backing) -> int:
    """Of either."""
    return len(data) if isinstance(data, bytes) else data.memory_bytes


def _write(file: IO[bytes], piece: bytes | bytearray | memoryview, at: int) -> None:
    """All of it: a disk that is nearly full takes a part first."""
    with memoryview(piece) as view:
        done = 0
        while done < len(view):
            done += os.pwrite(file.fileno(), view[done:], at + done)


def _explained(error: OSError) -> DiskError:
    return DiskError(f"request bytes cannot be kept on disk: {error.strerror or error}")
