"""Keeps of a folder of inputs what reaches something that no shorter one does, beside what is kept:

python -m tests.fuzz.keep TARGET FOLDER
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from tests.fuzz import corpora
from tests.fuzz.targets import PACKAGE, TARGETS, Target

Step = tuple[str, int, int]
"""File, and two lines of which the second was run after the first."""


def reached(target: Target, data: bytes) -> set[Step]:
    """In the package."""
    found: set[Step] = set()
    within = str(PACKAGE)

    def enter(frame: FrameType, event: str, argument: Any) -> Any:
        file = frame.f_code.co_filename
        if not file.startswith(within):
            return None
        line = 0

        def step(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal line
            found.add((file, line, frame.f_lineno))
            line = frame.f_lineno
            return step

        return step(frame, event, argument)

    sys.settrace(enter)
    try:
        target.run(data)
    finally:
        sys.settrace(None)
    return found


def main(name: str, folder: str) -> None:
    target = TARGETS[name]
    inputs = {*corpora.load(name), *(file.read_bytes() for file in Path(folder).iterdir())}
    known: set[Step] = set()
    kept = []
    for data in sorted(inputs, key=lambda data: (len(data), data)):
        new = reached(target, data) - known
        if new:
            known |= new
            kept.append(data)
    corpora.save(name, kept)
    print(f"{name}: {len(kept)} of {len(inputs)} inputs, {len(known)} steps from line to line")


if __name__ == "__main__":
    logging.disable()
    main(*sys.argv[1:])
