"""Scenario: what a flow gets of a bottleneck that it shares with TCP, Reno and Cubic."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from loadtest.downloads import command, expected_sha256, start
from loadtest.link import FAR_ADDRESS, Link, Shape, link, use_congestion_control
from loadtest.processes import Process, Replica, Stage
from loadtest.report import Options, Report
from loadtest.rounds import rounds_of, spread
from loadtest.rtt import TCP_PORT, UDP_PORT, uvicorn
from loadtest.targets import TARGETS

APP = "apps.site:app"
SHAPE = Shape()
MEGABYTES = 200
"""More than any of them gets in a round."""
CONTROLS = ("reno", "cubic")
MIXES = ((1, 1), (1, 2), (1, 4), (1, 8), (2, 2))
"""Flows of ours, and TCP's."""
WARM_UP_S, MEASURED_S = 3.0, 8.0
WIRE = 1500
"""Bytes of a full packet of TCP, by which the queue is told in packets."""


def run(options: Options) -> Report:
    report = Report()
    expected_sha256(MEGABYTES)
    trip = SHAPE.mbit * SHAPE.delay_ms * 2 * 125
    report.figures["queue"] = (
        f"{SHAPE.queue_bytes // WIRE} packets, {SHAPE.queue_bytes / trip:.2g} "
        "bandwidth-delay products; drop-tail"
    )
    with link(SHAPE) as between, Stage() as stage:
        arguments = (APP, "--host", FAR_ADDRESS, "--port", str(UDP_PORT))
        Replica(stage, "server", *arguments, netns=between.far).ready()
        uvicorn(stage, APP, between.far)
        for control in CONTROLS:
            use_congestion_control(between, control)
            for ours, theirs in MIXES:
                rounds = range(rounds_of(options.quick))
                shares = [_round(between, stage, ours, theirs) for _ in rounds]
                _tell(report, control, ours, theirs, shares)
    return report


def _tell(
    report: Report, control: str, ours: int, theirs: int, shares: list[tuple[float, float]]
) -> None:
    mine = [share for share, _ in shares]
    report.add(
        {
            "Trickles flows": ours,
            "TCP flows": theirs,
            "of": control,
            "Trickles: share to the fair one": statistics.median(mine),
            "lowest to highest": spread(mine),
            "all together Mbit/s": statistics.median(total for _, total in shares),
        }
    )
    target = f"sharing-{control}-{theirs}"
    if ours == 1 and target in TARGETS:
        report.judge(target, mine)


def _round(between: Link, stage: Stage, ours: int, theirs: int) -> tuple[float, float]:
    """How much a flow of ours got, to the fair share, and the Mbit/s of all."""
    clients = [("trickles-get", UDP_PORT)] * ours + [("curl", TCP_PORT)] * theirs
    files = [stage.directory / f"{number}.bin" for number in range(len(clients))]
    running: list[Process] = []
    try:
        for (client, port), file in zip(clients, files, strict=True):
            url = f"{FAR_ADDRESS}:{port}/files/{MEGABYTES}.bin"
            running.append(start(stage, command(client, url, file, ""), netns=between.near))
        time.sleep(WARM_UP_S)
        before, began = _sizes(files), time.monotonic()
        time.sleep(MEASURED_S)
        after, seconds = _sizes(files), time.monotonic() - began
        ended = [process.log.strip() for process in running if process.popen.poll() is not None]
        if ended:
            raise RuntimeError(f"a download ended too early: {ended[0]}")
    finally:
        for process in running:
            process.end()
        for file in files:
            file.unlink(missing_ok=True)
    got = [b - a for a, b in zip(before, after, strict=True)]
    share = sum(got[:ours]) / ours / (sum(got) / len(got))
    return share, sum(got) * 8e-6 / seconds


def _sizes(files: Sequence[Path]) -> list[int]:
    return [file.stat().st_size if file.exists() else 0 for file in files]
