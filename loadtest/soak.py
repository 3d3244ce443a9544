"""Scenario: an hour of mixed load, over Trickles and through a gateway: does anything grow?

Two workers on a run directory, and a gateway; clients that rest between exchanges, so that the
machine is not busy and what is measured is what is kept. What is left after the warm-up, a third of
the time, must be flat: memory, descriptors, and how long a small answer takes.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from loadtest import mixture
from loadtest.chaos import Exchange, told
from loadtest.measure import family
from loadtest.mixed import FILE_BYTES, PATIENCE_S
from loadtest.processes import BANNER, Process, Stage, free_udp_port
from loadtest.report import Options, Report

SECONDS, QUICK_SECONDS = 3600.0, 30.0
EVERY_S, QUICK_EVERY_S = 10.0, 1.0
PAUSE_S = 1.0
"""Of each of 48 connections of either client, after an exchange."""
MOST_GROWTH_MB = 10.0
"""Of one process, by the slope over what follows the warm-up, from its beginning to its end;"""
QUICK_GROWTH_MB = 30.0
"""in the short form, where answers are still kept for their first 60 s."""
MOST_DESCRIPTORS = 10
"""The same for descriptors: some are in use at any time."""
MOST_DRIFT = 2.0
"""Median time of small answers, last third against the second; other work shares the machine."""


class Sample(NamedTuple):
    at: float
    rss_mb: float
    descriptors: int


@dataclass(slots=True)
class Watched:
    """One process."""

    name: str
    pid: int
    samples: list[Sample] = field(default_factory=list)

    def look(self, now: float) -> None:
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found is not None
        descriptors = len(os.listdir(f"/proc/{self.pid}/fd"))
        self.samples.append(Sample(now, int(found[1]) / 1000, descriptors))


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Least squares: what y grows by with each x."""
    xs, ys = zip(*points, strict=True)
    return statistics.linear_regression(xs, ys).slope


def run(options: Options) -> Report:
    quick = options.quick
    seconds, every = (QUICK_SECONDS, QUICK_EVERY_S) if quick else (SECONDS, EVERY_S)
    report = Report()
    with Stage() as stage:
        (stage.directory / "file.bin").write_bytes(mixture.content(0, FILE_BYTES))
        (stage.directory / "executions").touch()
        stage.environment |= {
            mixture.FILES: str(stage.directory),
            mixture.EXECUTIONS: str(stage.directory / "executions"),
        }
        port = free_udp_port()
        words = ("loadtest.mixture:app", "--port", str(port), "--workers", "2", "--no-access-log")
        server = stage.python("server", "trickles_web.cli.serve", *words)
        server.says(BANNER)
        gateway, tcp = stage.start_gateway(port)
        watched = [Watched(f"worker {n}", pid) for n, pid in enumerate(family(server.pid)[1:], 1)]
        watched.append(Watched("gateway", gateway.pid))
        began = time.monotonic()
        clients = [
            _client(stage, client, where, seconds, seed)
            for seed, (client, where) in enumerate((("flow", port), ("streams", tcp)))
        ]
        _watch(watched, clients, every, began + seconds)
        seen = [_exchanges(client) for client in clients]
        report.check(server.end() == 0 and gateway.end() == 0, "all end cleanly")
        report.check("Traceback" not in server.log + gateway.log, "no traceback")
    for process in watched:
        _judge(report, process, began + seconds / 3, QUICK_GROWTH_MB if quick else MOST_GROWTH_MB)
    for name, exchanges in zip(("Trickles", "gateway"), seen, strict=True):
        _answers(report, name, exchanges, began, seconds)
    return report


def _client(stage: Stage, client: str, port: int, seconds: float, seed: int) -> Process:
    words = (client, str(port), str(10**9), str(seconds), str(seed), str(stage.directory))
    return stage.python(f"client{seed}", "loadtest.mixed", *words, str(PAUSE_S))


def _watch(watched: list[Watched], clients: list[Process], every_s: float, until: float) -> None:
    """Look at the processes while there is load, then wait for the clients."""
    while (now := time.monotonic()) < until:
        for process in watched:
            process.look(now)
        time.sleep(every_s)
    for client in clients:
        with contextlib.suppress(Exception):
            client.popen.wait(PATIENCE_S)


def _exchanges(client: Process) -> list[Exchange]:
    if client.popen.poll() != 0:
        raise RuntimeError(f"a client failed: {client.log[-1000:]}")
    return [Exchange(*json.loads(line)) for line in re.findall(r"(?m)^\[.*\]$", client.log)]


def _judge(report: Report, process: Watched, since: float, most_mb: float) -> None:
    """Growth, from the slope of what followed the warm-up."""
    samples = [sample for sample in process.samples if sample.at >= since]
    lasted = samples[-1].at - samples[0].at
    grown = lasted * slope([(sample.at, sample.rss_mb) for sample in samples])
    opened = lasted * slope([(sample.at, float(sample.descriptors)) for sample in samples])
    last = samples[-1]
    memory = f"{last.rss_mb:.1f} MB, {grown:+.1f} MB in {lasted:.0f} s"
    _add(report, f"{process.name}: memory", memory, grown <= most_mb)
    descriptors = f"{last.descriptors}, {opened:+.1f} in {lasted:.0f} s"
    _add(report, f"{process.name}: descriptors", descriptors, opened <= MOST_DESCRIPTORS)


def _answers(report: Report, name: str, seen: list[Exchange], began: float, seconds: float) -> None:
    wrong = [exchange for exchange in seen if exchange.outcome != "right"]
    _add(report, f"{name}: {len(seen):,} exchanges", told(seen), not wrong)
    small = [(e.began - began, e.ended - e.began) for e in seen if e.kind == "small"]
    thirds = [
        statistics.median([s for at, s in small if low <= at * 3 / seconds < low + 1])
        for low in (1, 2)
    ]
    figure = f"median {thirds[0] * 1000:.2f} ms, then {thirds[1] * 1000:.2f} ms"
    _add(report, f"{name}: small answers", figure, thirds[1] <= MOST_DRIFT * thirds[0])


def _add(report: Report, what: str, figure: str, held: bool) -> None:
    verdict = "held" if held else "MISSED"
    report.attack(f"soak, {what}", 1, figure, verdict)
    report.check(held, f"{what}: {figure}")
