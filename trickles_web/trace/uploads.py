"""UPLOADs and what acknowledges them, many in one line."""

from __future__ import annotations

from trickles_web.trace.words import span
from trickles_web.transport import wire

LINE_S = 0.1
"""Of an upload, in a line at most."""


class Uploads:
    """Those that no line was told of yet."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._began = 0.0
        self._sent = self._taken = 0
        self._bytes = 0
        self._low = self._high = -1
        self._held = -1

    def sent(self, upload: wire.Upload, now: float) -> None:
        self._begin(now)
        stop = upload.offset + len(upload.request)
        self._low = upload.offset if self._low < 0 else min(self._low, upload.offset)
        self._high = max(self._high, stop)
        self._sent += 1
        self._bytes += len(upload.request)

    def acknowledged(self, ack: wire.Ack, now: float) -> None:
        self._begin(now)
        self._taken += len(ack.numbers)
        self._held = max(self._held, ack.held)

    def _begin(self, now: float) -> None:
        if not (self._sent or self._taken):
            self._began = now

    def long(self, now: float) -> bool:
        return now - self._began >= LINE_S

    def told(self) -> str:
        """Empty if there are none; they are told of then."""
        parts = []
        if self._sent:
            where = span(self._low, self._high)
            parts.append(f"{self._sent:,} with {self._bytes:,} request bytes of {where}")
        if self._taken:
            parts.append(f"{self._taken:,} acknowledged, request held to {self._held:,}")
        self._clear()
        return "; ".join(parts)
