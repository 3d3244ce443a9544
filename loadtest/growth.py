"""Scenario: how the cost of a request grows with the number of open flows, and with its answer."""

from __future__ import annotations

import contextlib
import functools
import socket
import statistics
from collections.abc import Iterator

from loadtest import generator
from loadtest.load import Load, Loader
from loadtest.measure import pinning
from loadtest.peers import HOST, Running, Server, start
from loadtest.processes import PATIENCE_S, Stage
from loadtest.report import Options, Picture, Report
from loadtest.rounds import Comparison, spread, take_turns

OURS, THEIRS = Server("trickles", "httptools", "uvloop"), Server("uvicorn", "httptools", "uvloop")
OPEN = (1, 10, 100, 1_000, 10_000)
BODIES = (100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000)
IN_FLIGHT = 64
"""Requests at most, however many flows are open;"""
LARGE_IN_FLIGHT = 8
"""with large answers, fewer: those that are not whole at the end are paid for in vain."""
AT_A_TIME = 500
"""Connections that are opened before the first of them is answered."""


def run(options: Options) -> Report:
    report = Report()
    rounds, seconds = (1, 1.0) if options.quick else (3, 2.0)
    with Stage() as stage:
        loader = Loader(generator.compiled(stage.directory))
        ours, theirs = start(stage, OURS), start(stage, THEIRS, more=("--timeout-keep-alive=3600",))
        found = {}
        for count in OPEN:
            busy = min(count, IN_FLIGHT)
            loads = (Load(seconds, busy, idle=count - busy), Load(seconds, busy))
            with idle_connections(theirs, count - busy):
                found[count] = _pair(loader, ours, theirs, loads, rounds)
            _tell(report, f"{count:,} open", found[count])
        report.pictures.append(_picture("Small GETs, by open flows or connections", "open", found))
        found = {}
        for size in BODIES:
            load = Load(seconds, LARGE_IN_FLIGHT, f"/bytes/{size}", size)
            found[size] = _pair(loader, ours, theirs, (load, load), rounds)
            _tell(report, f"{size:,} bytes", found[size])
        report.pictures.append(_picture("GETs, by size", "bytes in the answer", found))
    report.figures["requests in flight at most, by open flows"] = IN_FLIGHT
    report.figures["requests in flight, by size"] = LARGE_IN_FLIGHT
    report.figures["rounds"] = rounds
    report.figures["cores"] = pinning()
    return report


def _pair(
    loader: Loader, ours: Running, theirs: Running, loads: tuple[Load, Load], rounds: int
) -> Comparison:
    turns = {
        OURS.name: functools.partial(loader.turn, ours, loads[0]),
        THEIRS.name: functools.partial(loader.turn, theirs, loads[1]),
    }
    return take_turns(turns, rounds)


def _costs(comparison: Comparison, server: Server) -> list[float]:
    return comparison.values(server.name, lambda sample: sample.server_us)


def _tell(report: Report, what: str, comparison: Comparison) -> None:
    ours, theirs = _costs(comparison, OURS), _costs(comparison, THEIRS)
    report.add(
        {
            "what": what,
            "Trickles, server CPU us": statistics.median(ours),
            "lowest to highest": spread(ours),
            "uvicorn, server CPU us": statistics.median(theirs),
            "theirs lowest to highest": spread(theirs),
            "ratio": statistics.median(comparison.ratios(OURS.name, THEIRS.name)),
        }
    )


def _picture(title: str, place: str, found: dict[int, Comparison]) -> Picture:
    series = {
        server.name: tuple(statistics.median(_costs(it, server)) for it in found.values())
        for server in (OURS, THEIRS)
    }
    text = "server CPU microseconds for a request"
    return Picture(title, "lines", tuple(found), series, place, text)


@contextlib.contextmanager
def idle_connections(running: Running, count: int) -> Iterator[None]:
    """So many open TCP connections that had one answer each."""
    with contextlib.ExitStack() as stack:
        for first in range(0, count, AT_A_TIME):
            opened = []
            for _ in range(min(AT_A_TIME, count - first)):
                sock = socket.create_connection((HOST, running.port), PATIENCE_S)
                opened.append(stack.enter_context(sock))
                sock.sendall(b"GET / HTTP/1.1\r\nHost: loadtest\r\n\r\n")
            for sock in opened:
                if not sock.recv(4096):
                    raise RuntimeError(f"{running.server.name} closed an idle connection")
        yield
