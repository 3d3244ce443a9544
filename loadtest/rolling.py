"""Scenario: all workers are replaced, three times, under a steady load; beside uvicorn.

The masters of both are told by SIGHUP. In between a worker of either is killed, twice. The load is
GETs, and a tenth as many POSTs, each of which leaves a trace where it is executed.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import re
import signal
import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from loadtest import mixture, peers
from loadtest.kind import flows
from loadtest.processes import BANNER, Process, Stage, free_udp_port
from loadtest.report import Options, Report
from trickles_web.client import open_connection
from trickles_web.client.tokens import TokenStore

WORKERS = 2
APP = "loadtest.mixture:app"
RATE = 500
"""GETs a second."""
POSTS = 10
"""One POST for so many of them."""
SECONDS, QUICK_SECONDS = 30.0, 6.0
LATE_S = 10.0
"""A request that takes longer counts as failed, where nothing else is said."""
CONNECTIONS = 50
"""Open at the start, each used ten times a second."""
STEPS = ("restart", "kill", "restart", "kill", "restart")
LOOK_S = 0.02
STARTED = "Application startup complete"
BODY_BYTES = 100
BODY = mixture.content(0, BODY_BYTES)
GET = f"GET /bytes/0/{BODY_BYTES} HTTP/1.1\r\nHost: loadtest\r\n\r\n".encode()

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[int], Awaitable[Connection]]


@dataclass(slots=True)
class Load:
    """Requests at a steady rate, whether those before are answered or not.

    Connections take turns; when none is free, a request waits. Who finds a connection closed opens
    another one; who finds out only after the request was sent has failed.
    """

    connect: Connect
    port: int
    late_s: float = LATE_S
    failures: Counter[str] = field(default_factory=Counter)
    """Of GETs."""
    posts: dict[str, str] = field(default_factory=dict)
    """What came of each POST, by its name: `done`, `refused`, `unknown`; "" while it is under way.
    """
    times: list[float] = field(default_factory=list)
    """Seconds that answers took, from when their requests were due."""
    opened: int = 0
    """Connections or flows."""
    _slots: asyncio.Queue[Connection | None] = field(default_factory=asyncio.Queue)
    """What is free; None stands for one that has to be opened."""

    async def run(self, count: int) -> None:
        """So many GETs, and the POSTs that are due with them."""
        for _ in range(CONNECTIONS):
            self._slots.put_nowait(await self._open())
        began = time.monotonic()
        requests = []
        for number in range(count):
            due = began + number / RATE
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            requests.append(asyncio.ensure_future(self._get(due)))
            if number % POSTS == 0:
                requests.append(asyncio.ensure_future(self._post(f"post{os.getpid()}-{number}")))
        await asyncio.gather(*requests)
        while not self._slots.empty():
            self._close(self._slots.get_nowait())

    async def _get(self, due: float) -> None:
        async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            status, body = await exchange(reader, writer, GET)
            if status != 200 or body != BODY:
                raise ValueError(f"a wrong answer: {status}")

        try:
            await self._on_a_connection(ask)
        except (OSError, EOFError, ValueError) as error:
            self.failures[f"{type(error).__name__}: {error}"[:100]] += 1
        else:
            self.times.append(time.monotonic() - due)

    async def _post(self, name: str) -> None:
        async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.posts[name] = ""
            request = f"POST /{name} HTTP/1.1\r\nHost: loadtest\r\nContent-Length: 2\r\n\r\nhi"
            status, _ = await exchange(reader, writer, request.encode())
            self.posts[name] = {200: "done", 503: "refused"}.get(status, "unknown")

        try:
            await self._on_a_connection(ask)
        except (OSError, EOFError, ValueError):
            self.posts[name] = "unknown"

    @property
    def under_way(self) -> int:
        """POSTs that have no answer yet."""
        return sum(not outcome for outcome in self.posts.values())

    async def _on_a_connection(self, ask: Callable[..., Awaitable[None]]) -> None:
        connection = await self._slots.get()
        try:
            async with asyncio.timeout(self.late_s):
                if connection is None or connection[0].at_eof():
                    self._close(connection)
                    connection = await self._open()
                await ask(*connection)
        except BaseException:
            self._close(connection)
            connection = None
            raise
        finally:
            self._slots.put_nowait(connection)

    async def _open(self) -> Connection:
        self.opened += 1
        return await self.connect(self.port)

    @staticmethod
    def _close(connection: Connection | None) -> None:
        if connection is not None:
            connection[1].close()


async def exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
) -> tuple[int, bytes]:
    """Status and body of the answer, which tells its length."""
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: (\d+)\r\n", head)
    body = await reader.readexactly(int(length[1]) if length else 0)
    return int(head[9:12]), body


class Server:
    """A master and its workers, ours or uvicorn's."""

    def __init__(self, name: str, master: Process, port: int, connect: Connect, workers: str):
        """workers: what the log says of one that serves, as a pattern with its pid."""
        self.name = name
        self.master = master
        self.port = port
        self.connect = connect
        self._workers = workers
        self._victims = itertools.cycle(range(WORKERS))

    @property
    def log(self) -> str:
        return self.master.log

    @property
    def pids(self) -> list[int]:
        """Of all workers that have ever served."""
        return [int(pid) for pid in re.findall(self._workers, self.log)]

    async def restart(self) -> None:
        """Until all workers have been replaced."""
        before, ended = len(self.pids), self._ended
        os.kill(self.master.pid, signal.SIGHUP)
        while len(self.pids) < before + WORKERS or self._ended < ended + WORKERS:
            await asyncio.sleep(LOOK_S)

    async def kill(self) -> None:
        """One of them, until another is in its place."""
        before = self.pids
        os.kill(before[-1 - next(self._victims)], signal.SIGKILL)
        while len(self.pids) == len(before):
            await asyncio.sleep(LOOK_S)

    @property
    def _ended(self) -> int:
        return self.log.count("Finished server process")


