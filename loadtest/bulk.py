"""Scenario: goodput of a download over a lossy link, beside TCP Reno."""

from __future__ import annotations

import statistics
import time

from loadtest.downloads import command, expected_sha256, sha256, start
from loadtest.link import FAR_ADDRESS, Link, Shape, link
from loadtest.processes import PATIENCE_S, Replica, Stage
from loadtest.report import Options, Report
from loadtest.rtt import TCP_PORT, UDP_PORT, uvicorn

APP = "apps.site:app"
CASES = ((0.0, 40), (0.001, 20), (0.01, 8), (0.02, 6))
"""Loss and megabytes: some seconds each at what Reno makes of that loss."""
RUNS = 7
CLEAN_TARGET = 0.95
LOSSY_TARGET = (0.85, 1.15)


def run(options: Options) -> Report:
    report = Report()
    runs = 2 if options.quick else RUNS
    for loss, full in CASES:
        megabytes = max(2, full // 5) if options.quick else full
        expected_sha256(megabytes)
        with link(Shape(loss=loss, seed=options.seed)) as between, Stage() as stage:
            reno, trickles = _rounds(between, stage, megabytes, runs)
        ratio = statistics.median(trickles) / statistics.median(reno)
        report.add(
            {
                "loss %": loss * 100,
                "MB": megabytes,
                "runs": runs,
                "TCP reno Mbit/s": statistics.median(reno),
                "Trickles Mbit/s": statistics.median(trickles),
                "ratio": ratio,
                "reno lowest to highest": f"{min(reno):.1f} to {max(reno):.1f}",
                "Trickles lowest to highest": f"{min(trickles):.1f} to {max(trickles):.1f}",
            }
        )
        if options.quick:
            continue
        if loss:
            low, high = LOSSY_TARGET
            report.check(low <= ratio <= high, f"{loss:.1%} loss: ratio {low} to {high}")
        else:
            report.check(ratio >= CLEAN_TARGET, f"no loss: ratio at least {CLEAN_TARGET}")
    return report


def _rounds(
    between: Link, stage: Stage, megabytes: int, runs: int
) -> tuple[list[float], list[float]]:
    """Mbit/s of each run of TCP and of Trickles, which take turns."""
    arguments = (APP, "--host", FAR_ADDRESS, "--port", str(UDP_PORT))
    Replica(stage, "server", *arguments, netns=between.far).ready()
    uvicorn(stage, APP, between.far)
    reno, trickles = [], []
    for _ in range(runs):
        reno.append(_goodput(between, stage, "curl", TCP_PORT, megabytes))
        trickles.append(_goodput(between, stage, "trickles-get", UDP_PORT, megabytes))
    return reno, trickles


def _goodput(between: Link, stage: Stage, client: str, port: int, megabytes: int) -> float:
    """Mbit/s from the file's first bytes to its last: without the start of the client process.

    Raises RuntimeError if the file is not the right one.
    """
    file = stage.directory / f"{client}.bin"
    file.unlink(missing_ok=True)
    url = f"{FAR_ADDRESS}:{port}/files/{megabytes}.bin"
    process = start(stage, command(client, url, file, ""), netns=between.near)
    deadline = time.monotonic() + PATIENCE_S + 10 * megabytes
    first = first_at = last = last_at = 0.0
    while process.popen.poll() is None:
        size = file.stat().st_size if file.exists() else 0
        if size > last:
            last, last_at = size, time.monotonic()
            if not first:
                first, first_at = last, last_at
        if time.monotonic() > deadline:
            process.popen.kill()
        time.sleep(0.005)
    size = file.stat().st_size if file.exists() else 0
    if size > last:
        last, last_at = size, time.monotonic()
    if sha256(file) != expected_sha256(megabytes):
        raise RuntimeError(f"{client} got {last:.0f} bytes, not the file: {process.log.strip()}")
    return (last - first) * 8e-6 / max(last_at - first_at, 1e-6)
