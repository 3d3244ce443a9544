"""Keys of servers met before, in a file: a line each, `host:port sha256//...`."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from trickles_web.errors import IdentityError, UsageError

logger = logging.getLogger("trickles.client")

MOST_BYTES = 1 << 20


class KnownHosts:
    """One file; made when the first key is kept."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def judge(self, name: str, pin: str) -> None:
        """Raises IdentityError if the server of this name, `host:port`, had another key before;
        UsageError if the file cannot be used. Who is new is written down.
        """
        known = self._of(name)
        if pin in known:
            return
        if known:
            raise IdentityError(
                "changed",
                f"THE KEY OF {name} HAS CHANGED: it is {pin} now, and {known[0]} before. Somebody "
                "may be listening in; or it was replaced, which its operator can tell. To accept "
                f"the new one, remove the line of {name} from {self.path}",
            )
        self._add(name, pin)
        logger.warning("%s is new: its key is %s, kept in %s", name, pin, self.path)

    def _of(self, name: str) -> list[str]:
        return [pin for known, pin in self._lines() if known == name]

    def _lines(self) -> Iterator[tuple[str, str]]:
        try:
            with self.path.open("rb") as file:
                text = file.read(MOST_BYTES)
        except FileNotFoundError:
            return
        except OSError as error:
            raise UsageError(f"{self.path}: {error.strerror}") from None
        for line in text.decode(errors="replace").splitlines():
            words = line.split()
            if len(words) == 2 and not line.startswith("#"):
                yield words[0], words[1]

    def _add(self, name: str, pin: str) -> None:
        """Of several that add one at once, each line stands."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(
                self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
            with open(descriptor, "ab") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                file.write(f"{name} {pin}\n".encode())
        except OSError as error:
            raise UsageError(f"{self.path}: {error.strerror}") from None
