"""Scenario: goodput of a download over clean and lossy links, beside TCP Reno and Cubic."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

from loadtest.downloads import command, expected_sha256, sha256, start
from loadtest.link import FAR_ADDRESS, Link, Shape, link, use_congestion_control
from loadtest.measure import cpu_seconds
from loadtest.processes import LOOK_S, PATIENCE_S, Process, Replica, Stage
from loadtest.report import Options, Report
from loadtest.rounds import rounds_of, spread
from loadtest.rtt import TCP_PORT, UDP_PORT, uvicorn

APP = "apps.site:app"
OURS = "trickles"
CONTROLS = ("reno", "cubic")
QUICK = 5
"""Times smaller files, in the quick form."""


@dataclass(frozen=True, slots=True)
class Case:
    """A link of 20 ms round trip whose queue holds a round trip; a file of some seconds."""

    mbit: float
    loss: float
    megabytes: int

    @property
    def shape(self) -> Shape:
        return Shape(self.mbit, 10.0, self.loss, int(self.mbit * 2500))


CASES = (
    Case(1000, 0.0, 300),
    Case(100, 0.0, 60),
    Case(100, 0.001, 40),
    Case(100, 0.01, 12),
    Case(100, 0.02, 8),
)


@dataclass(frozen=True, slots=True)
class Turn:
    """One download. Shares are of one core, from the client's start to its end."""

    mbit: float
    server: float
    client: float
    emulator: float


def run(options: Options) -> Report:
    report = Report()
    for case in CASES:
        megabytes = max(2, case.megabytes // QUICK) if options.quick else case.megabytes
        expected_sha256(megabytes)
        turns = _rounds(case, megabytes, options)
        goodputs = {name: [turn.mbit for turn in of] for name, of in turns.items()}
        for name, of in turns.items():
            report.add(
                {
                    "link": f"{case.mbit:g} Mbit/s, {case.loss:.1%} loss",
                    "MB": megabytes,
                    "who": name,
                    "Mbit/s": statistics.median(goodputs[name]),
                    "lowest to highest": spread(goodputs[name]),
                    "server CPU %": statistics.median(turn.server for turn in of) * 100,
                    "client CPU %": statistics.median(turn.client for turn in of) * 100,
                    "emulator CPU %": statistics.median(turn.emulator for turn in of) * 100,
                }
            )
        _judge(report, case, goodputs)
    return report


def _judge(report: Report, case: Case, goodputs: dict[str, list[float]]) -> None:
    """Beside Reno under loss; beside the better of the two on a clean link."""
    ours, reno, cubic = goodputs[OURS], goodputs["reno"], goodputs["cubic"]
    if case.loss:
        ratios = [mine / other for mine, other in zip(ours, reno, strict=True)]
        report.judge(f"bulk-loss-{case.loss * 100:g}", ratios)
    elif case.mbit == 1000:
        better = map(max, reno, cubic)
        report.judge("bulk-clean", [a / b for a, b in zip(ours, better, strict=True)])


def _rounds(case: Case, megabytes: int, options: Options) -> dict[str, list[Turn]]:
    """Each contender once a round."""
    turns: dict[str, list[Turn]] = {name: [] for name in (OURS, *CONTROLS)}
    with link(case.shape) as between, Stage() as stage:
        arguments = (APP, "--host", FAR_ADDRESS, "--port", str(UDP_PORT))
        replica = Replica(stage, "server", *arguments, netns=between.far)
        replica.ready()
        servers = {OURS: replica.process, "": uvicorn(stage, APP, between.far)}
        for _ in range(rounds_of(options.quick)):
            for name in turns:
                server = servers.get(name, servers[""])
                turns[name].append(_turn(between, stage, name, server, megabytes))
    return turns


def _turn(between: Link, stage: Stage, name: str, server: Process, megabytes: int) -> Turn:
    """One download; its goodput is from the file's first bytes to its last: without the start of
    the client process.

    Raises RuntimeError if the file is not the right one.
    """
    client, port = ("trickles-get", UDP_PORT) if name == OURS else ("curl", TCP_PORT)
    if name != OURS:
        use_congestion_control(between, name)
    file = stage.directory / "file.bin"
    file.unlink(missing_ok=True)
    url = f"{FAR_ADDRESS}:{port}/files/{megabytes}.bin"
    before = [cpu_seconds([pid]) for pid in (server.pid, between.emulator)]
    began = time.monotonic()
    process = start(stage, command(client, url, file, ""), netns=between.near)
    deadline = began + PATIENCE_S + 10 * megabytes
    first = first_at = last = last_at = used = 0.0
    while process.popen.poll() is None:
        used = max(used, cpu_seconds([process.pid]))
        size = file.stat().st_size if file.exists() else 0
        if size > last:
            last, last_at = size, time.monotonic()
            if not first:
                first, first_at = last, last_at
        if time.monotonic() > deadline:
            process.popen.kill()
        time.sleep(LOOK_S)
    seconds = time.monotonic() - began
    size = file.stat().st_size if file.exists() else 0
    if size > last:
        last, last_at = size, time.monotonic()
    if sha256(file) != expected_sha256(megabytes):
        raise RuntimeError(f"{client} got {last:.0f} bytes, not the file: {process.log.strip()}")
    after = [cpu_seconds([pid]) for pid in (server.pid, between.emulator)]
    of_server, of_emulator = ((b - a) / seconds for a, b in zip(before, after, strict=True))
    goodput = (last - first) * 8e-6 / max(last_at - first_at, 1e-6)
    return Turn(goodput, of_server, used / seconds, of_emulator)
