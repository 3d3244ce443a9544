"""Files of a run directory that nobody needs any more, kept to be written anew.

A tmpfs clears and accounts for each page of a new file and gives it back with the file: five times
what it costs to write over pages that are there.

    KEY.r  --its exchange is over-->  s-OWNER-N  --written over, renamed-->  OTHER.r

Others may be reading the file, so whoever reads holds a shared lock and looks whether it still has
the name by which it was found; whoever writes holds an exclusive one, and waits for nobody.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from trickles_web.state import rundir

MOST_BYTES = 16 << 20

SHARE = 16
"""And no more than this part of the directory's room, on top of it."""

MOST = 64


class Spares:
    """Those of one process, by size: one is written over by what is about as long."""

    def __init__(self, directory: Path, owner: int, room: int) -> None:
        """room: bytes that the directory may hold."""
        self._prefix = f"{directory}/s-{owner:08x}-"
        self._most_bytes = min(MOST_BYTES, room // SHARE)
        self._bytes = 0
        self._serial = 0
        self._sizes: dict[str, int] = {}
        """By path, the oldest first: so what was swept meanwhile does not stay here for ever."""
        self._alike: dict[int, list[str]] = {}
        """The paths of those about as long, in the same order."""

    def keep(self, path: str, size: int) -> bool:
        """Take this file of so many bytes out of use; False if it is too large, or has gone."""
        if size > self._most_bytes:
            return False
        self._serial += 1
        spare = f"{self._prefix}{self._serial:x}"
        try:
            os.rename(path, spare)
        except OSError:
            return False
        self._sizes[spare] = size
        self._alike.setdefault(size.bit_length(), []).append(spare)
        self._bytes += size
        while len(self._sizes) > MOST or self._bytes > self._most_bytes:
            self._remove_oldest()
        return True

    def take(self, size: int) -> str:
        """A file for so many bytes; "" if there is none."""
        alike = self._alike.get(size.bit_length())
        if not alike:
            return ""
        spare = alike.pop()
        self._bytes -= self._sizes.pop(spare)
        return spare

    def _remove_oldest(self) -> None:
        path, size = next(iter(self._sizes.items()))
        del self._sizes[path], self._alike[size.bit_length()][0]
        self._bytes -= size
        with contextlib.suppress(OSError):
            os.unlink(path)

    def clear(self) -> None:
        """Remove them."""
        while self._sizes:
            self._remove_oldest()


def publish(path: str, spare: str, parts: list[bytes | bytearray], now: int) -> None:
    """Make the file at `path` of these, in place of what was there: out of the spare, if that can
    be, or else a new one. Raises OSError. now: wall-clock ms.
    """
    if spare:
        with contextlib.suppress(OSError):  # swept meanwhile, or still read by somebody
            rundir.write_over(spare, parts, now)
            os.rename(spare, path)
            return
    os.rename(rundir.write_draft(path, parts, now), path)
