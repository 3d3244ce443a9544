"""Scenario: large uploads, what they cost in memory, and what survives of one half-way.

Request bytes lie at one worker, when they are many in a file without a name. When it is killed, the
client sends them again, to the other worker.
"""

from __future__ import annotations

import os
import time

from apps.large_files import MEGABYTE
from loadtest.downloads import judge_logs
from loadtest.owners import Owner, spooled, workers
from loadtest.processes import PATIENCE_S, Process, Replica, Stage, free_udp_port
from loadtest.report import Options, Report
from loadtest.transfers import LOOK_S, Transfer
from loadtest.uploading import expected_sha256


def run(options: Options) -> Report:
    """By a flow and by curl through a gateway; to workers that live, and with one killed."""
    report = Report()
    megabytes = 100 if options.quick else 1000
    for client in ("flow", "curl"):
        for kills in (0, 1):
            with Stage() as stage:
                upload(report, stage, client, megabytes, kills)
    return report


def upload(report: Report, stage: Stage, client: str, megabytes: int, kills: int) -> None:
    """One upload to new workers; with `kills` = 1 one of them is killed when it holds half."""
    port = free_udp_port()
    limit = f"--limit-request-body={megabytes * MEGABYTE}"
    words = ("apps.site:app", "--port", str(port), "--workers", "2", limit)
    server = Replica(stage, "server", *words)
    server.ready()
    gateway, tcp = stage.start_gateway(port) if client == "curl" else (None, 0)
    began = time.monotonic()
    if client == "curl":
        process = _curl(stage, tcp, megabytes)
    else:
        process = stage.python(
            "client", "loadtest.uploading", "send", f"127.0.0.1:{port}", str(megabytes)
        )
    transfer = Transfer("up", client, megabytes, server, process, gateway)
    victim = Owner(server, lambda: max(workers(server), key=spooled, default=0))
    while process.popen.poll() is None:
        now = time.monotonic()
        transfer.look(now)
        if victim.kills < kills and max(map(spooled, workers(server))) * 2 > megabytes * MEGABYTE:
            victim.restart()
        if now > began + PATIENCE_S + megabytes:
            process.popen.kill()
        time.sleep(LOOK_S)
    transfer.seconds = time.monotonic() - began
    transfer.kills = victim.kills
    transfer.same = f'"sha256":"{expected_sha256(megabytes)}"' in process.log
    if not transfer.same:  # the gateway's last words say more than curl's
        transfer.complaint = process.log if gateway is None else gateway.log
    transfer.judge(report, kills)
    judge_logs(report, [server])


def _curl(stage: Stage, tcp: int, megabytes: int) -> Process:
    """curl reads from a pipe, so its length must be told."""
    pipe = stage.directory / "body"
    os.mkfifo(pipe)
    stage.python("writer", "loadtest.uploading", "write", str(pipe), str(megabytes))
    headers = (f"Content-Length: {megabytes * MEGABYTE}", "Transfer-Encoding:")
    return stage.start(
        "client",
        *("curl", "-sS", "-X", "POST", "-T", str(pipe)),
        *(word for header in headers for word in ("-H", header)),
        f"http://127.0.0.1:{tcp}/upload",
    )
