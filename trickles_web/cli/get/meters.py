"""Progress on a terminal: a line for each transfer, or one for all that run at a time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Iterator
from time import monotonic

from trickles_web.cli.get.options import STDIO, Options
from trickles_web.client.progress import Progress

STALL_REDRAW_S = 0.5


class Meter:
    """One transfer's. Bytes of the body, from its beginning in the file on."""

    def __init__(self, meters: Meters) -> None:
        self._meters = meters
        self.done = 0
        self.total: int | None = None

    def advance(self, done: int, total: int | None) -> None:
        self.done, self.total = done, total
        self._meters.draw()


class Meters:
    """Of a run. Draws nothing where nobody would see it, or where it would disturb."""

    def __init__(self, options: Options) -> None:
        to_terminal = os.isatty(1) and any(job.output == STDIO for job in options.jobs)
        hidden = options.silent or options.asking.head or to_terminal or not sys.stderr.isatty()
        self._count = len(options.jobs)
        self._together = options.limits.parallel > 1 and self._count > 1
        self._shown = not hidden
        self._meters: list[Meter] = []
        self._ended = 0
        self._progress: Progress | None = None

    @contextlib.contextmanager
    def transfer(self) -> Iterator[Meter]:
        """One transfer from its beginning to its end."""
        meter = Meter(self)
        if not self._together:
            self._meters.clear()
        self._meters.append(meter)
        try:
            yield meter
        finally:
            self._ended += 1
            if not self._together:
                self.close()

    def draw(self) -> None:
        if not self._shown:
            return
        done = sum(meter.done for meter in self._meters)
        if self._progress is None:
            self._progress = Progress(sys.stderr, None, monotonic, done)
        totals = [meter.total for meter in self._meters]
        everything = not self._together or len(totals) == self._count
        known = [total for total in totals if total is not None]
        self._progress.total = sum(known) if everything and len(known) == len(totals) else None
        if self._together:
            self._progress.label = f"{self._ended}/{self._count}  "
        self._progress.advance(done)

    def close(self) -> None:
        """Leave the last state on its line."""
        if self._progress is not None:
            if self._together:
                self.draw()
            self._progress.close()
            self._progress = None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Redraws while transfers stall, too."""

        async def redraw() -> None:
            while True:
                await asyncio.sleep(STALL_REDRAW_S)
                if self._progress is not None:
                    self._progress.draw()

        task = asyncio.get_running_loop().create_task(redraw())
        try:
            yield
        finally:
            task.cancel()
            self.close()
