"""The access log: what was asked for, and what came of it.

uvicorn   a line as soon as the status is known, with uvicorn's arguments
json      the same at the end of the call, and the record knows `bytes` and `duration_ms` too
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trickles_web.http.scope import full_path

if TYPE_CHECKING:
    from trickles_web.config import HttpConfig
    from trickles_web.http.run import Run

logger = logging.getLogger("trickles.access")


@dataclass(slots=True)
class _Call:
    began: float
    """Monotonic seconds."""
    status: int = 0
    """0: not known yet."""


class AccessLog:
    """Writes the lines of HTTP requests. WebSockets are the error log's, as they are uvicorn's."""

    def __init__(self, config: HttpConfig) -> None:
        self.at_end = config.access_log and config.access_log_format == "json"
        """Lines are written when calls end: `begin` and `end` are to be called."""
        self.on = config.access_log
        self._calls: dict[Run, _Call] = {}

    def begin(self, run: Run) -> None:
        """The application is about to be called."""
        if logger.isEnabledFor(logging.INFO):
            self._calls[run] = _Call(time.perf_counter())

    def started(self, run: Run, status: int) -> None:
        """The status is known. Only if `on`."""
        if self.at_end:
            call = self._calls.get(run)
            if call is not None:
                call.status = status
        elif logger.isEnabledFor(logging.INFO) and run.scope["type"] == "http":
            _write(run, status, None)

    def end(self, run: Run) -> None:
        """The call has returned."""
        call = self._calls.pop(run, None)
        if call is not None and call.status and run.scope["type"] == "http":
            end = None if run.outcome is None else run.outcome.end
            size = (run.available if end is None else end) - run.start
            took = round((time.perf_counter() - call.began) * 1000, 3)
            _write(run, call.status, {"bytes": size, "duration_ms": took})


def _write(run: Run, status: int, more: dict[str, Any] | None) -> None:
    scope = run.scope
    logger.info(
        '%s - "%s %s HTTP/%s" %d',
        "{}:{}".format(*scope["client"]),
        scope["method"],
        full_path(scope),
        scope["http_version"],
        status,
        extra=more,
    )
