"""A client's line: so many bytes a second, and a short queue before it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

QUEUE = 8
"""Datagrams; what comes beyond is lost. Senders find out by that how fast the line is."""


class Line:
    """Hands datagrams on to `send`, at its rate; until `close`."""

    def __init__(self, rate: int, send: Callable[[bytes], None]) -> None:
        """rate: bytes a second."""
        self._loop = asyncio.get_running_loop()
        self._rate = rate
        self._send = send
        self._queue: deque[bytes] = deque()
        self._free_at = 0.0
        """When the line has done with what was sent last, in the loop's seconds."""
        self._timer: asyncio.TimerHandle | None = None

    def put(self, datagram: bytes) -> None:
        """It is sent when its turn comes, or lost."""
        if len(self._queue) == QUEUE:
            return
        self._queue.append(datagram)
        if self._timer is None:
            self._pass()

    def close(self) -> None:
        """What waits is lost."""
        self._queue.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _pass(self) -> None:
        """Send what is due; a loop that was busy may be late, and then sends several."""
        now = self._loop.time()
        while self._queue and self._free_at <= now:
            datagram = self._queue.popleft()
            started = self._free_at if self._timer is not None else now
            self._free_at = started + len(datagram) / self._rate
            self._send(datagram)
        self._timer = self._loop.call_at(self._free_at, self._pass) if self._queue else None
