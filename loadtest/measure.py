"""What an interval cost in CPU: servers, clients, and everybody else on the machine."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

CLIENT_BOUND = 0.9
"""Share of its core that a load generator uses when it is what limits the rate."""
_TICKS = os.sysconf("SC_CLK_TCK")


def server_core() -> tuple[str, ...]:
    """Words before a command that keep it on the core of servers."""
    return _on_core(0)


def client_core() -> tuple[str, ...]:
    """The same for load generators: another core, where there are two."""
    return _on_core(1)


def pinning() -> str:
    """How servers and load generators are kept apart, for a report."""
    if shutil.which("taskset") is None:
        return "not pinned: taskset is missing (apt-get install util-linux)"
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) == 1:
        return f"servers and load generators share the only core ({cores[0]})"
    return f"servers on core {cores[0]}, load generators on core {cores[1]}"


def _on_core(index: int) -> tuple[str, ...]:
    if shutil.which("taskset") is None:
        return ()
    cores = sorted(os.sched_getaffinity(0))
    return ("taskset", "-c", str(cores[min(index, len(cores) - 1)]))


def family(pid: int) -> list[int]:
    """A process and all its descendants."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found


def cpu_seconds(pids: Sequence[int]) -> float:
    """User and system time of these processes and their descendants until now, of all threads.

    From their CPU clocks, which count nanoseconds (/proc/PID/stat counts hundredths of a second)
    and ended threads too. What has ended, with its descendants, is not counted.
    """
    total = 0.0
    for pid in pids:
        for member in family(pid):
            with contextlib.suppress(OSError):
                # <linux/posix-timers.h>: CPUCLOCK_SCHED of a process, as clock_getcpuclockid has it
                total += time.clock_gettime(~member << 3 | 2)
    return total


def _self_and_children() -> tuple[float, float]:
    def spent(who: int) -> float:
        usage = resource.getrusage(who)
        return usage.ru_utime + usage.ru_stime

    return spent(resource.RUSAGE_SELF), spent(resource.RUSAGE_CHILDREN)


def _machine_busy() -> float:
    """Seconds of all cores together that were not idle, nor taken by other virtual machines."""
    fields = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0].split()[1:]
    user, nice, system, _, _, irq, softirq = map(int, fields[:7])
    return (user + nice + system + irq + softirq) / _TICKS


@dataclass(slots=True)
class Interval:
    """Seconds: of the clock, and of CPU. Filled in when the interval is over."""

    seconds: float = 0.0
    server_s: float = 0.0
    client_s: float = 0.0
    """Of the processes that were started and waited for in it."""
    foreign_s: float = 0.0
    """Everybody else: what may have disturbed the measurement."""


@contextlib.contextmanager
def interval(servers: Sequence[int]) -> Iterator[Interval]:
    """Watch these processes, and the clients that begin and end in the meantime."""
    result = Interval()
    busy, (own, children), server = _machine_busy(), _self_and_children(), cpu_seconds(servers)
    began = time.monotonic()
    yield result
    result.seconds = time.monotonic() - began
    result.server_s = cpu_seconds(servers) - server
    own_now, children_now = _self_and_children()
    result.client_s = children_now - children
    known = result.server_s + result.client_s + own_now - own
    result.foreign_s = max(0.0, _machine_busy() - busy - known)
