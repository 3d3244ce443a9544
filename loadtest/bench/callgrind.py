"""Runs the hot paths of a checkout, under callgrind or natively, and reads what came of it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from loadtest.bench.meter import MARK


class BenchError(Exception):
    """What kept the paths from being measured, and what to do; for the user."""


def instructions(checkout: Path, outputs: Path, only: str) -> dict[str, float]:
    """By path, what one operation takes. `outputs`: a folder for callgrind's files.

    Raises BenchError.
    """
    command = (
        "valgrind",
        "-q",
        "--tool=callgrind",
        f"--dump-before={MARK}",
        f"--callgrind-out-file={outputs}/callgrind.out.%p",
    )
    try:
        runs = _run(checkout, command, "marks", only)
    except FileNotFoundError:
        raise BenchError("there is no valgrind; as root run: apt-get install valgrind") from None
    return {run["path"]: measured(outputs, run["pid"]) / run["operations"] for run in runs}


def microseconds(checkout: Path, only: str) -> dict[str, float]:
    """By path, the CPU time of one operation, natively. Raises BenchError."""
    return {run["path"]: run["microseconds"] for run in _run(checkout, (), "time", only)}


def version() -> str:
    """Valgrind's. Raises BenchError."""
    try:
        found = subprocess.run(("valgrind", "--version"), capture_output=True, text=True)
    except FileNotFoundError:
        raise BenchError("there is no valgrind; as root run: apt-get install valgrind") from None
    return found.stdout.strip()


def _run(checkout: Path, command: tuple[str, ...], mode: str, only: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        (*command, sys.executable, "-m", "loadtest.bench.run", mode, only),
        cwd=checkout,
        # Nothing of the user's: the size of the environment alone moves the stack.
        env={"PATH": os.defpath, "PYTHONHASHSEED": "0", "PYTHONPATH": str(checkout)},
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        raise BenchError(f"the paths of {checkout} cannot be measured; what is wrong stands above")
    return [json.loads(line) for line in done.stdout.splitlines()]


def measured(outputs: Path, pid: int) -> int:
    """Instructions between the marks: of what was written at each mark, every second one."""
    total = 0
    dumps = len(list(outputs.glob(f"callgrind.out.{pid}.*")))
    for number in range(2, dumps + 1, 2):
        total += _total((outputs / f"callgrind.out.{pid}.{number}").read_text())
    return total


def _total(text: str) -> int:
    found = re.search(r"^totals: (\d+)", text, re.MULTILINE)
    if found is None:
        raise BenchError("callgrind's files have no totals; is this another valgrind?")
    return int(found[1])
