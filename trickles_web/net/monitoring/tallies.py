"""What all processes of a server have counted, by worker: also those that are gone.

    a process is heard     its newest reading takes the place of the one before
    a process is gone      its last reading stays in its worker's sums, and its gauges vanish

So counts of a worker only grow, whoever is the worker. What a killed process has counted since it
was last heard is lost.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field

from trickles_web.net.monitoring.readings import Counts, Reading


@dataclass(slots=True)
class Tally:
    """One worker."""

    name: str
    pid: int = 0
    """Of the process that was heard last; 0: there is none."""
    at: float = 0.0
    """When that was (monotonic seconds)."""
    restarts: int = 0
    """Processes that died of themselves, or were killed, and were replaced."""
    counts: Counts = field(default_factory=Counter)
    gauges: Counter[str] = field(default_factory=Counter)


class Tallies:
    """Told by one thread, read by another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tallies: dict[str, Tally] = {}
        """With the counts of those who are gone only."""
        self._living: dict[int, tuple[str, Reading]] = {}
        """By process id."""

    def heard(self, name: str, pid: int, reading: Reading) -> None:
        with self._lock:
            self._of(name)
            before = self._living.get(pid)
            if before is None or before[1].at <= reading.at:
                self._living.pop(pid, None)
                self._living[pid] = name, reading

    def gone(self, pid: int) -> None:
        with self._lock:
            name, reading = self._living.pop(pid, ("", None))
            if reading is not None:
                self._of(name).counts.update(reading.counts)

    def restarted(self, name: str) -> None:
        with self._lock:
            self._of(name).restarts += 1

    def all(self) -> list[Tally]:
        """A copy, by the order in which they came."""
        with self._lock:
            sums = {
                name: Tally(name, restarts=one.restarts, counts=one.counts.copy())
                for name, one in self._tallies.items()
            }
            for pid, (name, reading) in self._living.items():  # who was heard last comes last
                tally = sums[name]
                tally.pid, tally.at = pid, reading.at
                tally.counts.update(reading.counts)
                tally.gauges.update(reading.gauges)
            return list(sums.values())

    def _of(self, name: str) -> Tally:
        return self._tallies.setdefault(name, Tally(name))


def alone(pid: int, reading: Reading) -> list[Tally]:
    """The same of a process that is a server by itself."""
    return [Tally("1", pid, reading.at, 0, reading.counts, Counter(reading.gauges))]
