"""Scenario: requests a second from one worker and from two, and how evenly flows spread over them.

Each worker has a core's worth of work for itself, and the load generator has one, too: where there
are only two cores, two workers and the generator share them, and the rate says little of what two
workers can do. What a request costs does not depend on that.
"""

from __future__ import annotations

import contextlib
import functools
import os

from loadtest import generator
from loadtest.load import Load, Loader
from loadtest.peers import Running, Server, start
from loadtest.processes import Stage, counted
from loadtest.report import Options, Report
from loadtest.rounds import rounds_of, take_turns

WORKERS = (1, 2)
PROGRAMS = ("trickles", "uvicorn")
CLIENTS = 64


def run(options: Options) -> Report:
    report = Report()
    load = Load(seconds=2 if options.quick else 3, clients=CLIENTS)
    with contextlib.ExitStack() as stack:
        loader = Loader(generator.compiled(stack.enter_context(Stage()).directory))
        servers: dict[str, Running] = {}
        for program in PROGRAMS:
            for workers in WORKERS:
                stage = stack.enter_context(Stage())  # for each a log of its own
                servers[_name(program, workers)] = _start(stage, program, workers)
        turns = {name: functools.partial(loader.turn, s, load) for name, s in servers.items()}
        comparison = take_turns(turns, rounds_of(options.quick))
        ours = servers[_name(PROGRAMS[0], WORKERS[-1])].process
        ours.end()
        flows = flows_by_worker(ours.log)
    for row in comparison.rows({_name(p, 2): _name(p, 1) for p in PROGRAMS}):
        report.add(row)
    for program in PROGRAMS:
        ratios = comparison.ratios(_name(program, 2), _name(program, 1), lambda s: s.rate)
        report.figures[f"{program}: rate of 2 workers to that of 1, round by round"] = ", ".join(
            f"{ratio:.2f}" for ratio in ratios
        )
    report.figures["cores"] = (
        f"{len(os.sched_getaffinity(0))}, with the load generator on one of them; no server is "
        "kept to any"
    )
    report.figures["flows of each of 2 workers"] = " and ".join(map(str, flows))
    report.check(len(flows) == WORKERS[-1] and min(flows) > 0, "each worker has flows")
    return report


def _name(program: str, workers: int) -> str:
    return f"{program}, {workers} worker{'s' * (workers > 1)}"


def _start(stage: Stage, program: str, workers: int) -> Running:
    more: tuple[str, ...] = (f"--workers={workers}",)
    if program == PROGRAMS[0]:
        more = (*more, "--log-level=debug")  # at its end a worker says then what it has counted
    return start(stage, Server(program, "httptools", "uvloop"), more=more, pinned=False)


def flows_by_worker(log: str) -> list[int]:
    """HELLOs of each worker, from what it logged at its end."""
    return [counters["HELLO"] for counters in counted(log)]
