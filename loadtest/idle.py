"""Scenario: what open idle flows cost a server in memory, and idle connections another one."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import socket
import time
from pathlib import Path

from loadtest import peers
from loadtest.application import BODY
from loadtest.flows import GET, Crowd
from loadtest.processes import PATIENCE_S, Stage
from loadtest.report import Options, Report
from trickles_web.state.ledger import LIFE_MS

MORE, QUICK_MORE = 100_000, 5_000
"""Flows that count,"""
STEP = 1_000
WARM_S, QUICK_WARM_S = 2 * LIFE_MS / 1000 + 10, 5.0
"""and seconds of opening others first. By then everything is in use that is bounded: both replay
filters, and what is remembered for a while of exchanges that are over."""
MOST_CONNECTIONS = 20_000
OTHER_DESCRIPTORS = 512
"""What a process needs besides its connections."""
SOCKET_CACHES = ("TCP", "UDP", "sock_inode_cache", "filp", "eventpoll_epi")
"""Of /proc/slabinfo: what the kernel keeps of a socket that somebody waits for."""


def memory_kb(pid: int) -> dict[str, int]:
    """Kilobytes by kind, from /proc/PID/smaps_rollup: Rss, Pss, Anonymous and so on."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    return {name: int(size) for name, size in re.findall(r"^(\w+): +(\d+) kB$", text, re.M)}


def sockets_kb() -> int:
    """Kilobytes of kernel objects for sockets on this machine; 0 for who is not root."""
    try:
        text = Path("/proc/slabinfo").read_text(encoding="ascii")
    except PermissionError:
        return 0
    found = re.findall(rf"^(?:{'|'.join(SOCKET_CACHES)}) +(\d+) +\d+ +(\d+)", text, re.M)
    return sum(int(objects) * int(size) for objects, size in found) // 1024


def stored_mb(directory: Path) -> float:
    """What the files below take, in whole blocks."""
    total = 0
    for parent, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(parent, name)).st_blocks * 512
    return total / 1e6


def run(options: Options) -> Report:
    report = Report()
    _flows(report, options.quick)
    _connections(report, options.quick)
    report.figures["kernel KB"] = (
        f"sizes of {', '.join(SOCKET_CACHES)} in /proc/slabinfo, of both ends and all else here"
    )
    return report


class _Growth:
    """Rows of one server, each beside how it was before anything was open."""

    def __init__(self, report: Report, name: str, pid: int) -> None:
        self._report, self._name, self._pid = report, name, pid
        self._first, self._kernel = memory_kb(pid), sockets_kb()

    def row(self, count: int, seconds: float) -> int:
        """Look; the resident kilobytes."""
        found, kernel = memory_kb(self._pid), sockets_kb() - self._kernel
        grown = found["Rss"] - self._first["Rss"]
        self._report.add(
            {
                "server": self._name,
                "open": count,
                "RSS KB": found["Rss"],
                "PSS KB": found["Pss"],
                "RSS grown KB": grown,
                "RSS KB each": grown / count,
                "kernel grown KB": kernel,
                "kernel KB each": kernel / count,
                "seconds": seconds,
            }
        )
        return found["Rss"]


def _flows(report: Report, quick: bool) -> None:
    more, warm = (QUICK_MORE, QUICK_WARM_S) if quick else (MORE, WARM_S)
    with Stage() as stage:
        running = peers.start(stage, peers.Server("trickles", "httptools", "uvloop"))
        growth = _Growth(report, running.server.name, running.process.pid)
        crowd = Crowd((peers.HOST, running.port))
        began = time.monotonic()
        while time.monotonic() < began + warm:
            crowd.open(STEP)
        before = growth.row(crowd.open_flows, time.monotonic() - began)
        crowd.open(more)
        after = growth.row(crowd.open_flows, time.monotonic() - began)
        report.figures["files of the run directory at the end, MB"] = stored_mb(stage.directory)
        reused = crowd.again()
        crowd.close()
        report.check("Traceback" not in running.process.log, "no traceback in the server's log")
    report.figures["flows asked again at the end"] = len(crowd.kept)
    report.figures["... and answered"] = reused
    report.judge("idle-memory", [(after - before) / 1000])
    report.check(reused == len(crowd.kept), "every flow asked again is still open")
    report.check(crowd.answers == {BODY}, "every answer is the right one")


def _connections(report: Report, quick: bool) -> None:
    """As many as a process may have descriptors; each has had an answer, and is kept alive."""
    most = QUICK_MORE if quick else MOST_CONNECTIONS
    connections = min(most, allow_descriptors(most + OTHER_DESCRIPTORS) - OTHER_DESCRIPTORS)
    report.figures["connections, by what descriptors allow"] = connections
    with Stage() as stage:
        server = peers.Server("uvicorn", "httptools", "uvloop")
        running = peers.start(stage, server, more=("--timeout-keep-alive=3600",))
        growth = _Growth(report, server.name, running.process.pid)
        opened: list[socket.socket] = []
        began = time.monotonic()
        try:
            for count in (connections // 2, connections):
                while len(opened) < count:
                    opened.append(_answered(running.port))
                growth.row(count, time.monotonic() - began)
        finally:
            for sock in opened:
                sock.close()


def _answered(port: int) -> socket.socket:
    """A connection that has had the answer to one request."""
    sock = socket.create_connection((peers.HOST, port), PATIENCE_S)
    sock.sendall(GET)
    answer = b""
    while not answer.endswith(BODY):
        piece = sock.recv(4096)
        if not piece:
            raise RuntimeError("a connection was closed instead of answered")
        answer += piece
    return sock


def allow_descriptors(wanted: int) -> int:
    """Raise the limit of this process, and so of its children, as far as it may be; the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limit in (wanted, min(wanted, hard)):
        if limit > soft:
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (limit, max(limit, hard)))
                return limit
    return soft
