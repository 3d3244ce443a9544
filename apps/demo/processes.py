"""The processes of the demonstration: started, killed, started again, and never left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from apps.demo.bound import PARENT

ROOT = Path(__file__).resolve().parent.parent.parent
START_S = 30.0
"""A start takes one or two, or more on a busy machine."""
END_S = 5.0
LOOK_S = 0.05
"""Between two looks at a log."""


class DemoError(Exception):
    """The demonstration cannot be given; the message is one line that says why."""


class Process:
    """A command that can be killed and started again; it logs to a file in `folder`."""

    def __init__(
        self, name: str, command: list[str], folder: Path, banner: str, ending: int = signal.SIGKILL
    ) -> None:
        """Not started yet. banner: what it logs when it serves. ending: the signal that ends it and
        all its children.
        """
        self.name = name
        self._command = command
        self._folder = folder
        self._banner = banner.encode()
        self._ending = ending
        self._popen: subprocess.Popen[bytes] | None = None
        self._log_start = 0
        self._serves = False

    @property
    def pid(self) -> int | None:
        """None: it is dead."""
        alive = self._popen is not None and self._popen.poll() is None
        return self._popen.pid if alive and self._popen is not None else None

    @property
    def state(self) -> str:
        """`dead`, `starting` or `serving`."""
        if self.pid is None:
            return "dead"
        self._serves = self._serves or self._banner in self._logged()
        return "serving" if self._serves else "starting"

    def start(self) -> None:
        """Does nothing if it lives."""
        if self.pid is not None:
            return
        self._serves = False
        with self._log.open("ab") as log:
            self._log_start = log.tell()
            self._popen = subprocess.Popen(
                [sys.executable, "-m", "apps.demo.bound", str(int(self._ending)), *self._command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                env=_environment(self._folder),
                process_group=0,  # a Ctrl-C is for the control server alone
            )

    def kill(self) -> None:
        """kill -9. Does nothing if it is dead."""
        if self._popen is not None:
            self._popen.kill()
            self._popen.wait()

    def end(self) -> None:
        """For good, with its children."""
        if self._popen is None:
            return
        self._popen.send_signal(self._ending)
        try:
            self._popen.wait(END_S)
        except subprocess.TimeoutExpired:
            self.kill()

    async def ready(self) -> None:
        """Wait until it serves. Raises DemoError."""
        deadline = time.monotonic() + START_S
        while self.state != "serving":
            if self.state == "dead" or time.monotonic() > deadline:
                last = self._logged().decode(errors="replace").strip().splitlines()[-1:]
                raise DemoError(f"{self.name} does not start: {''.join(last) or 'it said nothing'}")
            await asyncio.sleep(LOOK_S)

    @property
    def _log(self) -> Path:
        return self._folder / f"{self.name}.log"

    def _logged(self) -> bytes:
        """Since it was started last."""
        with self._log.open("rb") as log:
            log.seek(self._log_start)
            return log.read()


def _environment(folder: Path) -> dict[str, str]:
    """Of all processes. What is set for other servers and gateways is not for these."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("TRICKLES_")}
    return inherited | {
        PARENT: str(os.getpid()),
        "PYTHONPATH": str(ROOT),
        "SITE_CACHE_DIR": str(folder),
        "TRICKLES_TOKENS": "off",
    }


async def start_all(processes: Iterable[Process]) -> None:
    """All at once; they serve. Raises DemoError."""
    started = list(processes)
    for process in started:
        process.start()
    await asyncio.gather(*(process.ready() for process in started))
