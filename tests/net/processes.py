"""Real server processes for tests: started, watched through their output, and always ended."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 30.0
"""For what takes a fraction of a second on a machine that is not overloaded."""


class Running:
    """One process, and what it has written so far."""

    def __init__(self, process: subprocess.Popen[bytes], stdout: Path, stderr: Path) -> None:
        self.process = process
        self._stdout, self._stderr = stdout, stderr

    @property
    def stdout(self) -> str:
        return self._stdout.read_text()

    @property
    def stderr(self) -> str:
        return self._stderr.read_text()

    def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, f"in vain; stderr:\n{self.stderr}"
            time.sleep(0.005)

    def says(self, pattern: str) -> re.Match[str]:
        """The first match in stderr, once there is one."""
        self.until(lambda: re.search(pattern, self.stderr) or self.process.poll() is not None)
        found = re.search(pattern, self.stderr)
        assert found, f"ended without {pattern!r}; stderr:\n{self.stderr}"
        return found

    def port(self) -> int:
        """Waits until it serves."""
        return int(self.says(r"running on trickless?://\S+:(\d+) ")[1])

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)


WITHOUT = "TRICKLES_WITHOUT"
"""The one setting that tests pass on: `python -m loadtest features` leaves out what it names."""


@contextlib.contextmanager
def serving(
    directory: Path,
    *arguments: str,
    fds: tuple[int, ...] = (),
    environment: dict[str, str] | None = None,
    module: tuple[str, ...] = ("-m", "trickles_web.cli.serve"),
    stdin: int = subprocess.DEVNULL,
) -> Iterator[Running]:
    """`trickles-serve ARGUMENTS`, or another of Python's programs, with its state below
    `directory`; killed at the end.
    """
    stdout, stderr = directory / "stdout", directory / "stderr"
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("TRICKLES_") or name == WITHOUT
    }
    paths = {
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "error",
        "XDG_STATE_HOME": str(directory / "state"),
    }
    with stdout.open("ab") as out, stderr.open("ab") as err:
        process = subprocess.Popen(
            [sys.executable, *module, *arguments],
            stdin=stdin,
            stdout=out,
            stderr=err,
            cwd=directory,
            env=inherited | paths | (environment or {}),
            pass_fds=fds,
        )
    try:
        yield Running(process, stdout, stderr)
    finally:
        process.kill()
        process.wait()


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie, which its new parent may take long to reap, does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in ("Z", "X")
