"""When a flow is given up: how long servers may be silent, before they were heard and after."""

from __future__ import annotations

from trickles_web.config import ClientConfig
from trickles_web.errors import ConnectError, FlowError, FlowTimeout


class Patience:
    """Times are monotonic seconds. `heard`: the last good news of a server; None: never any."""

    __slots__ = ("_config", "_started", "_unreachable", "heard")

    def __init__(self, config: ClientConfig, now: float) -> None:
        self.heard: float | None = None
        self._config = config
        self._started = now
        self._unreachable: float | None = None

    def begin(self, now: float) -> None:
        """An exchange begins."""
        if self.heard is None:
            self._started = now
        else:
            self.heard = now

    def rest(self, now: float) -> None:
        """Nothing is due from a server that was heard before: silence is counted from here."""
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
            return self.heard + self._config.silence_timeout_s
        limit = self._started + self._config.connect_timeout_s
        if self._unreachable is not None:
            limit = min(limit, self._unreachable + self._config.refused_patience_s)
        return limit

    def error(self) -> FlowError:
        """What the flow then fails with."""
        if self.heard is not None:
            return FlowTimeout(
                f"no server has gone on with this flow for {self._config.silence_timeout_s:g} s"
            )
        if self._unreachable is not None:
            return ConnectError("connection refused")
        return ConnectError(f"no answer within {self._config.connect_timeout_s:g} s")
