"""Workers under a supervisor, known by the process ids in its log: ended, and awaited again."""

from __future__ import annotations

import os
import re
import signal

from loadtest.processes import BANNER, Process, Stage, free_udp_port


class Worker:
    """One of the supervisor's."""

    def __init__(self, supervisor: Process, number: int) -> None:
        self.kills = 0
        self.supervisor = supervisor
        self._name = f"Worker {number}"
        self._ended = 0

    @property
    def log(self) -> str:
        return self.supervisor.log

    @property
    def pid(self) -> int:
        """Of the newest that has served."""
        return int(re.findall(rf"{self._name} is process \[(\d+)\]", self.log)[-1])

    @property
    def back(self) -> bool:
        """Does it serve, for all that was done to it?"""
        return self.pid != self._ended

    def restart(self, number: int = signal.SIGKILL) -> None:
        """End it, unless it is not back since the last time; its supervisor starts another."""
        if self.back:
            self._ended = self.pid
            self.kills += 1
            os.kill(self._ended, number)


def supervised(stage: Stage, app: str, workers: int, *more: str) -> tuple[int, list[Worker]]:
    """A server of so many workers that all serve: its port, and them. `more`: further options."""
    port = free_udp_port()
    words = (app, "--port", str(port), "--workers", str(workers), "--no-access-log", *more)
    supervisor = stage.python("server", "trickles_web.cli.serve", *words)
    supervisor.says(BANNER)
    return port, [Worker(supervisor, number + 1) for number in range(workers)]
