"""Scenario: large answers, and what a megabyte costs the server.

By load generators in C, which keep up with any server here, and by the programs that users have.
"""

from __future__ import annotations

import functools
import sys

from loadtest import generator
from loadtest.files import make_files
from loadtest.load import Load, Loader, program_turn
from loadtest.measure import pinning
from loadtest.peers import Running, Server, start
from loadtest.processes import Stage
from loadtest.report import Options, Picture, Report
from loadtest.rounds import Comparison, Turn, medians, per_server_s, rounds_of, take_turns

OURS, THEIRS = Server("trickles", "httptools", "uvloop"), Server("uvicorn", "httptools", "uvloop")
SERVERS = (OURS, THEIRS, Server("granian"))
PAGE = 1_000_000
"""Bytes of an answer that the application has in one piece,"""
FILE_MB = 100
"""and megabytes of a file."""
PAGE_CLIENTS, FILE_CLIENTS = 16, 4


def run(options: Options) -> Report:
    report = Report()
    seconds, rounds = (2.0, rounds_of(options.quick)) if options.quick else (3.0, 5)
    page = Load(seconds, PAGE_CLIENTS, f"/bytes/{PAGE}", PAGE)
    file = Load(seconds, FILE_CLIENTS, f"/files/{FILE_MB}.bin", FILE_MB * 1_000_000)
    with Stage() as stage:
        make_files(stage, FILE_MB)
        loader = Loader(generator.compiled(stage.directory))
        running = {server: start(stage, server) for server in SERVERS}
        for what, load in (("1 MB page", page), (f"{FILE_MB} MB file", file)):
            turns: dict[str, Turn] = {
                server.name: functools.partial(loader.megabytes_turn, running[server], load)
                for server in SERVERS
            }
            if load is file:
                turns |= _programs(running)
            comparison = take_turns(turns, rounds)
            _tell(report, what, comparison)
            if load is file:
                report.judge("capacity", comparison.values(OURS.name, per_server_s))
    report.figures["rounds"] = rounds
    report.figures["cores"] = pinning()
    return report


def _programs(running: dict[Server, Running]) -> dict[str, Turn]:
    """One download by what users have; its seconds include the start of the program."""
    path = f"/files/{FILE_MB}.bin"
    ours, theirs = running[OURS], running[THEIRS]
    get = [sys.executable, "-m", "trickles_web.cli.get", f"trickles://127.0.0.1:{ours.port}{path}"]
    get += ["-s", "-S", "-o", "/dev/null"]
    curl = ["curl", "-sS", "-o", "/dev/null", theirs.url + path]
    return {
        f"{OURS.name}, trickles-get": functools.partial(program_turn, ours, get, FILE_MB),
        f"{THEIRS.name}, curl": functools.partial(program_turn, theirs, curl, FILE_MB),
    }


def _tell(report: Report, what: str, comparison: Comparison) -> None:
    baselines = {
        OURS.name: THEIRS.name,
        f"{OURS.name}, trickles-get": f"{THEIRS.name}, curl",
    }
    for row in comparison.rows(baselines, "MB"):
        report.add({"answer": what, **row})
    names = tuple(comparison.samples)
    series = {"": medians(comparison, names, per_server_s)}
    report.pictures.append(
        Picture(what, "bars", names, series, value="MB for one CPU second of the server (median)")
    )
