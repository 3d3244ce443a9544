"""Scenario: round trips from a request on a new flow to the first byte of its answer."""

from __future__ import annotations

import json
import statistics

from loadtest.link import FAR_ADDRESS, Shape, link
from loadtest.processes import Process, Replica, Stage
from loadtest.report import Options, Report
from loadtest.targets import TARGETS

UDP_PORT, TCP_PORT = 8000, 8001
APP = "apps.hello:app"
KINDS = (
    ("TCP, new connection", "tcp"),
    ("Trickles, stranger", "stranger"),
    ("Trickles, returning client", "returning"),
)
"""Name, key of the samples and of the target, which allows for processing."""


def uvicorn(stage: Stage, app: str, netns: str) -> Process:
    """The TCP server to compare with: the same application, in the same namespace."""
    process = stage.python(
        "uvicorn",
        "uvicorn",
        app,
        f"--host={FAR_ADDRESS}",
        f"--port={TCP_PORT}",
        "--no-access-log",
        netns=netns,
    )
    process.says("running on http://")
    return process


def run(options: Options) -> Report:
    rounds = 5 if options.quick else 25
    shape = Shape(delay_ms=10, seed=options.seed)
    report = Report()
    with link(shape) as between, Stage() as stage:
        arguments = (APP, "--host", FAR_ADDRESS, "--port", str(UDP_PORT))
        Replica(stage, "server", *arguments, netns=between.far).ready()
        uvicorn(stage, APP, between.far)
        words = (FAR_ADDRESS, str(UDP_PORT), str(TCP_PORT), str(rounds))
        probe = stage.python("probe", "loadtest.first_byte", *words, netns=between.near)
        samples = json.loads(probe.says(r"(?m)^\{.*\}$")[0])
    round_trip = statistics.median(samples["connect"])
    report.figures["round trip ms (median of TCP's connect)"] = round_trip
    report.figures["rounds, taking turns"] = rounds
    for name, key in KINDS:
        median = statistics.median(samples[key])
        report.add(
            {
                "first byte on": name,
                "median ms": median,
                "lowest ms": min(samples[key]),
                "highest ms": max(samples[key]),
                "round trips": median / round_trip,
            }
        )
        target = f"first-byte-{key}"
        if target in TARGETS:
            report.judge(target, [sample / round_trip for sample in samples[key]])
    return report
