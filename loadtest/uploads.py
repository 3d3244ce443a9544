"""Scenario: what a megabyte of request body costs the server."""

from __future__ import annotations

import functools

from loadtest.load import posting_turn
from loadtest.measure import pinning
from loadtest.peers import Server, start
from loadtest.processes import Stage
from loadtest.report import Options, Picture, Report
from loadtest.rounds import medians, per_server_s, rounds_of, take_turns

MEGABYTES = 10
OURS, THEIRS = Server("trickles", "httptools", "uvloop"), Server("uvicorn", "httptools", "uvloop")
SERVERS = (OURS, THEIRS, Server("granian"), Server("hypercorn", loop="uvloop"))


def run(options: Options) -> Report:
    report = Report()
    rounds, seconds = rounds_of(options.quick), 2.0 if options.quick else 3.0
    with Stage() as stage:
        turns = {
            server.name: functools.partial(posting_turn, start(stage, server), MEGABYTES, seconds)
            for server in SERVERS
        }
        comparison = take_turns(turns, rounds)
    for row in comparison.rows({OURS.name: THEIRS.name}, "MB"):
        report.add(row)
    report.figures["MB in each request, one after the other on one connection"] = MEGABYTES
    report.figures["rounds"] = rounds
    report.figures["cores"] = pinning()
    names = tuple(comparison.samples)
    series = {"": medians(comparison, names, per_server_s)}
    text = "MB for one CPU second of the server (median)"
    report.pictures.append(Picture(f"Uploads of {MEGABYTES} MB", "bars", names, series, value=text))
    return report
