"""The progress line of trickles-get: percent, bytes, rate and time left, on a terminal."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from typing import TextIO

REDRAW_S = 0.1
RATE_WINDOW_S = 3.0
"""The rate shown is the mean over this long: steady to the eye, and a stall shows soon."""
STALLED_S = 1.0
BAR_CELLS = 24
DEFAULT_COLUMNS = 80
"""Where the terminal does not know its width."""
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def amount(count: float) -> str:
    """Bytes for people: "512 B", "1.5 MiB"."""
    unit = 0
    while count >= 1024 and unit < len(_UNITS) - 1:
        count /= 1024
        unit += 1
    return f"{count:.0f} {_UNITS[unit]}" if unit == 0 else f"{count:.1f} {_UNITS[unit]}"


def duration(seconds: float) -> str:
    """`m:ss` or `h:mm:ss`."""
    whole = int(seconds)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Progress:
    """Draws over one line of `out`. Times are monotonic seconds."""

    def __init__(
        self, out: TextIO, total: int | None, clock: Callable[[], float], done: int = 0
    ) -> None:
        """`done` bytes were there before."""
        self._out = out
        self.total = total
        """Bytes that are to come; None: nobody knows."""
        self.label = ""
        self._clock = clock
        now = clock()
        self._samples: deque[tuple[float, int]] = deque([(now, done)])
        self._done = done
        self._moved_at = now
        self._drawn_at = -REDRAW_S

    def advance(self, done: int) -> None:
        """`done` bytes have come so far."""
        now = self._clock()
        self._done, self._moved_at = done, now
        if now - self._drawn_at >= REDRAW_S:
            self.draw()

    def draw(self) -> None:
        """Draw now; called now and then while nothing comes, too."""
        now = self._clock()
        self._drawn_at = now
        self._samples.append((now, self._done))
        while len(self._samples) > 2 and now - self._samples[1][0] >= RATE_WINDOW_S:
            self._samples.popleft()
        text = self.label + self.line(now)
        self._out.write("\r" + text[: _columns(self._out) - 1] + "\x1b[K")
        self._out.flush()

    def line(self, now: float) -> str:
        """What is drawn, without control characters."""
        then, before = self._samples[0]
        rate = (self._done - before) / (now - then) if now > then else 0.0
        stalled = now - self._moved_at >= STALLED_S
        pace = "waiting" if stalled else f"{amount(rate)}/s"
        if not self.total:
            return f"{amount(self._done)}  {pace}"
        share = min(1.0, self._done / self.total)
        cells = int(share * BAR_CELLS)
        bar = "#" * cells + "." * (BAR_CELLS - cells)
        left = self.total - self._done
        eta = f"  {duration(left / rate)} left" if rate > 0 and left and not stalled else ""
        return (
            f"{int(share * 100):3}% [{bar}] {amount(self._done)} of {amount(self.total)}"
            f"  {pace}{eta}"
        )

    def close(self) -> None:
        """Leave the last state on its line."""
        self.draw()
        self._out.write("\n")
        self._out.flush()


def _columns(out: TextIO) -> int:
    try:
        return os.get_terminal_size(out.fileno()).columns or DEFAULT_COLUMNS
    except OSError:
        return DEFAULT_COLUMNS
