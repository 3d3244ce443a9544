"""Scenario: what privacy costs a server: requests, new flows and megabytes, private and in clear,
and beside uvicorn with TLS.

The clients of our flows are the same in both kinds (`loadtest.lean`; for megabytes the real one);
uvicorn's are wrk, in TLS, with an EC certificate and without resumption.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Sequence

from loadtest.http3 import certificate
from loadtest.load import Load, python_turn, watched, wrk_turn
from loadtest.measure import pinning
from loadtest.peers import HOST, Running, Server, start
from loadtest.processes import Stage
from loadtest.report import Options, Report
from loadtest.rounds import Sample, Turn, per_server_s, rounds_of, take_turns

OURS, THEIRS = Server("trickles", "httptools", "uvloop"), Server("uvicorn", "httptools", "uvloop")
CLEAR, PRIVATE, TLS = "trickles, clear", "trickles, private", "uvicorn, TLS"
CLIENTS = 64
MEGABYTES = 200


def run(options: Options) -> Report:
    report = Report()
    seconds, rounds = (2.0 if options.quick else 3.0), rounds_of(options.quick)
    with Stage() as stage:
        file, key = certificate(stage.directory)
        ours = start(stage, OURS)
        theirs = start(stage, THEIRS, more=(f"--ssl-certfile={file}", f"--ssl-keyfile={key}"))
        for mode, target in (("get", "private-get"), ("new", "private-connections")):
            load = Load(seconds, CLIENTS, fresh=mode == "new")
            turns: dict[str, Turn] = {
                name: functools.partial(_lean, ours, kind, mode, seconds)
                for name, kind in ((CLEAR, "clear"), (PRIVATE, "private"))
            }
            turns[TLS] = functools.partial(wrk_turn, theirs, load, "https")
            comparison = take_turns(turns, rounds)
            for row in comparison.rows({PRIVATE: TLS, CLEAR: PRIVATE}):
                report.add({"what": "new flows" if mode == "new" else "open flows"} | row)
            report.judge(target, comparison.ratios(PRIVATE, TLS))
        _megabytes(report, ours, rounds)
    report.figures["rounds"] = rounds
    report.figures["cores"] = pinning()
    return report


def _megabytes(report: Report, ours: Running, rounds: int) -> None:
    turns: dict[str, Turn] = {
        name: functools.partial(_download, ours, kind)
        for name, kind in ((CLEAR, "clear"), (PRIVATE, "private"))
    }
    comparison = take_turns(turns, rounds)
    for row in comparison.rows({CLEAR: PRIVATE}):
        report.add({"what": "megabytes"} | row)
    ratios = comparison.ratios(PRIVATE, CLEAR, per_server_s)
    report.figures["megabytes, private of clear"] = ", ".join(f"{r:.2f}" for r in ratios)


def _lean(running: Running, kind: str, mode: str, seconds: float) -> Sample:
    words = (HOST, str(running.port), kind, mode, str(CLIENTS), str(seconds))
    return python_turn(running, [sys.executable, "-m", "loadtest.lean", *words])


def _download(running: Running, kind: str) -> Sample:
    words: Sequence[str] = (HOST, str(running.port), kind, f"/bytes/{MEGABYTES * 1_000_000}")
    printed, cost = watched(running, [sys.executable, "-m", "loadtest.reading", *words])
    found = json.loads(printed)
    return Sample(found["megabytes"], found["seconds"], found["megabytes"], cost)
