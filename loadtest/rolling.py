"""Scenario: all workers are replaced, three times, under a steady load; beside uvicorn.

Ours are told to end one after the other, each when the one before is back; uvicorn is told by
SIGHUP to do the same. In between a worker of either is killed, twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from loadtest import peers
from loadtest.application import BODY
from loadtest.processes import Stage
from loadtest.report import Options, Report
from loadtest.supervised import Worker, supervised
from trickles_web.client import open_connection
from trickles_web.client.tokens import TokenStore

WORKERS = 2
RATE = 500
"""Requests a second."""
SECONDS, QUICK_SECONDS = 30.0, 6.0
LATE_S = 10.0
"""A request that takes longer counts as failed, where nothing else is said."""
CONNECTIONS = 50
"""Open at the start, each used ten times a second."""
STEPS = ("restart", "kill", "restart", "kill", "restart")
LOOK_S = 0.02
STARTED = "Application startup complete"
REQUEST = b"GET / HTTP/1.1\r\nHost: loadtest\r\n\r\n"

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[int], Awaitable[Connection]]


@dataclass(slots=True)
class Load:
    """GETs at a steady rate, whether those before are answered or not.

    Connections take turns; when none is free, a request waits. Who finds a connection closed opens
    another one; who finds out only after the request was sent has failed.
    """

    connect: Connect
    port: int
    late_s: float = LATE_S
    failures: Counter[str] = field(default_factory=Counter)
    times: list[float] = field(default_factory=list)
    """Seconds that answers took, from when their requests were due."""
    opened: int = 0
    """Connections or flows."""
    _slots: asyncio.Queue[Connection | None] = field(default_factory=asyncio.Queue)
    """What is free; None stands for one that has to be opened."""

    async def run(self, count: int) -> None:
        """So many requests."""
        for _ in range(CONNECTIONS):
            self._slots.put_nowait(await self._open())
        began = time.monotonic()
        requests = []
        for number in range(count):
            due = began + number / RATE
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            requests.append(asyncio.ensure_future(self._request(due)))
        await asyncio.gather(*requests)
        while not self._slots.empty():
            self._close(self._slots.get_nowait())

    async def _request(self, due: float) -> None:
        connection = await self._slots.get()
        try:
            async with asyncio.timeout(self.late_s):
                if connection is None or connection[0].at_eof():
                    self._close(connection)
                    connection = await self._open()
                await self._exchange(*connection)
        except (OSError, EOFError, ValueError) as error:
            self.failures[f"{type(error).__name__}: {error}"[:100]] += 1
            self._close(connection)
            connection = None
        else:
            self.times.append(time.monotonic() - due)
        self._slots.put_nowait(connection)

    async def _open(self) -> Connection:
        self.opened += 1
        return await self.connect(self.port)

    @staticmethod
    def _close(connection: Connection | None) -> None:
        if connection is not None:
            connection[1].close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(REQUEST)
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(len(BODY))
        if not head.startswith(b"HTTP/1.1 200 ") or body != BODY:
            raise ValueError(f"a wrong answer: {head.partition(bytes([13]))[0]!r}")


class Trickles:
    """Ours: workers are told to end in turn."""

    name = "trickles"

    def __init__(self, stage: Stage) -> None:
        self.port, self.workers = supervised(stage, peers.APP, WORKERS)
        self._tokens = TokenStore(None)
        self._kills = 0

    async def connect(self, port: int) -> Connection:
        return await open_connection(peers.HOST, port, tokens=self._tokens)

    async def restart(self) -> None:
        for worker in self.workers:
            await self._end(worker, signal.SIGTERM)

    async def kill(self) -> None:
        self._kills += 1
        await self._end(self.workers[self._kills % WORKERS], signal.SIGKILL)

    async def _end(self, worker: Worker, number: int) -> None:
        worker.restart(number)
        while not worker.back:
            await asyncio.sleep(LOOK_S)

    @property
    def log(self) -> str:
        return self.workers[0].log


class Uvicorn:
    """Its master does that itself."""

    name = "uvicorn"

    def __init__(self, stage: Stage) -> None:
        self.port = peers.free_tcp_port()
        words = (peers.APP, f"--port={self.port}", f"--workers={WORKERS}", "--no-access-log")
        self._master = stage.python("uvicorn", "uvicorn", *words)
        self._master.says(rf"(?s)({STARTED}.*){{{WORKERS}}}")

    async def connect(self, port: int) -> Connection:
        return await asyncio.open_connection(peers.HOST, port)

    async def restart(self) -> None:
        started, ended = self._count(STARTED), self._count("Finished server process")
        os.kill(self._master.pid, signal.SIGHUP)
        while self._count(STARTED) < started + WORKERS:
            await asyncio.sleep(LOOK_S)
        while self._count("Finished server process") < ended + WORKERS:
            await asyncio.sleep(LOOK_S)

    async def kill(self) -> None:
        started = self._count(STARTED)
        newest = re.findall(r"Started server process \[(\d+)\]", self.log)[-1]
        os.kill(int(newest), signal.SIGKILL)
        while self._count(STARTED) == started:
            await asyncio.sleep(LOOK_S)

    def _count(self, words: str) -> int:
        return self.log.count(words)

    @property
    def log(self) -> str:
        return self._master.log


def run(options: Options) -> Report:
    report = Report()
    seconds = QUICK_SECONDS if options.quick else SECONDS
    for kind in (Trickles, Uvicorn):
        with Stage() as stage:
            server = kind(stage)
            load, done = asyncio.run(_measure(server, seconds))
            _tell(report, server.name, load, done)
            if kind is Trickles:
                report.judge("rolling-restart", [load.failures.total()])
                report.check("Traceback" not in server.log, "no traceback in a server's log")
                report.check(options.quick or done == Counter(STEPS), "every step was taken")
    report.figures["requests a second"] = RATE
    report.figures["connections or flows at a time, about"] = CONNECTIONS
    return report


async def _measure(server: Trickles | Uvicorn, seconds: float) -> tuple[Load, Counter[str]]:
    """Load and disturbance together; the load, and which steps were taken meanwhile."""
    load = Load(server.connect, server.port)
    done: Counter[str] = Counter()

    async def disturb() -> None:
        for step in STEPS:
            await asyncio.sleep(seconds / (4 * len(STEPS)))
            await (server.restart() if step == "restart" else server.kill())
            done[step] += 1

    disturbing = asyncio.ensure_future(disturb())
    await load.run(int(RATE * seconds))
    disturbing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await disturbing
    return load, done


def _tell(report: Report, name: str, load: Load, done: Counter[str]) -> None:
    times = sorted(load.times)
    report.add(
        {
            "server": name,
            "requests": len(times) + load.failures.total(),
            "failed": load.failures.total(),
            "all workers replaced": done["restart"],
            "SIGKILLs": done["kill"],
            "connections or flows opened": load.opened,
            "p50 ms": statistics.median(times) * 1000,
            "p99 ms": times[len(times) * 99 // 100] * 1000,
            "longest ms": times[-1] * 1000,
        }
    )
    for failure, number in load.failures.most_common(5):
        report.figures[f"{name}: {failure}"] = number
