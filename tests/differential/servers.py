"""uvicorn as it comes, beside which the product is held."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.net.processes import ROOT, Running

ORDER = {"PYTHONHASHSEED": "0"}
"""Starlette writes Allow in the order of a set."""


@contextlib.contextmanager
def uvicorn(
    directory: Path, application: str, parser: str, websockets: str = "none"
) -> Iterator[int]:
    """TCP port of a uvicorn that serves `application`; killed at the end."""
    stdout, stderr = directory / "uvicorn-stdout", directory / "uvicorn-stderr"
    arguments = [application, "--port", "0", "--http", parser, "--ws", websockets]
    with stdout.open("wb") as out, stderr.open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", *arguments],
            stdout=out,
            stderr=err,
            cwd=directory,
            env=os.environ | ORDER | {"PYTHONPATH": str(ROOT)},
        )
    try:
        running = Running(process, stdout, stderr)
        yield int(running.says(r"running on http://127\.0\.0\.1:(\d+) ")[1])
    finally:
        process.kill()
        process.wait()
