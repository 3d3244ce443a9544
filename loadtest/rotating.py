"""Scenario: the secret is replaced under a steady load; and one replica of three has another one.

In three steps, each with a SIGHUP: all know the new one, it seals, the old one is gone. Then three
replicas of which one has a secret of its own, and any datagram goes to any of them.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections import Counter
from pathlib import Path

from loadtest import mixture, peers, rolling
from loadtest.kind import flows
from loadtest.processes import BANNER, Process, Stage, counters, free_udp_port
from loadtest.report import Options, Report
from loadtest.rolling import RATE, Connection, Load, beside, exchange
from loadtest.weather import Path as Network
from trickles_web.client import open_connection
from trickles_web.client.tokens import TokenStore

SECONDS, QUICK_SECONDS = 20.0, 6.0
REPLICAS = 3
AMONG_STRANGERS, QUICK_AMONG_STRANGERS = 1500, 300
"""GETs through replicas of which one is a stranger."""


def run(options: Options) -> Report:
    report = Report()
    _rotate(report, QUICK_SECONDS if options.quick else SECONDS)
    _mix(report, QUICK_AMONG_STRANGERS if options.quick else AMONG_STRANGERS, options.seed)
    return report


def _write(file: Path, *texts: str) -> str:
    file.touch(mode=0o600)
    file.write_text("\n".join(texts))
    return str(file)


def _rotate(report: Report, seconds: float) -> None:
    old, new = secrets.token_hex(32), secrets.token_hex(32)
    with Stage() as stage:
        file = stage.directory / "secret"
        executions = stage.directory / "executions"
        executions.touch()
        stage.environment[mixture.EXECUTIONS] = str(executions)
        options = (f"--secret-file={_write(file, old)}", "--log-level=debug")
        server = rolling.trickles(stage, *options)
        load = Load(server.connect, server.port)
        done: list[str] = []

        async def rotate() -> None:
            for texts in ((old, new), (new, old), (new,)):
                await asyncio.sleep(seconds / 10)
                _write(file, *texts)
                await server.restart()
                done.append("a step")

        asyncio.run(beside(load.run(int(RATE * seconds)), rotate()))
        server.master.end()
        outcomes, executed = Counter(load.posts.values()), Counter(mixture.executions(executions))
        failed = load.failures.total()
        report.add(
            {
                "what": "the secret is replaced",
                "GETs": len(load.times) + failed,
                "failed": failed,
                "POSTs": len(load.posts),
                "done": outcomes["done"],
                "executed twice": sum(count > 1 for count in executed.values()),
                "longest ms": max(load.times) * 1000,
                "refusals by replica": counters(server.log)["secret"],
            }
        )
        report.check(len(done) == 3, f"{len(done)} of 3 steps were taken")
        report.check(not failed, f"no GET fails: {load.failures.most_common(3)}")
        report.check(outcomes == Counter(done=len(load.posts)), f"all POSTs are done: {outcomes}")
        report.check(max(executed.values()) == 1, "no POST is executed twice")


def _mix(report: Report, count: int, seed: int) -> None:
    right, wrong = secrets.token_hex(32), secrets.token_hex(32)
    with Stage() as stage:
        ports = [free_udp_port() for _ in range(REPLICAS)]
        replicas: list[Process] = []
        for number, port in enumerate(ports):
            text = wrong if number == REPLICAS - 1 else right
            file = _write(stage.directory / f"secret{number}", text)
            words = (peers.APP, f"--port={port}", f"--secret-file={file}", "--log-level=debug")
            options = ("--no-access-log", "--store=memory")
            replica = stage.python(f"r{number}", "trickles_web.cli.serve", *words, *options)
            replica.says(BANNER)
            replicas.append(replica)
        with Network([(peers.HOST, port) for port in ports], seed) as network:
            network.weather.loss = 0.0
            failures = asyncio.run(_get(network.port, count))
        for replica in replicas:
            replica.end()
        counted = [counters(replica.log)["secret"] for replica in replicas]
        named = [bool(re.search(r"\(secret\): \d+ sealed with another", r.log)) for r in replicas]
        report.add(
            {
                "what": "one of three has another secret",
                "GETs": count,
                "failed": failures.total(),
                "POSTs": "",
                "done": "",
                "executed twice": "",
                "longest ms": "",
                "refusals by replica": ", ".join(map(str, counted)),
            }
        )
        report.check(not failures, f"no GET fails: {failures.most_common(3)}")
        report.check(all(counted), f"each counts what the other has sealed: {counted}")
        report.check(all(named), f"and says so in its log: {named}")


async def _get(port: int, count: int) -> Counter[str]:
    """GETs, eight at a time, a flow for each ten; how those failed that did."""
    failures: Counter[str] = Counter()
    tokens = TokenStore(None)

    async def flow(numbers: range) -> None:
        connection: Connection | None = None
        for _ in numbers:
            try:
                connection = connection or await open_connection(
                    peers.HOST, port, config=flows(), tokens=tokens
                )
                status, _ = await exchange(*connection, b"GET / HTTP/1.1\r\nHost: loadtest\r\n\r\n")
                if status != 200:
                    raise ValueError(f"a wrong answer: {status}")
            except (OSError, EOFError, ValueError) as error:
                failures[f"{type(error).__name__}: {error}"[:100]] += 1
                connection = None
        if connection is not None:
            connection[1].close()

    waiting = [range(first, min(first + 10, count)) for first in range(0, count, 10)]

    async def work() -> None:
        while waiting:
            await flow(waiting.pop())

    await asyncio.gather(*(work() for _ in range(8)))
    return failures
