"""The process of a simulation: the servers, the network in virtual time, and a Unix socket for the
HTTP clients of the test, each of whose connections is a flow.

Time stands still unless somebody waits for a response. While the application works it waits for
that, up to APPLICATION_S, and then passes as outside; else it leaps to what happens next. So one
seed gives one run, as long as requests follow each other and the application answers within that.

    ("started",) or ("failed", text)   to the test
    ("end",)                           from the test
    ("story", story)                   to the test, the last
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import selectors
import socket
import time
from dataclasses import dataclass
from pathlib import Path as Directory

from trickles_web.config import HttpConfig
from trickles_web.errors import LifespanFailed
from trickles_web.http.scope import ASGIApp, Scope
from trickles_web.testing import nursery
from trickles_web.testing.cluster import Client, Cluster, Process, VirtualLoop
from trickles_web.testing.connection import Connection
from trickles_web.testing.frames import connect
from trickles_web.testing.network import Path
from trickles_web.testing.replica import ApplicationFailed, Replica
from trickles_web.testing.story import Story

APPLICATION_S = 0.25
"""Real seconds that virtual time waits for an application, each time that it gets something to do.
Most answer within it, on slow machines too, and then their speed changes nothing."""
MOST_CRASHES = 10
"""Processes that end by themselves: who does so at its start is not started for ever."""
SHUTDOWN_S = 5.0
"""For the lifespans to end; as trickles-serve has it."""


@dataclass(frozen=True)
class Settings:
    """`loss`: probability for each packet. `kill_every`: calls of the application, 0 for never."""

    replicas: int
    loss: float
    kill_every: int
    seed: int
    private: bool = False


class _Outside(selectors.DefaultSelector):
    """Sockets that are ready, and how time passes while none is."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        world = self._world
        if not world.waits:
            return super().select(None)
        due = min(math.inf if timeout is None else world.clock.now + timeout, world.clock.next())
        if any(replica.works for replica in world.replicas):
            left = world.patient_until - time.monotonic()
            return super().select(left) if left > 0 else self._pass(due)
        if due == math.inf:
            return super().select(None)
        world.clock.step(due)
        return []

    def _pass(self, due: float) -> list[tuple[selectors.SelectorKey, int]]:
        """Time passes as outside."""
        clock, began = self._world.clock, time.monotonic()
        ready = super().select(None if due == math.inf else max(0.0, due - clock.now))
        if ready or due == math.inf:
            clock.now = min(due, clock.now + time.monotonic() - began)
        else:
            clock.step(due)
        return ready


class _Noting(logging.Handler):
    """What the servers log, for the report of the test: exceptions of the application, mostly."""

    def __init__(self, story: Story) -> None:
        super().__init__(logging.WARNING)
        self._story = story

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        failed = isinstance(error, ApplicationFailed)
        self._story.problem(str(error) if failed else self.format(record) + "\n")


class World(Cluster):
    """See the module. The host of the replicas."""

    def __init__(self, settings: Settings, directory: Directory, requests: socket.socket) -> None:
        """requests: to the nursery."""
        self.story = Story(settings.seed)
        self.connections: dict[tuple[str, int], Connection] = {}
        self.serving = False
        self.patient_until = 0.0
        self._requests = requests
        self._kill_every, self._calls, self._crashes = settings.kill_every, 0, 0
        self.replicas = [Replica(self, number) for number in range(settings.replicas)]
        self._tasks: set[asyncio.Task[None]] = set()
        World.private = settings.private  # it is the only one in its process
        super().__init__(
            settings.seed,
            self.replicas[0],
            directory / "store",
            Path(loss=settings.loss, request_loss=settings.loss),
            settings.replicas,
            HttpConfig(access_log=False),
            epoch_ms=time.time_ns() // 1_000_000,
        )

    @property
    def waits(self) -> bool:
        """Does the test wait for anything?"""
        return not self.serving or any(one.waits for one in self.connections.values())

    def new_loop(self) -> VirtualLoop:
        return VirtualLoop(self.clock, _Outside(self))

    def app_of(self, number: int) -> ASGIApp:
        return self.replicas[number]

    def saw(self, datagram: bytes, number: int, client: Client, *, up: bool, carried: bool) -> None:
        self.story.packet(self.clock.now, client.number, up, number, datagram, carried)

    # The host of the replicas

    def spawn(self) -> tuple[socket.socket, int]:
        return nursery.order(self._requests)

    def called(self, scope: Scope, number: int) -> bool:
        self._calls += 1
        doomed = bool(self._kill_every) and self._calls % self._kill_every == 0
        asked = self.connections[tuple(scope["client"])].asked
        if asked is not None:
            asked.replicas.append(number)
            if doomed:
                asked.killed.append(number)
        return doomed

    def dies(self, number: int) -> None:
        self.loop.call_soon(self._kill, number)

    def crashed(self, number: int) -> None:
        self._crashes += 1
        if self._crashes <= MOST_CRASHES:
            self.dies(number)

    def woken(self) -> None:
        self.patient_until = time.monotonic() + APPLICATION_S

    def problem(self, text: str) -> None:
        self.story.problem(text)

    def _kill(self, number: int) -> None:
        """With all that this process remembers; another one takes its place."""
        self.replicas[number].kill()
        self.processes[number].kill()
        task = self.loop.create_task(self._restart(number))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _restart(self, number: int) -> None:
        await self.replicas[number].begin()
        process = Process(self, number)
        try:
            await process.service.startup()
        except LifespanFailed:
            self.problem(f"replica {number}: it did not start again\n")
        else:
            self.processes[number] = process

    # Its course

    def serve(self, control: socket.socket) -> None:
        logger = logging.getLogger("trickles.error")
        logger.addHandler(_Noting(self.story))
        logger.propagate = False
        try:
            self.loop.run_until_complete(self._serve(control))
        finally:
            for replica in self.replicas:
                replica.kill()

    async def _serve(self, control: socket.socket) -> None:
        ended, gone = asyncio.Event(), asyncio.Event()

        def lost() -> None:
            ended.set()
            gone.set()

        frames = await connect(control, lambda frame: ended.set(), lost)
        try:
            await self._start()
        except LifespanFailed:
            frames.write("failed", "".join(self.story.problems))
        else:
            path = str(self.directory.parent / "http")
            server = await self.loop.create_unix_server(self._connection, path)
            frames.write("started")
            self.serving = True
            await ended.wait()
            self.serving = False
            server.close()
            await self._stop()
            frames.write("story", self.story)
        frames.close()
        await gone.wait()

    async def _start(self) -> None:
        await asyncio.gather(*(replica.begin() for replica in self.replicas))
        await asyncio.gather(*(process.service.startup() for process in self.processes))

    def _connection(self) -> Connection:
        connection = Connection(self, self.story)
        self.connections[connection.address] = connection
        return connection

    async def _stop(self) -> None:
        for connection in list(self.connections.values()):
            connection.end()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SHUTDOWN_S):
                if self._tasks:  # who was about to start is to be stopped as well
                    await asyncio.wait(self._tasks)
                await asyncio.gather(*(process.service.shutdown() for process in self.processes))
