"""A stage of which the application and its test are in different processes: files say the rest."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from tests.behaviours.ways import Stage

LOOK_S = 0.005
"""Between two looks at a file."""
PATIENCE_S = 15.0


class Notes(list[Any]):
    """What an application notes, each in one write, so that processes may note at once."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file = file

    def append(self, note: Any) -> None:
        with self._file.open("ab", buffering=0) as file:
            file.write(json.dumps(note).encode() + b"\n")
        self.look()

    def look(self) -> None:
        """See what all have noted by now."""
        if self._file.exists():
            lines = self._file.read_text().splitlines()
            self[:] = [_as_noted(json.loads(line)) for line in lines]


def _as_noted(note: Any) -> Any:
    return tuple(note) if isinstance(note, list) else note


class Gate(asyncio.Event):
    """Open for all processes once it is for one."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file = file

    def set(self) -> None:
        self._file.touch()

    async def wait(self) -> bool:  # type: ignore[override]
        while not self._file.exists():
            await asyncio.sleep(LOOK_S)
        return True


class FileStage(Stage):
    """In a directory of its own."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        self.notes = Notes(directory / "notes")
        super().__init__(directory / "file", self.notes, Gate(directory / "go on"))

    async def saw(self, note: object) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while note not in self.seen:
                await asyncio.sleep(LOOK_S)
                self.notes.look()
