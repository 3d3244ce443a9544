"""What the project promises, and how a measured figure is judged."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """`what` is measured, in `unit`; the median has to be within [low, high]."""

    what: str
    unit: str
    low: float = -math.inf
    high: float = math.inf

    def met(self, median: float) -> bool:
        return self.low <= median <= self.high

    @property
    def wanted(self) -> str:
        """The target in words."""
        if self.low == -math.inf:
            return f"at most {self.high:g} {self.unit}".strip()
        if self.high == math.inf:
            return f"at least {self.low:g} {self.unit}".strip()
        return f"{self.low:g} to {self.high:g} {self.unit}".strip()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was measured for a target, one value a round."""

    values: tuple[float, ...]
    met: bool

    @property
    def median(self) -> float:
        return statistics.median(self.values)


_GET = "small GET on open flows, requests per server-CPU-second, beside uvicorn with the same"

TARGETS = {
    "get-h11": Target(f"{_GET}: h11, uvloop", "times", low=1.5),
    "get-httptools": Target(f"{_GET}: httptools, uvloop", "times", low=1.5),
    "get-h11-asyncio": Target(f"{_GET}: h11, asyncio", "times", low=1.5),
    "get-httptools-asyncio": Target(f"{_GET}: httptools, asyncio", "times", low=1.5),
    "connections": Target(
        "a new flow for every request (returning client), per server-CPU-second, beside uvicorn "
        "with httptools and Connection: close",
        "times",
        low=4,
    ),
    **{
        f"private-{mode}-{http}": Target(
            f"private flows: {what}, {http}, for each server-CPU-second, beside uvicorn with TLS",
            "times",
            low=low,
        )
        for http in ("h11", "httptools")
        for mode, what, low in (
            ("get", "small GET on open ones", 1.5),
            ("new", "a new one for every request of a returning client", 6.0),
            ("stranger", "a new one for every request of a stranger", 6.0),
        )
    },
    "latency-p50": Target("one client, median latency, beside uvicorn", "times", high=0.7),
    "first-byte-returning": Target(
        "time to first byte on a new flow, returning client", "round trips", high=1.25
    ),
    "first-byte-stranger": Target(
        "time to first byte on a new flow, stranger", "round trips", high=2.25
    ),
    "bulk-clean": Target(
        "bulk, clean 1 Gbit/s, 20 ms round trip, beside TCP's goodput", "times", low=0.95
    ),
    **{
        f"bulk-loss-{loss:g}": Target(
            f"bulk under {loss:g}% loss, 100 Mbit/s, 20 ms, beside TCP Reno",
            "times",
            low=0.85,
            high=1.15,
        )
        for loss in (0.1, 1, 2)
    },
    **{
        f"sharing-{control}-{flows}": Target(
            f"share of a bottleneck with {flows} TCP flow{'s' * (flows > 1)} ({control}), "
            "to the fair one",
            "times",
            low=0.8,
            high=1.25,
        )
        for control in ("reno", "cubic")
        for flows in (1, 2, 4, 8)
    },
    "striped": Target(
        "one file from 3 replicas, each behind a link of 50 Mbit/s, beside one of them",
        "times",
        low=2.7,
    ),
    "capacity": Target("bulk on loopback, one server core", "MB per CPU second", low=800),
    "idle-memory": Target("growth of RSS by 100,000 open idle flows", "MB", high=2),
    "fail-over-errors": Target(
        "kill -9 of one of 3 replicas, packets sprayed: errors and wrong bytes", "", high=0
    ),
    "fail-over-stall": Target(
        "kill -9 of one of 3 replicas, packets sprayed: longest stall", "probe timeouts", high=2
    ),
    "rolling-restart": Target(
        "rolling restart under load, 15,000 requests: failed ones", "", high=0
    ),
}
"""By the name that scenarios use. Several may stand for one promise, one for each condition."""


def judge(name: str, values: Sequence[float]) -> Verdict:
    """Raises KeyError for what is no target, ValueError for no values."""
    if not values:
        raise ValueError(f"nothing was measured for {name}")
    return Verdict(tuple(values), TARGETS[name].met(statistics.median(values)))
