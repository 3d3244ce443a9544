"""Scenario: 1 GB up, and 1 GB of a generated stream down, while the worker at it is SIGKILLed.

Up: see `upload`. Down: the stream gives checkpoints, and the next worker goes on from the last one.
"""

from __future__ import annotations

import hashlib
import re
import time
from pathlib import Path

from loadtest import downloads, upload
from loadtest.downloads import at_shares, judge_logs
from loadtest.owners import Owner
from loadtest.processes import PATIENCE_S, Replica, Stage, free_udp_port
from loadtest.report import Options, Report
from loadtest.transfers import Transfer
from loadtest.uploading import expected_sha256

STDOUT = Path("-")
"""As both clients call it."""


def run(options: Options) -> Report:
    report = upload.run(options)
    megabytes, kills = (100, 1) if options.quick else (1000, 5)
    for client in downloads.CLIENTS:
        with Stage() as stage:
            download(report, stage, client, megabytes, kills)
    return report


def download(report: Report, stage: Stage, client: str, megabytes: int, kills: int) -> None:
    """One download into a digest; whoever generates is killed so often, at even distances."""
    port = free_udp_port()
    server = Replica(stage, "server", "loadtest.generated:app", "--port", str(port), "--workers=2")
    server.ready()
    gateway, tcp = stage.start_gateway(port) if client == "curl" else (None, port)
    victim = Owner(server, lambda: _generator(server))
    disturb = at_shares(victim, megabytes, kills)
    digest, size, longest = hashlib.sha256(), 0, 0.0
    began = came = time.monotonic()
    words = downloads.command(client, f"127.0.0.1:{tcp}/{megabytes}", STDOUT, "")
    process = downloads.start(stage, words, piped=True)
    transfer = Transfer("down", client, megabytes, server, process, gateway)
    for data, now in process.output(began + PATIENCE_S + megabytes):
        transfer.look(now)
        if data:
            longest = max(longest, now - came) if size else 0.0
            digest.update(data)
            size, came = size + len(data), now
            disturb(size, now)
    transfer.seconds = time.monotonic() - began
    transfer.kills = victim.kills
    transfer.same = digest.hexdigest() == expected_sha256(megabytes)
    transfer.complaint = process.log
    transfer.judge(report, kills)
    report.figures[f"longest stall s, down by {client}"] = longest
    report.check(not process.popen.returncode, f"{client} down: exit code 0")
    judge_logs(report, [server])


def _generator(server: Replica) -> int:
    """The process that has begun with the stream, or gone on with it, last."""
    return int(re.findall(r"Process \[(\d+)\] begins", server.log)[-1])
