"""Scenario: floods at a live server that serves honest clients meanwhile; bad datagrams' costs."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtest import peers
from loadtest.flooding import RERUNS
from loadtest.idle import memory_kb
from loadtest.measure import client_core
from loadtest.processes import Process, Stage
from loadtest.rejection import ANSWERED, costs
from loadtest.report import Options, Report

SECONDS, QUICK_SECONDS = 8.0, 3.0
SETTLED_S = 1.0
"""The attack begins so much earlier than the honest clients, and ends as much later."""
LEAST_SERVED = 0.99
MOST_P99_MS = 1_000.0
"""Of open flows under attack: what a person would call an answer."""
MOST_GROWN_MB = 150.0
"""Resident memory after an attack: a server may hold a bounded store, see `HttpConfig`."""
MOST_DESCRIPTORS = 600
HOST = "127.0.0.1"
APP = "apps.site:app"
ACCOMPLICE = ("--store=memory",)
"""Options of a replica that shares the secret, and no response."""
PAGE = "/static/site.css"
CAPACITY = 12_000.0
"""HELLOs a second that one process answered on the machine where this was written."""
UDP_ATTACKS = {
    "HELLOs": 2 * CAPACITY,
    "garbage": CAPACITY,
    "replays": CAPACITY,
    "uploads": 60.0,
    "slow writers": 200.0,
    "parked": 200.0,
    "claims": 200.0,
    "slow readers": 200.0,
    "abandoned GETs": 200.0,
    "huge heads": 40.0,
    "re-runs": 200.0,
    "spool fills": 8.0,
    "event streams": 200.0,
}
TCP_ATTACKS = {
    "TCP connections": 1_000.0,
    "TCP slowloris": 200.0,
    "TCP slow readers": 200.0,
    "TCP huge heads": 40.0,
    "TCP spool fills": 8.0,
    "TCP event streams": 200.0,
}


@dataclass(frozen=True, slots=True)
class Served:
    """How some honest clients were served: a share, and milliseconds."""

    share: float
    p99: float
    asked: int

    @classmethod
    def of(cls, found: dict[str, Any]) -> Served:
        waits = sorted(found["waits"])
        asked = len(waits) + found["failed"]
        p99 = waits[len(waits) * 99 // 100] if waits else float("inf")
        return cls(len(waits) / max(1, asked), p99, asked)


@dataclass(frozen=True, slots=True)
class Outcome:
    kept: Served
    """Clients with open flows or connections,"""
    new: Served
    """and those that open one for each request."""
    grown_mb: float
    descriptors: int
    sent: int


def run(options: Options) -> Report:
    report = Report()
    seconds = QUICK_SECONDS if options.quick else SECONDS
    _costs(report)
    for server, attacks in (
        (peers.Server("trickles", "httptools", "uvloop"), UDP_ATTACKS),
        (peers.Server("uvicorn", "httptools", "uvloop"), TCP_ATTACKS),
    ):
        for name, rate in attacks.items():
            calm, attacked = assault(server, name, rate, seconds)
            _tell(report, server, name, calm, attacked)
    return report


def assault(
    server: peers.Server, name: str, rate: float, seconds: float
) -> tuple[Outcome, Outcome]:
    """A server of its own, without the attack and under it. RuntimeError if it does not live."""
    with Stage() as stage:
        stage.environment["SITE_CACHE_DIR"] = str(stage.directory)
        running = peers.start(stage, server, APP)
        calm = _outcome(stage, running, "", 0.0, seconds)
        attacked = _outcome(stage, running, name, rate, seconds)
        if running.process.popen.poll() is not None or "Traceback" in running.process.log:
            raise RuntimeError(f"{server.name} under {name}:\n{running.process.log[-2000:]}")
        return calm, attacked


def _outcome(
    stage: Stage, running: peers.Running, attack: str, rate: float, seconds: float
) -> Outcome:
    pid, attacker = running.process.pid, None
    before = memory_kb(pid)["Rss"]
    if attack:
        words = (attack, HOST, str(running.port), str(seconds + 2 * SETTLED_S), str(rate))
        if attack == RERUNS:  # another replica begins what this one is to run again
            words += (str(peers.start(stage, running.server, APP, ACCOMPLICE, pinned=False).port),)
        attacker = stage.python("attacker", "loadtest.flooding", *words, before=client_core())
        with_patience(attacker, SETTLED_S)
    client = "flow" if running.server.udp else "tcp"
    words = (client, HOST, str(running.port), PAGE, str(seconds))
    honest = stage.python("honest", "loadtest.honest", *words, before=client_core())
    found = json.loads(honest.says(r"(?m)^\{.*\}$")[0])
    descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    sent = int(attacker.says(r"(?m)^\d+$")[0]) if attacker is not None else 0
    grown = (memory_kb(pid)["Rss"] - before) / 1000
    return Outcome(Served.of(found["open"]), Served.of(found["new"]), grown, descriptors, sent)


def with_patience(attacker: Process, seconds: float) -> None:
    """Let it begin. RuntimeError if it cannot."""
    try:
        attacker.popen.wait(seconds)
    except subprocess.TimeoutExpired:
        return
    raise RuntimeError(f"the attacker ended:\n{attacker.log}")


def _tell(
    report: Report, server: peers.Server, name: str, calm: Outcome, attacked: Outcome
) -> None:
    kept, new = attacked.kept, attacked.new
    ours = server.udp
    good = kept.share >= LEAST_SERVED and kept.p99 <= MOST_P99_MS
    flat = attacked.grown_mb <= MOST_GROWN_MB and attacked.descriptors <= MOST_DESCRIPTORS
    what = f"{name.removeprefix('TCP ')} at {server.program}"
    figure = (
        f"open flows {kept.share:.2%} served, p99 {kept.p99:.0f} ms (calm {calm.kept.p99:.0f}); "
        f"new ones {new.share:.1%}, p99 {new.p99:.0f} ms (calm {calm.new.p99:.0f}); "
        f"RSS +{attacked.grown_mb:.0f} MB; descriptors {calm.descriptors} -> "
        f"{attacked.descriptors}"
    )
    verdict = "for comparison" if not ours else "holds" if good and flat else "MISSED"
    report.attack(what, attacked.sent, figure, verdict)
    if ours:
        report.check(kept.share >= LEAST_SERVED, f"{name}: open flows served, {kept.share:.2%}")
        report.check(kept.p99 <= MOST_P99_MS, f"{name}: p99 of open flows, {kept.p99:.0f} ms")
        report.check(attacked.grown_mb <= MOST_GROWN_MB, f"{name}: memory flat")
        report.check(attacked.descriptors <= MOST_DESCRIPTORS, f"{name}: descriptors bounded")


def _costs(report: Report) -> None:
    """A refusal must cost no more than what is good: a small request that is answered, or the
    dearest claim there is, for what pretends to be that.
    """
    found = costs()
    answered = next(cost.microseconds for cost in found if cost.what == ANSWERED)
    dearest = max(cost.microseconds for cost in found if cost.good)
    for cost in found:
        cheap = cost.good or cost.microseconds <= dearest
        verdict = "cheaper" if cost.microseconds <= answered else "dearer than a small answer"
        refused = f", refused as {cost.refused}" if cost.refused else ""
        figure = f"{cost.microseconds:.1f} us of CPU, {cost.bytes:,} bytes{refused}"
        told = "good" if cost.good else verdict
        report.attack(f"one datagram: {cost.what}", 1_500, figure, told)
        report.check(cheap, f"{cost.what} costs {cost.microseconds:.1f} us, more than a good one")
