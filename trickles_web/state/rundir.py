"""The run directory: where the processes of one service on one machine find each other.

    id                4 random bytes, the name of the store; made once
    w-OWNER           held locked by the process OWNER (8 hex digits) for as long as it lives
    w-OWNER.sock      its datagram socket, for what others forward to it

The kernel releases the lock when the process dies, however it dies, so nobody is ever taken for
dead or alive by a clock.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import stat
import weakref
from collections.abc import Sequence
from pathlib import Path

from trickles_web.errors import UsageError

ABANDONED_MS = 86_400_000

MOST_PARTS = 1024
"""Of a file, written by one call (IOV_MAX of Linux)."""

_LIVES: weakref.WeakSet[Life] = weakref.WeakSet()


def _leave_to_parent() -> None:
    """After a fork: a child that kept the descriptor would make its parent immortal."""
    for life in list(_LIVES):
        life.forget()


os.register_at_fork(after_in_child=_leave_to_parent)


def open_directory(path: Path) -> None:
    """Make sure that `path` is a directory of ours that nobody else may use. Raises UsageError."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.stat()
    except OSError as error:
        raise UsageError(
            f"--store dir:{path}: {error.strerror}; give a directory that this user can write to"
        ) from None
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise UsageError(f"--store dir:{path}: not a directory of this user's; give another one")
    if status.st_mode & 0o077:
        raise UsageError(
            f"--store dir:{path}: others may use it, and what is in it is trusted; "
            "give a new directory, or one with mode 700"
        )


def store_id(path: Path, random: bytes) -> int:
    """The id of the store in this directory; `random` (4 bytes) becomes it if there is none."""
    create(path / "id", random[:4])
    return read_id(path)


def read_id(path: Path) -> int:
    """The id of the store in this directory. Raises OSError."""
    return int.from_bytes((path / "id").read_bytes()[:4], "big") or 1


def create(file: Path | str, content: bytes, now: int = 0) -> bool:
    """Make `file`, whole from its first moment; False if it is there already. Raises OSError.

    now: wall-clock ms, its time of modification where that matters.
    """
    draft = write_draft(file, [content], now)
    try:
        os.link(draft, file)
    except FileExistsError:
        return False
    finally:
        os.unlink(draft)
    return True


def write_draft(file: Path | str, parts: Sequence[bytes | bytearray], now: int = 0) -> str:
    """Write what `file` shall be to a name that no other process uses. Raises OSError."""
    draft = f"{file}.{os.getpid():x}"
    _write(draft, os.O_CREAT | os.O_TRUNC, parts, now)
    return draft


def write_over(file: str, parts: Sequence[bytes | bytearray], now: int) -> None:
    """Make this of a file that nobody else writes to. Raises OSError if it has gone, or is read."""
    _write(file, 0, parts, now)


def _write(file: str, flags: int, parts: Sequence[bytes | bytearray], now: int) -> None:
    """Raises OSError, and then the file has gone."""
    fd = os.open(file, flags | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        if len(parts) > MOST_PARTS:
            parts = [b"".join(parts)]
        size = sum(map(len, parts))
        if not flags:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.truncate(fd, size)
        if os.writev(fd, parts) < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if now:
            os.utime(fd, ns=(now * 1_000_000, now * 1_000_000))
    except OSError:
        os.unlink(file)
        raise
    finally:
        os.close(fd)


def read(file: str, most: int, now: int) -> bytes | None:
    """Up to `most` bytes of the file, which is of use `now` (wall-clock ms); None if it has gone.

    It may be made into another one at any time, but not while it is read.
    """
    try:
        fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        if not os.path.samestat(os.stat(file), os.fstat(fd)):
            return None
        with open(fd, "rb", closefd=False) as content:
            data = content.read(most)
        os.utime(fd, ns=(now * 1_000_000, now * 1_000_000))
    except OSError:
        return None
    finally:
        os.close(fd)
    return data


def append(file: str, piece: bytes, flags: int, now: int) -> None:
    """Write `piece` behind what the file has, all or nothing that counts. Raises OSError.

    flags: for open(2). now: wall-clock ms, its time of modification.
    """
    fd = os.open(file, flags, 0o600)
    try:
        if os.write(fd, piece) < len(piece):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.utime(fd, ns=(now * 1_000_000, now * 1_000_000))
    finally:
        os.close(fd)


def touch(file: str, size: int, now: int) -> bool:
    """Say that the file was of use; False if it is not there with this size."""
    try:
        os.utime(file, ns=(now * 1_000_000, now * 1_000_000))
        return os.stat(file).st_size == size
    except OSError:
        return False


def life_file(directory: Path, owner: int) -> str:
    return f"{directory}/w-{owner:08x}"


def socket_file(directory: Path, owner: int) -> str:
    """Where the process `owner` takes datagrams from the others."""
    return f"{directory}/w-{owner:08x}.sock"


def alive(directory: Path, owner: int) -> bool:
    """True while the process `owner` lives."""
    try:
        fd = os.open(life_file(directory, owner), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def owners(directory: Path) -> set[int]:
    """Those that have a place in the directory, dead ones too. Raises ValueError, OSError."""
    return {int(path.name[2:10], 16) for path in directory.glob("w-*")}


def remove_abandoned(parent: Path, now: int) -> None:
    """Remove run directories in `parent` that nobody has used for a day. now: wall-clock ms.

    Services and ports come and go, and tmpfs is memory.
    """
    for directory in parent.iterdir():
        with contextlib.suppress(OSError, ValueError):
            if directory.stat().st_mtime_ns // 1_000_000 + ABANDONED_MS > now:
                continue
            if not any(alive(directory, owner) for owner in owners(directory)):
                shutil.rmtree(directory)


class Life:
    """This process's presence in a run directory, until `end` or its death."""

    def __init__(self, directory: Path, owner: int) -> None:
        """Raises OSError."""
        self._path = life_file(directory, owner)
        self._socket = socket_file(directory, owner)
        while True:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            # Waits only while somebody who found it just now looks whether its owner lives, and
            # takes it away: then once more.
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.stat(self._path), os.fstat(self._fd)):
                    break
            os.close(self._fd)
        _LIVES.add(self)

    def forget(self) -> None:
        """Close the descriptor, in a process that is not the owner."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def end(self) -> None:
        """Leave: what this process ran is ended."""
        if self._fd >= 0:
            for path in (self._socket, self._path):
                with contextlib.suppress(OSError):
                    os.unlink(path)
        self.forget()
