"""Scenario: small GETs on open flows, beside other servers with the same application."""

from __future__ import annotations

import functools

from loadtest import generator
from loadtest.load import MOST_HTTP3, Load, Loader
from loadtest.measure import pinning
from loadtest.peers import HTTP3, LOOPS, PARSERS, Server, start, with_each_parser_and_loop
from loadtest.processes import Stage
from loadtest.report import Options, Picture, Report
from loadtest.rounds import Comparison, medians, per_server_s, rounds_of, take_turns

CLIENTS = 64
OURS, THEIRS = "trickles", "uvicorn"
OTHERS = (Server("granian"), Server("hypercorn", loop="uvloop"), Server(HTTP3, loop="uvloop"))


def run(options: Options) -> Report:
    report = Report()
    servers = [*with_each_parser_and_loop(OURS), *with_each_parser_and_loop(THEIRS), *OTHERS]
    load = Load(seconds=2 if options.quick else 3, clients=CLIENTS)
    comparison = compare(report, servers, load, rounds_of(options.quick))
    for http in PARSERS:
        for loop in LOOPS:
            ours, theirs = Server(OURS, http, loop).name, Server(THEIRS, http, loop).name
            name = f"get-{http}" if loop == "uvloop" else f"get-{http}-{loop}"
            report.judge(name, comparison.ratios(ours, theirs))
    report.pictures.append(picture(comparison, "Small GETs on open flows"))
    return report


def compare(report: Report, servers: list[Server], load: Load, rounds: int) -> Comparison:
    """All of them in turn, under this load; adds rows and figures. Ours are set beside uvicorn."""
    with Stage() as stage:
        loader = Loader(generator.compiled(stage.directory))
        turns = {s.name: functools.partial(loader.turn, start(stage, s), load) for s in servers}
        comparison = take_turns(turns, rounds)
    for row in comparison.rows(baselines(servers)):
        report.add(row)
    report.figures["connections or flows, each with a request in flight"] = load.clients
    if any(server.program == HTTP3 for server in servers):
        report.figures["connections of HTTP/3, by aioquic's client"] = MOST_HTTP3
    report.figures["rounds"] = rounds
    report.figures["cores"] = pinning()
    for name, count in loader.replies.items():
        if count:
            report.figures[f"Trickles: {name}"] = count
    return comparison


def baselines(servers: list[Server]) -> dict[str, str]:
    """Each of ours is compared with uvicorn of the same parser and loop, if that is there."""
    theirs = {(s.http, s.loop): s.name for s in servers if s.program == THEIRS}
    return {
        s.name: theirs[s.http, s.loop]
        for s in servers
        if s.program == OURS and (s.http, s.loop) in theirs
    }


def picture(comparison: Comparison, title: str) -> Picture:
    names = tuple(comparison.samples)
    return Picture(
        title,
        "bars",
        names,
        {"": medians(comparison, names, per_server_s)},
        value="requests for one CPU second of the server (median)",
    )
