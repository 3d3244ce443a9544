"""The faults of the scenario `chaos`, and what they happen to.

A fault is begun and gives what ends it: `begin(storm, chance) -> end`. What cannot be done on this
machine is not `possible`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import re
import resource
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from loadtest import faulty, mixture
from loadtest.processes import BANNER, Process, Stage, free_udp_port
from loadtest.weather import LARGEST, Path
from trickles_web.config import TransportConfig
from trickles_web.net.endpoint import wall_clock_ms

HOST = "127.0.0.1"
REPLICAS = 3
APART_MS = (0, 2500, -2500)
"""Clocks: the last two differ by 5 s, which is what the protocol allows."""
HOUR_MS = 3_600_000
ROTATION_AFTER_MS = 10_000
"""Keys live for an hour, and the first hour ends so soon: then a clock that is stepped back has the
keys of the generation before."""
FILTER_KEYS = 512
CANNOT_BEGIN = 2
"""The exit code of a server that cannot have what it needs."""
SMALL_DISK = "64m"
NARROW_BYTES = 1272
"""Payload that passes where the path's MTU is 1,300: the first datagrams on the loopback have
16,376."""

End = Callable[[], None]


class Storm:
    """Three replicas, the path to them, and their store; a context manager."""

    def __init__(self, stage: Stage, store: str, seed: int) -> None:
        """store: "directory" or "Redis"."""
        self.stage = stage
        self.executions = stage.directory / "executions"
        self.executions.touch()
        self.small = stage.directory / "small"
        self.small.mkdir()
        self.mounted = False
        self.redis: Process | None = None
        self.kills = 0
        self._by_directory = store == "directory"
        self._logs: list[str] = []
        self._ports = [free_udp_port() for _ in range(REPLICAS)]
        self._clocks = [stage.directory / f"clock{n}" for n in range(REPLICAS)]
        now = wall_clock_ms()
        self._base = -now % HOUR_MS - ROTATION_AFTER_MS
        self._stack = contextlib.ExitStack()
        self.path = Path([(HOST, port) for port in self._ports], seed)
        stage.environment |= {
            mixture.FILES: str(stage.directory),
            mixture.EXECUTIONS: str(self.executions),
        }
        self.replicas: list[Process] = []

    def __enter__(self) -> Storm:
        with contextlib.ExitStack() as stack:
            self._mount(stack)
            if not self._by_directory:
                self.start_redis()
            for number in range(REPLICAS):
                self.set_clock(number, 0)
            self.replicas = [self._start(number) for number in range(REPLICAS)]
            for replica in self.replicas:
                replica.says(BANNER)
            stack.enter_context(self.path)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        for replica in self.replicas:
            if replica.popen.poll() is None:
                replica.end(signal.SIGKILL)
        self._stack.close()

    def _mount(self, stack: contextlib.ExitStack) -> None:
        """A small disk for the store and for spools, where that is allowed."""
        command = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}", "tmpfs", str(self.small)]
        self.mounted = os.geteuid() == 0 and not subprocess.run(command, check=False).returncode
        if self.mounted:
            stack.callback(subprocess.run, ["umount", "-l", str(self.small)], check=True)

    def _start(self, number: int) -> Process:
        store = self.stage.redis_url
        if self._by_directory:
            store = f"dir:{self.small}/run"
        words = ("loadtest.mixture:app", str(self._ports[number]), store)
        options = (f"rotation_ms={HOUR_MS}", f"replay_capacity={FILTER_KEYS}")
        clock = str(self._clocks[number])
        spools = ("env", f"TMPDIR={self.small}")
        return self.stage.python(
            f"replica{number}", "loadtest.faulty", *words, clock, *options, before=spools
        )

    def start_redis(self) -> None:
        self.redis = self.stage.redis()

    def set_clock(self, number: int, ahead_ms: int) -> None:
        """Of one replica; 0: as it was when all began."""
        offset = self._base + APART_MS[number] + ahead_ms
        faulty.write_offset(self._clocks[number], offset)

    def client(self, exchanges: int, seconds: float, seed: int) -> Process:
        words = (str(exchanges), str(seconds), str(seed), str(self.stage.directory), "0")
        return self.stage.python("client", "loadtest.mixed", "flow", str(self.path.port), *words)

    def kill(self, number: int) -> None:
        """SIGKILL; another process takes its place."""
        self.replicas[number].end(signal.SIGKILL)
        self._logs.append(self.replicas[number].log)
        self.kills += 1
        self.replicas[number] = self._start(number)

    def look(self) -> None:
        """Raises RuntimeError if a replica has ended by itself. One that could not begin, as the
        disk was full, begins again, as under a supervisor.
        """
        for number, replica in enumerate(self.replicas):
            code = replica.popen.poll()
            if code == CANNOT_BEGIN:
                self._logs.append(replica.log)
                self.replicas[number] = self._start(number)
            elif code is not None:
                raise RuntimeError(f"a replica ended with {code}: {replica.log[-2000:]}")

    def end(self) -> list[int]:
        """All replicas; their exit codes."""
        codes = [replica.end() for replica in self.replicas]
        self._logs += [replica.log for replica in self.replicas]
        return codes

    def logs(self) -> list[str]:
        return self._logs

    def lasting(self) -> dict[str, str]:
        """What was wrong all the time, and how."""
        counted = self.path.counters
        kinds = ("lost", "corrupted", "late", "repeated", "too large")
        weather = ", ".join(f"{counted[kind]:,} {kind}" for kind in kinds)
        return {
            "clocks 5 s apart, keys rotated": f"1 rotation, after {ROTATION_AFTER_MS / 1000:g} s",
            f"replay filters of {FILTER_KEYS} keys": self._overfilled(),
            "path": f"{counted['datagrams']:,} datagrams: {weather}",
        }

    def _overfilled(self) -> str:
        """How many times as many keys as a filter is made for came in the time that it is for."""
        transport = TransportConfig()
        span_s = (transport.replay_horizon_ms + 2 * transport.clock_skew_ms) / 1000
        times = []
        for log in self._logs:
            full, ran = (
                re.search(r"'filter_full': (\d+)", log),
                re.search(r"ran for ([\d.]+) s", log),
            )
            if full is not None and ran is not None:  # it was not killed
                times.append(int(full[1]) / (float(ran[1]) / span_s))
        return "overfilled " + (", ".join(f"{n:.1f}" for n in times) or "0") + " times"


def _nothing() -> None:
    """Ends what ended by itself."""


# ---- what happens to replicas


def _kill(storm: Storm, chance: random.Random) -> End:
    storm.kill(chance.randrange(REPLICAS))
    return _nothing


def _stop(storm: Storm, chance: random.Random) -> End:
    process = chance.choice(storm.replicas)
    process.popen.send_signal(signal.SIGSTOP)
    return lambda: process.popen.send_signal(signal.SIGCONT)


def _step(storm: Storm, chance: random.Random) -> End:
    number = chance.randrange(REPLICAS)
    storm.set_clock(number, -HOUR_MS)
    return lambda: storm.set_clock(number, 0)


def _exhaust(storm: Storm, chance: random.Random) -> End:
    """No file and no socket can be opened any more, by a replica that has come to serving."""
    process = chance.choice(storm.replicas)
    if not re.search(BANNER, process.log):
        return _nothing
    before = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (3, before[1]))

    def end() -> None:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, before)

    return end


# ---- to what they share


def _restart_redis(storm: Storm, chance: random.Random) -> End:
    """With nothing of what it held."""
    assert storm.redis is not None
    storm.redis.end(signal.SIGKILL)
    return storm.start_redis


def _fill(storm: Storm, chance: random.Random) -> End:
    filler = storm.small / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 16))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
    return filler.unlink


# ---- to the path


def _weather(name: str, value: float, usual: float) -> Callable[[Storm, random.Random], End]:
    def begin(storm: Storm, chance: random.Random) -> End:
        setattr(storm.path.weather, name, value)
        return lambda: setattr(storm.path.weather, name, usual)

    return begin


def _move(storm: Storm, chance: random.Random) -> End:
    storm.path.move()
    return _nothing


@dataclass(frozen=True, slots=True)
class Fault:
    """`seconds`: it lasts from so long to so long."""

    begin: Callable[[Storm, random.Random], End]
    seconds: tuple[float, float] = (0.5, 2.0)
    possible: Callable[[Storm], bool] = lambda storm: True


FAULTS = {
    "replica killed (SIGKILL), restarted": Fault(_kill),
    "replica stopped (SIGSTOP) for 1 to 5 s": Fault(_stop, (1.0, 5.0)),
    "clock stepped back by an hour, and forth": Fault(_step, (1.0, 6.0)),
    "no descriptor free": Fault(_exhaust),
    "Redis killed, restarted empty": Fault(
        _restart_redis, (0.2, 2.0), lambda s: s.redis is not None
    ),
    "disk of store and spools full": Fault(_fill, (0.5, 3.0), lambda s: s.mounted),
    "a tenth of packets corrupted": Fault(_weather("corrupt", 0.1, 0.0)),
    "a tenth of packets late by up to 1 s": Fault(_weather("late", 0.1, 0.0)),
    "a tenth of packets tenfold": Fault(_weather("repeated", 0.1, 0.0)),
    "a fifth of packets lost": Fault(_weather("loss", 0.2, 0.01)),
    "MTU lowered from 65,536 to 1,300": Fault(
        _weather("largest", NARROW_BYTES, LARGEST), (1.0, 5.0)
    ),
    "clients have another address": Fault(_move),
}
