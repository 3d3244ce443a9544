"""Scenario: what privacy costs a server: requests, new flows and megabytes, private and in clear,
and beside uvicorn with TLS.

The clients of our flows are the same in both kinds (`loadtest.lean`; for megabytes the real one);
uvicorn's are wrk, which resumes its sessions as ours come back, and `loadtest.handshakes`, which is
a stranger each time. Its certificates are of P-256 and of RSA with 2,048 bits.
"""

from __future__ import annotations

import functools
import json
import statistics
import sys
from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from loadtest.http3 import certificate
from loadtest.load import Load, python_turn, watched, wrk_turn
from loadtest.measure import pinning
from loadtest.peers import HOST, PARSERS, Running, Server, start
from loadtest.processes import Stage
from loadtest.report import Options, Report
from loadtest.rounds import Sample, Turn, per_server_s, rounds_of, take_turns

CLEAR, PRIVATE, TLS, RSA = "trickles, clear", "trickles, private", "uvicorn, TLS", "uvicorn, RSA"
MODES = {
    "get": "open flows",
    "new": "new flows of returning clients",
    "stranger": "new flows of strangers",
}
CLIENTS = 64
MEGABYTES = 200


def run(options: Options) -> Report:
    report = Report()
    seconds, rounds = (2.0 if options.quick else 3.0), rounds_of(options.quick)
    with Stage() as stage:
        parsers = {http: _contenders(stage, http) for http in PARSERS}
        for http, (ours, theirs) in parsers.items():
            for mode, what in MODES.items():
                turns: dict[str, Turn] = {
                    name: functools.partial(_lean, ours, kind, mode, seconds)
                    for name, kind in ((CLEAR, "clear"), (PRIVATE, "private"))
                }
                for name, running in theirs.items():
                    turns[name] = functools.partial(_tls, running, mode, seconds)
                comparison = take_turns(turns, rounds)
                for row in comparison.rows({PRIVATE: TLS, CLEAR: PRIVATE}):
                    report.add({"what": f"{what}, {http}"} | row)
                report.judge(f"private-{mode}-{http}", comparison.ratios(PRIVATE, TLS))
                beside_rsa = statistics.median(comparison.ratios(PRIVATE, RSA))
                report.figures[f"{what}, {http}: private, beside RSA"] = f"{beside_rsa:.2f} times"
        _megabytes(report, parsers["httptools"][0], rounds)
    report.figures["rounds"] = rounds
    report.figures["cores"] = pinning()
    return report


def _contenders(stage: Stage, http: str) -> tuple[Running, dict[str, Running]]:
    """Ours, and uvicorn with each kind of certificate, with one parser."""
    theirs = {}
    for name, key in ((TLS, ec.generate_private_key(ec.SECP256R1())), (RSA, _rsa())):
        folder = stage.directory / f"{name} {http}"
        folder.mkdir()
        files = certificate(folder, key)
        server = Server("uvicorn", http, "uvloop")
        words = (f"--ssl-certfile={files[0]}", f"--ssl-keyfile={files[1]}")
        theirs[name] = start(stage, server, more=words)
    return start(stage, Server("trickles", http, "uvloop")), theirs


def _rsa() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65_537, 2048)


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


def _tls(running: Running, mode: str, seconds: float) -> Sample:
    if mode == "stranger":
        words = (HOST, str(running.port), str(seconds))
        return python_turn(running, [sys.executable, "-m", "loadtest.handshakes", *words])
    return wrk_turn(running, Load(seconds, CLIENTS, fresh=mode == "new"), "https")


def _lean(running: Running, kind: str, mode: str, seconds: float) -> Sample:
    words = (HOST, str(running.port), kind, mode, str(CLIENTS), str(seconds))
    return python_turn(running, [sys.executable, "-m", "loadtest.lean", *words])


def _download(running: Running, kind: str) -> Sample:
    words: Sequence[str] = (HOST, str(running.port), kind, f"/bytes/{MEGABYTES * 1_000_000}")
    printed, cost = watched(running, [sys.executable, "-m", "loadtest.reading", *words])
    found = json.loads(printed)
    return Sample(found["megabytes"], found["seconds"], found["megabytes"], cost)
