"""Scenario: three replicas behind nginx, and behind nft, each datagram to any of them.

First the table of behaviours (`tests.behaviours`), then GETs at a steady rate, once with all
replicas and once with one of them stopped; in the table one is stopped for a while, too.

    python -m loadtest.engines HOST PORT COUNT   the client, which makes the GETs
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections import Counter
from typing import Any

from loadtest import mixture
from loadtest.balanced import ENGINES, HOSTS, PEER_PORT, PORT, SERVICE, Balanced, Engine, balanced
from loadtest.kind import flows
from loadtest.link import Shape
from loadtest.processes import Process, Replica
from loadtest.report import Options, Report
from loadtest.rolling import APP, RATE, Connection, Load
from trickles_web.client import open_connection
from trickles_web.client.tokens import TokenStore

STOPPED_S = 10.0
EVERY, QUICK_EVERY = 1, 6
"""Rows of the table: all, or every so many-th."""
TABLE_S = 900.0
GETS_S = 60.0
"""Longer than any of these may take."""
LATE_S = 30.0
"""A GET of which datagrams vanish so long has failed: of 18, each third."""
LATE_MS = 2000.0
"""Target for 99 of 100 GETs while a third of all datagrams vanish."""
SHAPE = Shape(mbit=1000, delay_ms=1)


def run(options: Options) -> Report:
    report = Report()
    for engine in ENGINES:
        lack = engine.missing()
        if lack:
            raise RuntimeError(f"{engine.name} needs {lack}")
        with balanced(engine, SHAPE) as at:
            _measure(report, engine, at, QUICK_EVERY if options.quick else EVERY)
    return report


def _measure(report: Report, engine: Engine, at: Balanced, every: int) -> None:
    said = table(engine, at, STOPPED_S, every)
    failed = [one for one in said if one["complaint"]]
    for one in failed:
        print(f"{engine.name}: {one['row']}, {one['parser']}\n{one['complaint']}", file=sys.stderr)
    before = at.datagrams()
    executions = at.stage.directory / "executions"
    executions.touch()
    at.stage.environment[mixture.EXECUTIONS] = str(executions)
    replicas = [_serve(at, number) for number in range(len(HOSTS))]
    for replica in replicas:
        replica.ready()
    calm = gets(at)
    spread = [after - first for after, first in zip(at.datagrams(), before, strict=True)]
    os.kill(replicas[0].process.pid, signal.SIGSTOP)
    stopped = gets(at)
    os.kill(replicas[0].process.pid, signal.SIGCONT)
    executed = Counter(mixture.executions(executions))
    report.add(
        {
            "engine": engine.name,
            "behaviours passed": len(said) - len(failed),
            "failed": len(failed),
            "GETs": calm["answered"] + stopped["answered"],
            "GETs failed": calm["failed"] + stopped["failed"],
            "POSTs": calm["POSTs"] + stopped["POSTs"],
            "done": calm["done"] + stopped["done"],
            "p99 ms": calm["p99 ms"],
            "p99 ms, one stopped": stopped["p99 ms"],
            "datagrams for each replica": " ".join(map(str, spread)),
        }
    )
    report.check(bool(said) and not failed, f"{engine.name}: every behaviour as the table says")
    failures = calm["failed"] + stopped["failed"]
    report.check(not failures, f"{engine.name}: no GET fails, {calm['why']} {stopped['why']}")
    twice = sum(count > 1 for count in executed.values())
    report.check(not twice, f"{engine.name}: {twice} POSTs executed twice")
    report.check(min(spread) > sum(spread) / 6, f"{engine.name}: every replica has its part")
    report.check(stopped["p99 ms"] < LATE_MS, f"{engine.name}: 99 of 100 GETs in {LATE_MS:g} ms")
    for replica in replicas:
        report.check("Traceback" not in replica.log, "no traceback in a server's log")
        replica.process.end(signal.SIGKILL)


def table(engine: Engine, at: Balanced, stopped_s: float, every: int) -> list[dict[str, Any]]:
    """What came of each row: `row`, `parser`, `complaint` ("" if it is as it should be)."""
    control = str(at.stage.directory / "control")
    for host, name in zip(HOSTS, at.replicas, strict=True):
        words = (control, engine.listen or host, str(PORT), at.store, f"{host}:{PEER_PORT}")
        at.stage.python(f"row server {host}", "tests.behaviours.replica", *words, netns=name)
    where = (control, SERVICE, str(PORT), ",".join(HOSTS), engine.seen_from)
    words = (*where, str(stopped_s), str(every))
    client = at.stage.python(
        "table", "tests.behaviours.over_udp", *words, netns=at.client, piped=True
    )
    lines = _output(client, TABLE_S).splitlines()
    return [json.loads(line) for line in lines]


def _serve(at: Balanced, number: int) -> Replica:
    host = HOSTS[number]
    where = ("--host", host, "--port", str(PORT), "--peer", f"{host}:{PEER_PORT}")
    words = (APP, *where, "--store", at.store)
    return Replica(at.stage, f"server {host}", *words, netns=at.replicas[number])


def gets(at: Balanced) -> dict[str, Any]:
    """For as long as a replica is stopped; `answered`, `failed`, `p99 ms`, `why` some failed; and
    `POSTs`, of which so many are `done`.
    """
    words = (SERVICE, str(PORT), str(int(RATE * STOPPED_S)))
    client = at.stage.python("GETs", "loadtest.engines", *words, netns=at.client, piped=True)
    found: dict[str, Any] = json.loads(_output(client, GETS_S))
    return found


def _output(client: Process, longest_s: float) -> bytes:
    """All that it prints. RuntimeError if it fails, or takes too long."""
    printed = b"".join(data for data, _ in client.output(time.monotonic() + longest_s))
    if client.popen.returncode:
        raise RuntimeError(f"a client failed: {client.log}")
    return printed


async def _client(host: str, port: int, count: int) -> dict[str, Any]:
    tokens = TokenStore(None)

    async def connect(port: int) -> Connection:
        return await open_connection(host, port, config=flows(), tokens=tokens)

    load = Load(connect, port, LATE_S)
    await load.run(count)
    times = sorted(load.times) or [0.0]
    return {
        "answered": len(load.times),
        "failed": load.failures.total(),
        "POSTs": len(load.posts),
        "done": sum(outcome == "done" for outcome in load.posts.values()),
        "why": " ".join(load.failures),
        "p99 ms": times[len(times) * 99 // 100] * 1000,
    }


if __name__ == "__main__":
    host, port, count = sys.argv[1:]
    print(json.dumps(asyncio.run(_client(host, int(port), int(count)))))
