"""Round-trip time, from the client's own clock (RFC 6298, RFC 9002 §5)."""

from __future__ import annotations

from typing import Final

GRANULARITY: Final = 0.002
"""Seconds. Below this a process that was not scheduled looks like a lost packet."""
SCHEDULING: Final = 0.01
"""Seconds for which a process that is ready may have to wait for a core."""
SERVER_DELAY: Final = 0.02
"""Seconds a server may think before it says WAIT, and be told from one that is gone."""
INITIAL: Final = 0.1
"""Seconds, before the first sample."""
MOST_MISTAKES: Final = 4
"""Of those that count: one round trip."""
LONGEST_PROBE: Final = 2.0
"""Seconds between probes at most: a server that restarts should be noticed soon."""


class RoundTrip:
    """Smoothed estimate, in seconds."""

    __slots__ = ("_mistakes", "_probe", "_smoothed", "_variation")

    def __init__(self) -> None:
        self._smoothed = 0.0
        self._variation = 0.0
        self._probe = 2 * INITIAL
        self._mistakes = 0

    @property
    def known(self) -> bool:
        return self._smoothed > 0

    @property
    def estimate(self) -> float:
        return self._smoothed or INITIAL

    def sample(self, seconds: float) -> None:
        """RFC 6298 §2."""
        if not self._smoothed:
            self._smoothed = seconds
            self._variation = seconds / 2
        else:
            self._variation += (abs(self._smoothed - seconds) - self._variation) / 4
            self._smoothed += (seconds - self._smoothed) / 8
        if self._smoothed:
            self._probe = self._smoothed + max(4 * self._variation, GRANULARITY) + SERVER_DELAY

    def probe_timeout(self, attempt: int) -> float:
        """RFC 9002 §6.2.1, doubled with each attempt."""
        return min(self._probe * (1 << attempt), max(LONGEST_PROBE, self._probe))

    @property
    def reordering(self) -> float:
        """How long a packet may come after one that was sent later (RFC 9002 §6.1.2)."""
        return self.estimate + max(self.estimate / 8, GRANULARITY)

    def mistaken(self) -> None:
        """A packet has come whose loss was reported."""
        self._mistakes = min(self._mistakes + 1, MOST_MISTAKES)

    @property
    def spread(self) -> float:
        """The same where replicas answer side by side: as far apart as round trips have been, and
        with each mistake a quarter of one more (RFC 8985 §6.2).
        """
        return max(self._probe - SERVER_DELAY, self.estimate * (1 + self._mistakes / 4))

    def silence(self, more: bool) -> float:
        """How long a promised packet may come after the last that arrived; `more`: later ones are
        to follow, which would tell of its loss. Without them silence is all that there is to tell.
        """
        return self._probe - SERVER_DELAY if more else max(self.estimate / 4, SCHEDULING)

    @property
    def merging(self) -> float:
        """How long a small claim waits for the next burst."""
        return self.estimate / 8
