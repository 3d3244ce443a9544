"""Scenario: what a large upload costs client, gateway and server in memory."""

from __future__ import annotations

import contextlib
import os
import re
import time
from pathlib import Path

from apps.large_files import MEGABYTE
from loadtest.downloads import judge_logs
from loadtest.processes import PATIENCE_S, Process, Replica, Stage, free_udp_port
from loadtest.report import Options, Report
from loadtest.uploading import expected_sha256

MOST_MB = 200
"""Target for client and gateway, whatever the size of the body."""
LOOK_S = 0.05
"""Between two looks at a client's memory: what it needs only at its very end may be missed."""


def peak_mb(pid: int) -> float:
    """Highest resident memory so far (VmHWM); 0 if the process has gone."""
    with contextlib.suppress(OSError):
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
        if found:
            return int(found[1]) / 1000
    return 0.0


def run(options: Options) -> Report:
    report = Report()
    megabytes = 100 if options.quick else 1000
    sha256 = expected_sha256(megabytes)
    for client in ("flow", "curl"):
        with Stage() as stage:
            _upload(report, stage, client, megabytes, sha256)
    return report


def _upload(report: Report, stage: Stage, client: str, megabytes: int, sha256: str) -> None:
    """One upload to a new server, by a program over a flow or by curl through a gateway."""
    port = free_udp_port()
    limit = f"--limit-request-body={megabytes * MEGABYTE}"
    server = Replica(stage, "server", "apps.site:app", "--port", str(port), limit)
    server.ready()
    gateway, process = None, None
    began = time.monotonic()
    if client == "curl":
        gateway, tcp = stage.start_gateway(port)
        began = time.monotonic()
        process = _curl(stage, tcp, megabytes)
    else:
        process = stage.python(
            "client", "loadtest.uploading", "send", f"127.0.0.1:{port}", str(megabytes)
        )
    client_mb = _watch(process, began + PATIENCE_S + megabytes)
    seconds = time.monotonic() - began
    gateway_mb = peak_mb(gateway.pid) if gateway is not None else 0.0
    same = f'"sha256":"{sha256}"' in process.log
    report.add(
        {
            "client": client,
            "MB": megabytes,
            "seconds": seconds,
            "MB/s": megabytes / seconds,
            "client peak MB": client_mb,
            "gateway peak MB": gateway_mb,
            "server peak MB": peak_mb(server.process.pid),
            "SHA-256 equal": same,
            "complaint": "-" if same else process.log.strip().rpartition("\n")[2][:100],
        }
    )
    what = f"{megabytes} MB by {client}"
    report.check(same, f"{what}: the server has the right bytes")
    report.check(client_mb < MOST_MB, f"{what}: client below {MOST_MB} MB")
    report.check(gateway_mb < MOST_MB, f"{what}: gateway below {MOST_MB} MB")
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


def _watch(process: Process, deadline: float) -> float:
    """Until it ends; its highest memory in MB."""
    highest = 0.0
    while process.popen.poll() is None:
        highest = max(highest, peak_mb(process.pid))
        if time.monotonic() > deadline:
            process.popen.kill()
        time.sleep(LOOK_S)
    return highest
