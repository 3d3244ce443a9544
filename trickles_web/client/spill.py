"""Kept request bytes that move to disk when they are many: an upload may be larger than memory."""

from __future__ import annotations

import os
import tempfile
from typing import IO

from trickles_web.errors import FlowError
from trickles_web.transport.kept import KeptInMemory

MEMORY_BYTES = 1 << 20
"""Kept in memory up to here: nearly all requests, and no file is ever opened for them."""


class SpillingBytes:
    """`Kept` in memory, and beyond `memory_bytes` in a temporary file without a name.

    The kernel frees the file with its descriptor, however the process ends. It goes back to memory
    as soon as what is left fits there; until then what was forgotten keeps its place on disk.
    """

    def __init__(self, memory_bytes: int = MEMORY_BYTES) -> None:
        self._memory_bytes = memory_bytes
        self._memory = KeptInMemory()
        self._file: IO[bytes] | None = None
        self._file_start = 0
        """Stream offset of the file's first byte."""
        self._start = self._end = 0

    @property
    def on_disk(self) -> bool:
        """Is there a file now?"""
        return self._file is not None

    def append(self, data: bytes) -> None:
        """Raises FlowError when there is no room on disk, or no directory for temporary files."""
        end = self._end + len(data)
        if self._file is None and end - self._start > self._memory_bytes:
            self._spill()
        if self._file is None:
            self._memory.append(data)
        else:
            _write(self._file, data, self._end - self._file_start)
        self._end = end

    def read(self, start: int, stop: int) -> bytes:
        """Raises FlowError when the disk fails."""
        if self._file is None:
            return self._memory.read(start, stop)
        try:
            data = os.pread(self._file.fileno(), stop - start, start - self._file_start)
        except OSError as error:
            raise _explained(error) from error
        if len(data) < stop - start:
            raise FlowError("the temporary file of a request was cut short")
        return data

    def forget(self, below: int) -> None:
        """Raises FlowError when the disk fails."""
        self._start = below
        if self._file is None:
            self._memory.forget(below)
        elif self._end - below <= self._memory_bytes:
            self._memory = KeptInMemory(below)
            self._memory.append(self.read(below, self._end))
            self.close()

    def close(self) -> None:
        """Give the disk back. What was there can be read no more."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _spill(self) -> None:
        try:
            file = tempfile.TemporaryFile(buffering=0, prefix="trickles-")  # noqa: SIM115
        except OSError as error:
            raise _explained(error) from error
        try:
            _write(file, self._memory.read(self._start, self._end), 0)
        except FlowError:
            file.close()
            raise
        self._file, self._file_start = file, self._start
        self._memory = KeptInMemory()


def _write(file: IO[bytes], data: bytes, at: int) -> None:
    """All of `data`: a disk that is nearly full takes a part first."""
    view = memoryview(data)
    try:
        while view:
            written = os.pwrite(file.fileno(), view, at)
            view, at = view[written:], at + written
    except OSError as error:
        raise _explained(error) from error


def _explained(error: OSError) -> FlowError:
    told = FlowError(
        f"a request cannot be kept in a temporary file ({error.strerror or error}); "
        "TMPDIR names the directory for it"
    )
    told.errno = error.errno
    return told
