"""Keys of servers met before, in a file: a line each, `host:port sha256//...`.

A server may have several lines, of which each will do. Lines that begin with # are remarks.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from trickles_web.errors import IdentityError, UsageError

logger = logging.getLogger("trickles.client")

MOST_BYTES = 1 << 20
"""Of a file: some 10,000 servers."""


class KnownHosts:
    """One file; made when the first key is kept."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def check(self) -> None:
        """Raises UsageError if the file is there and cannot be read."""
        self._of("")

    def judge(self, name: str, pin: str, *, may_add: bool = True) -> None:
        """Raises IdentityError if the server of this name, `host:port`, had another key before;
        UsageError if the file cannot be used. Who is new is written down, or refused.
        """
        name = name.lower()
        if self._is_known(name, pin, self._of(name)):
            return
        if not may_add:
            raise IdentityError("new", f"{name} is not in {self.path}")
        if self._add(name, pin):
            logger.warning("%s is new: its key is %s, kept in %s", name, pin, self.path)

    def _is_known(self, name: str, pin: str, known: list[str]) -> bool:
        """False: it is new. Raises IdentityError."""
        if not known or pin in known:
            return bool(known)
        raise IdentityError(
            "changed",
            f"THE KEY OF {name} HAS CHANGED: it is {pin} now, and was {known[0]} before. Somebody "
            "may be listening in; or it was replaced, which its operator can tell. To accept "
            f"the new one, remove the line of {name} from {self.path}",
        )

    def _of(self, name: str) -> list[str]:
        with self._errors():
            try:
                with self.path.open("rb") as file:
                    return self._read(file, name)
            except FileNotFoundError:
                return []

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except IdentityError:  # which is an OSError
            raise
        except (OSError, ValueError) as error:  # the latter for a name with a NUL in it
            reason = getattr(error, "strerror", None) or error
            raise UsageError(f"--known-hosts {str(self.path)!r}: {reason}") from None

    def _read(self, file: BinaryIO, name: str) -> list[str]:
        """The keys of one name. Half a line is the line of its host all the same: who was known
        must not become new by what happened to the file.
        """
        text = file.read(MOST_BYTES + 1)
        if len(text) > MOST_BYTES:
            raise UsageError(
                f"--known-hosts {str(self.path)!r}: it has more than {MOST_BYTES} bytes"
            )
        found = []
        for line in text.decode(errors="replace").splitlines():
            known, *words = line.lower().split(maxsplit=1) or ("",)
            if known == name:
                found.append(line.split()[1] if words else "unreadable")
        return found

    def _add(self, name: str, pin: str) -> bool:
        """Under a lock, lest two of different keys are both the first. False: another was first,
        with this key. Raises IdentityError if it was with another one.
        """
        with self._errors():
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            with open(os.open(self.path, flags, 0o600), "a+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                file.seek(0)
                if self._is_known(name, pin, self._read(file, name)):
                    return False
                file.write(self._begin_line(file) + f"{name} {pin}\n".encode())
        return True

    def _begin_line(self, file: BinaryIO) -> bytes:
        """A line end, where the last line has none."""
        if not file.seek(0, os.SEEK_END):
            return b""
        file.seek(-1, os.SEEK_END)
        return b"" if file.read(1) == b"\n" else b"\n"
