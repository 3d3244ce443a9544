"""Scenario: downloads while the only server is SIGKILLed and restarted."""

from __future__ import annotations

import random

from loadtest import downloads
from loadtest.downloads import at_shares, download, judge, while_growing
from loadtest.processes import Replica, Stage, free_udp_port
from loadtest.report import Options, Report

LIMIT = "10M"
KILLS = 5


def run(options: Options) -> Report:
    """100 MB at 10 MB/s with 5 kills, then 1 GB at full speed; each client."""
    report = Report()
    chance = random.Random(options.seed)
    slow, fast = (20, 500) if options.quick else (100, 1000)
    for megabytes in (slow, fast):
        downloads.expected_sha256(megabytes)  # made now, not while time is taken
    with Stage() as stage:
        port = free_udp_port()
        server = Replica(stage, "server", "apps.site:app", "--port", str(port))
        server.ready()
        tcp = stage.gateway(port)
        where = {"trickles-get": f"127.0.0.1:{port}", "curl": f"127.0.0.1:{tcp}"}
        for client in downloads.CLIENTS:
            disturb = at_shares(server, slow, KILLS)
            outcome = download(stage, client, where[client], slow, LIMIT, [server], disturb)
            # Of a short file curl writes most in two or three bursts.
            judge(report, outcome, 1 if options.quick else KILLS, "one")
        for client in downloads.CLIENTS:
            disturb = while_growing(server, chance)
            outcome = download(stage, client, where[client], fast, "", [server], disturb)
            judge(report, outcome, 1, "one")
        downloads.judge_logs(report, [server])
    return report
