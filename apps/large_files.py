"""Large files to download, made on demand: real bytes on disk, the same ones on every machine.

Megabyte `n` of every file is SHAKE-128 of a fixed label and `n` (FIPS 202): a file is a prefix of
every larger one, and no run of bytes occurs twice: a server that mixed up two offsets could not go
unnoticed. The modification time is fixed as well, because size and time are what servers tell two
versions of a file by: copies on different machines, or made again later, count as one version.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from pathlib import Path

MEGABYTE = 1_000_000
LARGEST_MEGABYTES = 2_000
CACHE_BYTES = 4_000_000_000
"""All files together: a visitor who asks for every size there is must not fill the disk."""
MODIFIED_S = 1_114_992_000
"""2005-05-02, the first day of NSDI '05, where Trickles was presented. Seconds since 1970."""


class CacheFull(Exception):
    """The file would make the cache larger than `CACHE_BYTES`."""


def cache_directory() -> Path:
    """`$SITE_CACHE_DIR`, or a folder in the user's cache: it outlives processes and reboots."""
    chosen = os.environ.get("SITE_CACHE_DIR")
    if chosen:
        return Path(chosen).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trickles-web-site"


def megabyte(number: int) -> bytes:
    """The bytes `[number, number + 1)` of a file, in megabytes."""
    return hashlib.shake_128(b"trickles-web large file, megabyte %d" % number).digest(MEGABYTE)


def large_file(directory: Path, megabytes: int) -> Path:
    """Path of the file of that many megabytes; made first if need be, at about 300 MB/s.

    Any number of threads and processes may ask at once: one makes the file, the others wait.
    The kernel frees the lock when its holder is killed; the half-made file is then overwritten.
    Raises CacheFull; ValueError for a size out of range; OSError when the disk refuses.
    """
    if not 1 <= megabytes <= LARGEST_MEGABYTES:
        raise ValueError(f"1 to {LARGEST_MEGABYTES} megabytes, not {megabytes}")
    path = directory / f"{megabytes}.bin"
    if not _complete(path, megabytes):
        directory.mkdir(parents=True, exist_ok=True)
        with (directory / "lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not _complete(path, megabytes):
                _make(path, megabytes)
    return path


def checksum_file(directory: Path, megabytes: int) -> Path:
    """Path of the file's SHA-256 in the format of sha256sum; raises as `large_file` does."""
    return _checksum_of(large_file(directory, megabytes))


def _checksum_of(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _complete(path: Path, megabytes: int) -> bool:
    try:
        return path.stat().st_size == megabytes * MEGABYTE and _checksum_of(path).exists()
    except FileNotFoundError:
        return False


def _make(path: Path, megabytes: int) -> None:
    held = sum(file.stat().st_size for file in path.parent.glob("*.bin"))
    if held + megabytes * MEGABYTE > CACHE_BYTES:
        raise CacheFull(f"{path.parent} holds {held // MEGABYTE} MB already")
    unfinished = path.with_name("unfinished")
    digest = hashlib.sha256()
    try:
        with unfinished.open("wb") as output:
            for number in range(megabytes):
                block = megabyte(number)
                digest.update(block)
                output.write(block)
        os.utime(unfinished, (MODIFIED_S, MODIFIED_S))
        checksum = path.with_name("unfinished.sha256")
        checksum.write_text(f"{digest.hexdigest()}  {path.name}\n", encoding="ascii")
        os.utime(checksum, (MODIFIED_S, MODIFIED_S))
        # The checksum first: where there is a file, there is a checksum.
        checksum.rename(_checksum_of(path))
        unfinished.rename(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
