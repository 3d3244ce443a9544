"""Scenario: what an open idle flow costs a server in memory."""

from __future__ import annotations

import re
import time
from pathlib import Path

from loadtest.downloads import judge_logs
from loadtest.flows import Crowd
from loadtest.processes import Replica, Stage, free_udp_port
from loadtest.report import Options, Report, Row
from trickles_web.config import TransportConfig

GROWTH_LIMIT_KB = 2_000
"""Target: less than 2 MB."""
FIRST_FLOWS = 100
_CONFIG = TransportConfig()
FILTER_SPAN_S = (_CONFIG.replay_horizon_ms + 2 * _CONFIG.clock_skew_ms) / 1000 + 5
"""After so long the two replay filters have taken turns: the second one is in use, too."""


def memory_kb(pid: int) -> dict[str, int]:
    """Kilobytes by kind, from /proc/PID/smaps_rollup: Rss, Anonymous, Private_Dirty and so on."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    return {name: int(size) for name, size in re.findall(r"^(\w+): +(\d+) kB$", text, re.M)}


def run(options: Options) -> Report:
    report = Report()
    first, last = (5_000, 15_000) if options.quick else (20_000, 120_000)
    steps = [0, FIRST_FLOWS, first, *(first + (last - first) * n // 5 for n in range(1, 6))]
    with Stage() as stage:
        port = free_udp_port()
        server = Replica(stage, "server", "apps.hello:app", "--port", str(port))
        server.ready()
        crowd = Crowd(("127.0.0.1", port))
        began = time.monotonic()
        sizes = {}
        for step in steps:
            crowd.open(step - crowd.open_flows)
            found = memory_kb(server.process.pid)
            sizes[step] = found["Rss"]
            report.add(_row(step, found, time.monotonic() - began))
        if not options.quick:
            time.sleep(max(0.0, began + FILTER_SPAN_S - time.monotonic()))
            crowd.open(FIRST_FLOWS)
            found = memory_kb(server.process.pid)
            report.add(_row(crowd.open_flows, found, time.monotonic() - began))
            report.figures["the first turn of the replay filters added KB"] = (
                found["Rss"] - sizes[last]
            )
        reused = crowd.again()
        crowd.close()
        judge_logs(report, [server])
        report.figures["fixed cost MB (filters and buffers; until the first step)"] = (
            sizes[first] - sizes[0]
        ) / 1000
        growth = sizes[last] - sizes[first]
        report.figures[f"growth from {first:,} to {last:,} open flows, KB"] = growth
        report.figures["flows asked again at the end"] = len(crowd.kept)
        report.figures["... and answered"] = reused
        report.check(growth < GROWTH_LIMIT_KB, f"growth below {GROWTH_LIMIT_KB} KB")
        report.check(reused == len(crowd.kept), "every flow asked again is still open")
        report.check(crowd.answers == {b"Hello, world!\n"}, "every answer is the right one")
    return report


def _row(flows: int, found: dict[str, int], seconds: float) -> Row:
    return {
        "open flows": flows,
        "RSS KB": found["Rss"],
        "anonymous KB": found["Anonymous"],
        "seconds": seconds,
    }
