"""Scenario: a server is SIGKILLed in the middle of downloads: one of three, and the only one.

Packets are sprayed: each goes to any of the three. Under a supervisor, as users run it, a dead
worker's socket is gone, and the others get its share. Where sockets are held, as by a balancer that
does not notice a death, what meets the dead server waits in its queue until it is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from apps.large_files import MEGABYTE
from loadtest import downloads
from loadtest.downloads import Victim, download, in_turn, judge
from loadtest.kind import flows
from loadtest.processes import LOOK_S, PATIENCE_S, Replica, Stage, free_udp_port
from loadtest.report import Options, Report
from loadtest.supervised import supervised
from trickles_web.client import open_connection
from trickles_web.client.tokens import TokenStore
from trickles_web.net.sockets import bind_udp
from trickles_web.net.steering import attach, steer_at_random

APP = "apps.site:app"
HOST = "127.0.0.1"
REPLICAS = 3
LIMIT = "10M"
KILL_EVERY_S = 1.0
STALLS, QUICK_STALLS = 9, 3
MEGABYTES = 20
"""Downloads of one kill each, by a reader that measures how long it waits, and their size."""


@dataclass(slots=True)
class Servers:
    """Whom to kill, and the downloads of real clients meanwhile: megabytes, and at what rate."""

    kind: str
    port: int
    victims: Sequence[Victim]
    cases: tuple[tuple[int, str], ...] = ((100, LIMIT), (200, ""))

    def await_all(self) -> None:
        """Until all of them serve. Raises RuntimeError if one does not come back."""
        deadline = time.monotonic() + PATIENCE_S
        while not all(victim.back for victim in self.victims):
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.kind}: a server does not come back")
            time.sleep(LOOK_S)


@dataclass(slots=True)
class Reading:
    """One download by a flow of this process. Seconds."""

    longest_before: float = 0.0
    """Wait for bytes, before the kill,"""
    longest: float = 0.0
    """and from the kill on."""
    probe_timeout: float = 0.0
    """The flow's, when the server was killed."""
    before: float = 0.0
    """MB/s before the kill,"""
    after: float = 0.0
    """and from it on."""
    digest: str = ""
    error: str = ""

    @property
    def stall(self) -> float:
        """In probe timeouts."""
        return self.longest / self.probe_timeout


def run(options: Options) -> Report:
    """A reader that measures its stalls, then real clients: at 10 MB/s, and at full speed."""
    report = Report()
    count = QUICK_STALLS if options.quick else STALLS
    for size in (MEGABYTES, 100, 200):
        downloads.expected_sha256(size)  # made now, not while time is taken
    wrong = 0
    with Stage() as stage:
        for start in (_supervised, _held, _single):
            with start(stage) as servers:
                readings = stalls(servers, MEGABYTES, count)
                wrong += _tell(report, servers, readings, MEGABYTES)
                if start is _supervised:
                    report.judge("fail-over-stall", [reading.stall for reading in readings])
                if not options.quick and flows().private is None:
                    wrong += _clients(report, stage, servers)
                downloads.judge_logs(report, servers.victims)
    report.judge("fail-over-errors", [wrong])
    return report


# ---- the servers


@contextlib.contextmanager
def _supervised(stage: Stage) -> Iterator[Servers]:
    port, workers = supervised(stage, APP, REPLICAS, "--steering", "random")
    yield Servers("3, supervised", port, workers)
    workers[0].supervisor.end()


@contextlib.contextmanager
def _held(stage: Stage) -> Iterator[Servers]:
    with sprayed_sockets(REPLICAS) as group:
        replicas = []
        for number, sock in enumerate(group):
            fd = sock.fileno()
            replicas.append(Replica(stage, f"held{number}", APP, "--fd", str(fd), fds=(fd,)))
        port = group[0].getsockname()[1]
        # What meets a dead server here waits until it is back, so this takes its time.
        yield Servers("3, sockets held", port, replicas, ((MEGABYTES, LIMIT),))
        _end(replicas)


@contextlib.contextmanager
def _single(stage: Stage) -> Iterator[Servers]:
    port = free_udp_port()
    replica = Replica(stage, "single", APP, "--port", str(port))
    yield Servers("1, restarted", port, [replica])
    _end([replica])


def _end(replicas: list[Replica]) -> None:
    for replica in replicas:
        replica.process.end()


