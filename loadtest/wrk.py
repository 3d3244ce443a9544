"""wrk, the load generator for servers on TCP: how it is called, and what it says."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass

_UNITS = {"us": 1.0, "ms": 1e3, "s": 1e6, "m": 6e7}


@dataclass(frozen=True, slots=True)
class Result:
    """`errors`: connections that failed, timeouts, and answers other than 2xx and 3xx."""

    requests: int
    bytes: float
    """As far as wrk's three digits tell."""
    seconds: float
    errors: int
    p50_us: float
    p99_us: float


def command(
    url: str, *, connections: int = 64, seconds: float = 3, headers: tuple[str, ...] = ()
) -> list[str]:
    """One thread. Raises RuntimeError where wrk is missing."""
    if shutil.which("wrk") is None:
        raise RuntimeError("the load on TCP servers needs wrk: apt-get install wrk")
    words = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency"]
    for header in headers:
        words += ["-H", header]
    return [*words, url]


def parse(printed: str) -> Result:
    """Raises RuntimeError if this is not what wrk prints at its end."""
    made = re.search(r"(\d+) requests in ([\d.]+)(us|ms|s|m), ([\d.]+)([KMGT]?)B read", printed)
    if made is None:
        raise RuntimeError(f"wrk did not come to its end: {printed.strip()}")
    sockets = re.search(
        r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", printed
    )
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", printed)
    errors = sum(map(int, sockets.groups())) if sockets else 0
    return Result(
        int(made[1]),
        float(made[4]) * 1024 ** " KMGT".index(made[5] or " "),
        float(made[2]) * _UNITS[made[3]] / 1e6,
        errors + (int(refused[1]) if refused else 0),
        _percentile(printed, 50),
        _percentile(printed, 99),
    )


def _percentile(printed: str, percent: int) -> float:
    """Microseconds; 0 if nothing was answered."""
    found = re.search(rf"^ +{percent}% +([\d.]+)(us|ms|s|m)$", printed, re.MULTILINE)
    return float(found[1]) * _UNITS[found[2]] if found else 0.0
