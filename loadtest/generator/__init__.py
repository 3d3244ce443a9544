"""Many Trickles clients in one process, in C: a load that the server notices first.

`main.c` and `flow.c` are compiled on demand. They follow the protocol as a client must (proofs of
receipt, claims, loss reports, attempts after silence), and check status and length of each answer.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

SOURCES = tuple(Path(__file__).with_name(name) for name in ("main.c", "flow.c"))


def compiled(directory: Path) -> Path:
    """The program, made in this directory. Raises RuntimeError where there is no compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise RuntimeError("the load generator needs a C compiler; apt-get install gcc")
    program = directory / "generator"
    words = [compiler, "-O2", "-Wall", "-o", str(program), *map(str, SOURCES), "-lm"]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")
    return program


def words(**options: str | float) -> list[str]:
    """Its command line; the names are those of its `USAGE`."""
    return [f"{name}={value}" for name, value in options.items()]


def parse(printed: str) -> dict[str, Any]:
    """What it printed at its end. Raises RuntimeError if it has not come to its end."""
    start = printed.find("{")
    try:
        found: dict[str, Any] = json.loads(printed[max(start, 0) :])
    except ValueError:
        raise RuntimeError(f"the load generator printed no result: {printed.strip()}") from None
    return found
