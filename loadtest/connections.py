"""Scenario: a new flow or connection for every request; clients that were here before."""

from __future__ import annotations

from loadtest.load import Load
from loadtest.peers import Server
from loadtest.report import Options, Report
from loadtest.requests import CLIENTS, compare, picture
from loadtest.rounds import rounds_of

OURS = (Server("trickles", "httptools", "uvloop"), Server("trickles", "h11", "uvloop"))
THEIRS = (Server("uvicorn", "httptools", "uvloop"), Server("uvicorn", "h11", "uvloop"))
OTHERS = (Server("granian"), Server("hypercorn", loop="uvloop"))


def run(options: Options) -> Report:
    report = Report()
    load = Load(seconds=2 if options.quick else 3, clients=CLIENTS, fresh=True)
    servers = [*OURS, *THEIRS, *OTHERS]
    comparison = compare(report, servers, load, rounds_of(options.quick))
    report.judge("connections", comparison.ratios(OURS[0].name, THEIRS[0].name))
    report.pictures.append(picture(comparison, "A new flow or connection for every request"))
    return report
