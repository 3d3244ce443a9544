"""Scenario: three servers share a port, every datagram meets any of them, one dies each second."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket

from loadtest import downloads
from loadtest.downloads import download, in_turn, judge
from loadtest.processes import Process, Replica, Stage, free_udp_port
from loadtest.report import Options, Report
from trickles_web.net.sockets import bind_udp
from trickles_web.net.steering import attach, steer_at_random

APP = "apps.site:app"
REPLICAS = 3
LIMIT = "10M"
KILL_EVERY_S, QUICK_KILL_EVERY_S = 1.0, 0.3


def sprayed_sockets(stack: contextlib.ExitStack, count: int) -> list[socket.socket]:
    """UDP sockets on one port; the kernel chooses one at random for each datagram.

    Raises RuntimeError where the kernel refuses.
    """
    group = [stack.enter_context(bind_udp("127.0.0.1", 0, reuse_port=True))]
    port = group[0].getsockname()[1]
    for _ in range(count - 1):
        group.append(stack.enter_context(bind_udp("127.0.0.1", port, reuse_port=True)))
    if not attach(group[0], steer_at_random(count)):
        raise RuntimeError("this kernel refuses SO_ATTACH_REUSEPORT_CBPF")
    return group


class Worker:
    """One of the supervisor's, known by the pids in its log."""

    def __init__(self, supervisor: Process, number: int) -> None:
        self.kills = 0
        self._supervisor = supervisor
        self._name = f"Worker {number}"
        self._killed = 0

    @property
    def log(self) -> str:
        return self._supervisor.log

    def restart(self) -> None:
        """Kill it, unless it is not back since the last time; its supervisor starts another."""
        pid = int(re.findall(rf"{self._name} is process \[(\d+)\]", self.log)[-1])
        if pid != self._killed:
            self._killed = pid
            self.kills += 1
            os.kill(pid, signal.SIGKILL)


def run(options: Options) -> Report:
    """Each client: 100 MB at 10 MB/s in both forms, 1 GB at full speed under the supervisor."""
    report = Report()
    slow, fast = (20, 300) if options.quick else (100, 1000)
    for megabytes in (slow, fast):
        downloads.expected_sha256(megabytes)
    every = QUICK_KILL_EVERY_S if options.quick else KILL_EVERY_S
    with Stage() as stage:
        _held(stage, report, slow, every)
        _supervised(stage, report, ((slow, LIMIT), (fast, "")), every)
    return report


def _held(stage: Stage, report: Report, megabytes: int, every_s: float) -> None:
    """The sockets stay open here: what meets a dead server waits in its queue until it is back.

    So it is behind a balancer that does not notice a death.
    """
    with contextlib.ExitStack() as stack:
        group = sprayed_sockets(stack, REPLICAS)
        replicas = []
        for number, sock in enumerate(group):
            fd = sock.fileno()
            replicas.append(Replica(stage, f"held{number}", APP, "--fd", str(fd), fds=(fd,)))
        for replica in replicas:
            replica.ready()
        port = group[0].getsockname()[1]
        _downloads(stage, report, port, replicas, ((megabytes, LIMIT),), "3, sockets held", every_s)
        for replica in replicas:
            replica.process.end()


def _supervised(
    stage: Stage, report: Report, cases: tuple[tuple[int, str], ...], every_s: float
) -> None:
    """As users run it: a dead worker's socket is gone, and the others get its share."""
    port = free_udp_port()
    words = (APP, "--port", str(port), "--workers", str(REPLICAS), "--steering", "random")
    supervisor = stage.python("server", "trickles_web.cli.serve", "--no-access-log", *words)
    supervisor.says("running on trickles://")
    workers = [Worker(supervisor, number + 1) for number in range(REPLICAS)]
    _downloads(stage, report, port, workers, cases, "3, supervised", every_s)


def _downloads(
    stage: Stage,
    report: Report,
    port: int,
    victims: list[Replica] | list[Worker],
    cases: tuple[tuple[int, str], ...],
    servers: str,
    every_s: float,
) -> None:
    where = {"trickles-get": port, "curl": stage.gateway(port)}
    for megabytes, limit in cases:
        for client in downloads.CLIENTS:
            disturb = in_turn(victims, every_s)
            address = f"127.0.0.1:{where[client]}"
            outcome = download(stage, client, address, megabytes, limit, victims, disturb)
            judge(report, outcome, 1, servers)
    downloads.judge_logs(report, victims)
