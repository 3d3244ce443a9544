"""Scenario: how long one client waits, that makes one request after the other on one connection.

By the load generators in C, which are alike, and by clients in Python, which is what users see.
"""

from __future__ import annotations

import functools
import statistics

from loadtest import generator
from loadtest.load import Load, Loader, waiting_turn
from loadtest.measure import pinning
from loadtest.peers import HTTP3, Running, Server, start
from loadtest.processes import Stage
from loadtest.report import Options, Picture, Report
from loadtest.rounds import Comparison, Turn, medians, p50, p99, rounds_of, spread, take_turns

OURS, THEIRS = Server("trickles", "httptools", "uvloop"), Server("uvicorn", "httptools", "uvloop")
SERVERS = (
    OURS,
    THEIRS,
    Server("trickles", "h11", "uvloop"),
    Server("uvicorn", "h11", "uvloop"),
    Server("granian"),
    Server("hypercorn", loop="uvloop"),
    Server(HTTP3, loop="uvloop"),
)
CLIENTS = (
    (OURS, "flow"),
    (THEIRS, "streams"),
    (THEIRS, "http.client"),
    (THEIRS, "httpx"),
)
"""In Python."""
BASELINES = {
    SERVERS[0].name: SERVERS[1].name,
    SERVERS[2].name: SERVERS[3].name,
    f"{OURS.name}, flow": f"{THEIRS.name}, streams",
}


def run(options: Options) -> Report:
    report = Report()
    load = Load(seconds=2 if options.quick else 3, clients=1)
    with Stage() as stage:
        loader = Loader(generator.compiled(stage.directory))
        running = {server: start(stage, server) for server in SERVERS}
        comparison = take_turns(_turns(loader, running, load), rounds_of(options.quick))
    for name in comparison.samples:
        report.add(_row(comparison, name))
    report.figures["cores"] = pinning()
    report.judge("latency-p50", comparison.ratios(OURS.name, THEIRS.name, p50))
    names = tuple(comparison.samples)
    series = {
        "median": medians(comparison, names, p50),
        "99th percentile": medians(comparison, names, p99),
    }
    report.pictures.append(
        Picture("One client, one request at a time", "bars", names, series, value="microseconds")
    )
    return report


def _turns(loader: Loader, running: dict[Server, Running], load: Load) -> dict[str, Turn]:
    turns: dict[str, Turn] = {
        server.name: functools.partial(loader.turn, running[server], load) for server in SERVERS
    }
    for server, client in CLIENTS:
        turn = functools.partial(waiting_turn, running[server], client, load.seconds)
        turns[f"{server.name}, {client}"] = turn
    return turns


def _row(comparison: Comparison, name: str) -> dict[str, object]:
    medians, tails = comparison.values(name, p50), comparison.values(name, p99)
    baseline = BASELINES.get(name)
    ratios = comparison.ratios(name, baseline, p50) if baseline else []
    server_us = comparison.values(name, lambda sample: sample.server_us)
    return {
        "server, client": name,
        "p50 us": statistics.median(medians),
        "lowest to highest": spread(medians),
        "p99 us": statistics.median(tails),
        "p99 lowest to highest": spread(tails),
        "p50 ratio": f"{statistics.median(ratios):.2f}" if ratios else "-",
        "ratio lowest to highest": spread(ratios) if ratios else "-",
        "to": baseline or "-",
        "server CPU us per request": statistics.median(server_us),
    }
