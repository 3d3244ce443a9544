"""Workers under a supervisor: the one that has a request or response in hand, and their memory."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import stat
from collections.abc import Callable
from pathlib import Path

from loadtest.processes import Replica


def workers(server: Replica) -> list[int]:
    """Process ids of a supervisor's children; one that was just killed may be among them."""
    pid = server.process.pid
    with contextlib.suppress(OSError):
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def spooled(pid: int) -> int:
    """Bytes in the largest file without a name that a process has open: of a request, its spool."""
    largest = 0
    with contextlib.suppress(OSError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                found = descriptor.stat()
                if stat.S_ISREG(found.st_mode) and not found.st_nlink:
                    largest = max(largest, found.st_size)
    return largest


def peak_mb(pid: int) -> float:
    """Highest resident memory so far (VmHWM); 0 if the process has gone."""
    with contextlib.suppress(OSError):
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
        if found:
            return int(found[1]) / 1000
    return 0.0


class Owner:
    """A victim: at each time the worker whose death the request or response has to survive."""

    def __init__(self, server: Replica, find: Callable[[], int]) -> None:
        """find(): its process id, 0 while there is none."""
        self.kills = 0
        """Of owners. The death of anybody else would prove nothing, and is not caused."""
        self._server = server
        self._find = find
        self._killed = 0

    @property
    def log(self) -> str:
        return self._server.log

    @property
    def back(self) -> bool:
        """Has another process taken over, since one was killed?"""
        return self._find() != self._killed

    def restart(self) -> None:
        """SIGKILL, unless no other one has taken over since the last; the supervisor restarts."""
        pid = self._find()
        if pid != self._killed and pid in workers(self._server):
            self._killed = pid
            self.kills += 1
            os.kill(pid, signal.SIGKILL)
