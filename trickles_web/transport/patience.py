"""When a flow is given up: how long servers may be silent, before they were heard and after; and
how long an exchange may go on without coming further.

Servers that die or forget, one after the other, can all be heard, and the request be sent to each
of them, for ever. So an exchange that has come so far in some time gets as much again, and the
silence beside it, to come further. Who works on it is not hurried; but that those who do lose it
counts only so often for a beginning.
"""

from __future__ import annotations

from typing import Final

from trickles_web.config import ClientConfig
from trickles_web.errors import ConnectError, FlowError, FlowTimeout

MOST_LOST: Final = 3


class Patience:
    """Times are monotonic seconds. `heard`: the last good news of a server; None: never any."""

    __slots__ = (
        "_begun",
        "_config",
        "_furthest",
        "_gained",
        "_lost",
        "_started",
        "_unreachable",
        "_worked",
        "_working",
        "heard",
    )

    def __init__(self, config: ClientConfig, now: float) -> None:
        self.heard: float | None = None
        self._config = config
        self._started = self._begun = self._gained = now
        self._unreachable: float | None = None
        self._furthest = self._lost = 0
        self._worked, self._working = now, False

    def begin(self, now: float, offset: int) -> None:
        """An exchange begins, with this byte of the request stream."""
        self._begun = self._gained = self._worked = now
        self._furthest, self._lost, self._working = offset, 0, False
        if self.heard is None:
            self._started = now
        else:
            self.heard = now

    def reaches(self, offset: int) -> bool:
        """A server holds the request up to there: is that further than any did?"""
        before, self._furthest = self._furthest, max(self._furthest, offset)
        return offset > before

    def hears(self, now: float, *, gained: bool) -> None:
        """Good news. gained: the exchange has come further than it was, by a byte either way."""
        self.heard = now
        if gained:
            self._gained, self._lost = now, 0

    def works(self, now: float) -> None:
        """Some server is at it."""
        self.heard = self._worked = now
        self._working = True

    def loses(self, now: float) -> None:
        """A server that goes on with it has nothing of it."""
        self.heard = now
        self._lost += self._working
        self._working = False

    def rest(self, now: float) -> None:
        """Nothing is due from a server that was heard before: silence is counted from here."""
        self._gained = now
        if self.heard is not None:
            self.heard = now

    def unreachable(self, now: float) -> None:
        """Nothing listens at the server's port (ICMP): perhaps it is restarting."""
        if self.heard is None and self._unreachable is None:
            self._unreachable = now

    @property
    def limit(self) -> float:
        """When the flow is given up."""
        if self.heard is not None:
            return min(self.heard, self._reach) + self._config.silence_timeout_s
        limit = self._started + self._config.connect_timeout_s
        if self._unreachable is not None:
            limit = min(limit, self._unreachable + self._config.refused_patience_s)
        return limit

    @property
    def _reach(self) -> float:
        """Until when what was heard counts."""
        reach = 2 * self._gained - self._begun
        return reach if self._lost > MOST_LOST else max(reach, self._worked)

    def error(self) -> FlowError:
        """What the flow then fails with."""
        if self.heard is not None and self.heard <= self._reach:
            return FlowTimeout(
                f"no server has gone on with this flow for {self._config.silence_timeout_s:g} s"
            )
        if self.heard is not None:
            return FlowTimeout(
                "servers lose the request as often as it is sent; it may have been executed"
            )
        if self._unreachable is not None:
            return ConnectError("connection refused")
        return ConnectError(f"no answer within {self._config.connect_timeout_s:g} s")
