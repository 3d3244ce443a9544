"""The files that comparisons serve, made anew in each run."""

from __future__ import annotations

from pathlib import Path

from apps.large_files import MEGABYTE, megabyte
from loadtest.application import BODY, FILES
from loadtest.processes import Stage

SMALL_BYTES = 1000


def make_files(stage: Stage, *megabytes: int) -> Path:
    """A folder with index.html, small.bin, and N.bin of N megabytes; servers of the stage know it.

    In memory where there is room: what is compared is not the disk.
    """
    folder = stage.directory / "files"
    folder.mkdir()
    (folder / "index.html").write_bytes(BODY)
    (folder / "small.bin").write_bytes(megabyte(0)[:SMALL_BYTES])
    for count in megabytes:
        with (folder / f"{count}.bin").open("wb") as file:
            for number in range(count):
                file.write(megabyte(number))
        assert (folder / f"{count}.bin").stat().st_size == count * MEGABYTE
    stage.environment[FILES] = str(folder)
    return folder