def trickles(stage: Stage, *more: str) -> Server:
    """more: options."""
    port = free_udp_port()
    words = (APP, f"--port={port}", f"--workers={WORKERS}", "--no-access-log", *more)
    master = stage.python("server", "trickles_web.cli.serve", *words)
    master.says(BANNER)
    tokens = TokenStore(None)

    async def connect(port: int) -> Connection:
        return await open_connection(peers.HOST, port, config=flows(), tokens=tokens)

    return Server("trickles", master, port, connect, r"Worker \d+ is process \[(\d+)\]")


def uvicorn(stage: Stage) -> Server:
    port = peers.free_tcp_port()
    words = (APP, f"--port={port}", f"--workers={WORKERS}", "--no-access-log")
    master = stage.python("uvicorn", "uvicorn", *words)
    master.says(rf"(?s)({STARTED}.*){{{WORKERS}}}")

    async def connect(port: int) -> Connection:
        return await asyncio.open_connection(peers.HOST, port)

    return Server("uvicorn", master, port, connect, r"Started server process \[(\d+)\]")


def run(options: Options) -> Report:
    report = Report()
    seconds = QUICK_SECONDS if options.quick else SECONDS
    for begin in (trickles, uvicorn):
        with Stage() as stage:
            file = stage.directory / "executions"
            file.touch()
            stage.environment[mixture.EXECUTIONS] = str(file)
            server = begin(stage)
            load, done, doomed = asyncio.run(_measure(server, seconds))
            executed = Counter(mixture.executions(file))
            _tell(report, server.name, load, done, doomed, executed)
            if begin is trickles:
                report.judge("rolling-restart", [load.failures.total()])
                report.check("Traceback" not in server.log, "no traceback in a server's log")
                report.check(options.quick or done == Counter(STEPS), "every step was taken")
                _judge_posts(report, load.posts, doomed, executed)
    report.figures["GETs a second"] = RATE
    report.figures["connections or flows at a time, about"] = CONNECTIONS
    return report


def _judge_posts(
    report: Report, posts: dict[str, str], doomed: int, executed: Counter[str]
) -> None:
    outcomes = Counter(posts.values())
    report.check(max(executed.values(), default=0) <= 1, "no POST is executed twice")
    done = {name for name, outcome in posts.items() if outcome == "done"}
    report.check(done <= set(executed), "every POST that is done was executed")
    refused = {name for name, outcome in posts.items() if outcome == "refused"}
    report.check(not refused & set(executed), "no POST that was refused was executed")
    report.check(
        outcomes["unknown"] <= doomed,
        f"{outcomes['unknown']} outcomes of POSTs unknown, {doomed} were under way at SIGKILLs",
    )


async def _measure(server: Server, seconds: float) -> tuple[Load, Counter[str], int]:
    """Load and disturbance together; the load, which steps were taken meanwhile, and how many POSTs
    were under way when a worker was killed.
    """
    load = Load(server.connect, server.port)
    done: Counter[str] = Counter()
    doomed = 0

    async def disturb() -> None:
        nonlocal doomed
        for step in STEPS:
            await asyncio.sleep(seconds / (4 * len(STEPS)))
            if step == "restart":
                await server.restart()
            else:
                doomed += load.under_way
                await server.kill()
            done[step] += 1

    await beside(load.run(int(RATE * seconds)), disturb())
    return load, done, doomed


async def beside(load: Coroutine[Any, Any, None], disturb: Coroutine[Any, Any, None]) -> None:
    """Both together, until the load is over."""
    disturbing = asyncio.ensure_future(disturb)
    await load
    disturbing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await disturbing


def _tell(
    report: Report,
    name: str,
    load: Load,
    done: Counter[str],
    doomed: int,
    executed: Counter[str],
) -> None:
    times, posts = sorted(load.times), Counter(load.posts.values())
    report.add(
        {
            "server": name,
            "GETs": len(times) + load.failures.total(),
            "failed": load.failures.total(),
            "SIGHUPs": done["restart"],
            "SIGKILLs": done["kill"],
            "connections or flows opened": load.opened,
            "p50 ms": statistics.median(times) * 1000,
            "p99 ms": times[len(times) * 99 // 100] * 1000,
            "longest ms": times[-1] * 1000,
            "POSTs": len(load.posts),
            "refused": posts["refused"],
            "unknown": posts["unknown"],
            "under way at SIGKILLs": doomed,
            "executed twice": sum(count > 1 for count in executed.values()),
        }
    )
    for failure, number in load.failures.most_common(5):
        report.figures[f"{name}: {failure}"] = number