@contextlib.contextmanager
def sprayed_sockets(count: int) -> Iterator[list[socket.socket]]:
    """UDP sockets on one port; the kernel chooses one at random for each datagram.

    Raises RuntimeError where the kernel refuses.
    """
    with contextlib.ExitStack() as stack:
        group = [stack.enter_context(bind_udp(HOST, 0, reuse_port=True))]
        port = group[0].getsockname()[1]
        for _ in range(count - 1):
            group.append(stack.enter_context(bind_udp(HOST, port, reuse_port=True)))
        if not attach(group[0], steer_at_random(count)):
            raise RuntimeError("this kernel refuses SO_ATTACH_REUSEPORT_CBPF")
        yield group


# ---- who reads


def stalls(servers: Servers, megabytes: int, count: int) -> list[Reading]:
    """So many downloads, in the middle of each of which another server is killed."""
    readings = []
    for number in range(count):
        servers.await_all()
        victim = servers.victims[number % len(servers.victims)]
        readings.append(asyncio.run(read(servers.port, megabytes, victim.restart)))
    return readings


async def read(port: int, megabytes: int, kill: Callable[[], None]) -> Reading:
    """Download, kill when half is here, and look how long the reader waits at most."""
    reading, digest, got, half = Reading(), hashlib.sha256(), 0, 0
    tokens = TokenStore(None)
    try:
        async with asyncio.timeout(PATIENCE_S):
            reader, writer = await open_connection(HOST, port, config=flows(), tokens=tokens)
            head = f"GET /files/{megabytes}.bin HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            writer.write(head.encode())
            await reader.readuntil(b"\r\n\r\n")
            since = time.monotonic()
            while True:
                began = time.monotonic()
                data = await reader.read(MEGABYTE)
                waited = time.monotonic() - began
                if not data:
                    break
                digest.update(data)
                got += len(data)
                if not reading.probe_timeout:
                    reading.longest_before = max(reading.longest_before, waited)
                    if got * 2 > megabytes * MEGABYTE:
                        flow = writer.transport.flow  # type: ignore[attr-defined]
                        reading.probe_timeout = flow.stats.probe_timeout
                        reading.before = got / 1e6 / (time.monotonic() - since)
                        since, half = time.monotonic(), got
                        kill()
                else:
                    reading.longest = max(reading.longest, waited)
            reading.after = (got - half) / 1e6 / (time.monotonic() - since)
            writer.close()
    except (OSError, EOFError) as error:
        reading.error = repr(error)
    reading.digest = digest.hexdigest()
    return reading


def _tell(report: Report, servers: Servers, readings: list[Reading], megabytes: int) -> int:
    """A row of them; how many failed."""
    right = downloads.expected_sha256(megabytes)
    failed = sum(bool(reading.error) or reading.digest != right for reading in readings)
    timeouts = [reading.probe_timeout * 1000 for reading in readings]
    longest = [reading.longest * 1000 for reading in readings]
    before = statistics.median(reading.longest_before * 1000 for reading in readings)
    what = f"{servers.kind}, a flow, {len(readings)} kills"
    report.figures[f"{what}: errors and wrong bytes"] = failed
    for reading in readings:
        if reading.error:
            report.figures[f"{what}: {reading.error}"] = 1
    report.figures[f"{what}: probe timeout ms, median"] = statistics.median(timeouts)
    report.figures[f"{what}: longest wait before the kill ms, median"] = before
    report.figures[f"{what}: longest wait after it ms, median"] = statistics.median(longest)
    report.figures[f"{what}: longest wait after it ms, most"] = max(longest)
    rates = [
        statistics.median(r.before for r in readings),
        statistics.median(r.after for r in readings),
    ]
    report.figures[f"{what}: MB/s before and after, medians"] = " and ".join(
        f"{x:.1f}" for x in rates
    )
    return failed


def _clients(report: Report, stage: Stage, servers: Servers) -> int:
    """The commands that users have, while one server is killed after the other; how many failed."""
    failed = 0
    where = {"trickles-get": servers.port, "curl": stage.gateway(servers.port)}
    for megabytes, limit in servers.cases:
        for client in downloads.CLIENTS:
            servers.await_all()
            disturb = in_turn(servers.victims, KILL_EVERY_S)
            address = f"{HOST}:{where[client]}"
            outcome = download(stage, client, address, megabytes, limit, servers.victims, disturb)
            judge(report, outcome, 1 if limit else 0, servers.kind)
            failed += not outcome.right
    return failed
