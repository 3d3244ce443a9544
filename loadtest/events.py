"""Scenario: server-sent events, while the worker that sends them is SIGKILLed every 2 s."""

from __future__ import annotations

import re
import time

from loadtest.downloads import in_turn, judge_logs
from loadtest.owners import Owner
from loadtest.processes import PATIENCE_S, Replica, Stage, free_udp_port
from loadtest.report import Options, Report

WORKERS = 3
EVENTS, QUICK_EVENTS = 600, 200
"""Thirty seconds of them, or ten, and what the kills take."""
KILL_EVERY_S = 2.0
LONGEST_GAP_S = 1.0
"""Target between two events: twenty of their intervals. Nobody waits for the dead to come back."""
_EVENT = re.compile(rb"id: (\d+)\ndata: \1 by (\d+)\Z")


def run(options: Options) -> Report:
    """By curl through a gateway; a flow meets one worker, or each datagram any of them."""
    report = Report()
    events = QUICK_EVENTS if options.quick else EVENTS
    for steering in ("flow", "random"):
        with Stage() as stage:
            follow(report, stage, steering, events, KILL_EVERY_S)
    return report


class Reader:
    """What comes of a stream of apps.stream."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.senders: list[int] = []
        """Process ids, one for each event."""
        self.longest_gap_s = 0.0
        self.strange: list[bytes] = []
        """What came between events and is none."""
        self.rest = b""
        """Not a whole event yet."""
        self._came = 0.0

    def read(self, data: bytes, now: float) -> None:
        *whole, self.rest = (self.rest + data).split(b"\n\n")
        for text in whole:
            event = _EVENT.match(text)
            if event is None:
                self.strange.append(text)
                continue
            if self.numbers:
                self.longest_gap_s = max(self.longest_gap_s, now - self._came)
            self._came = now
            self.numbers.append(int(event[1]))
            self.senders.append(int(event[2]))


def follow(report: Report, stage: Stage, steering: str, events: int, every_s: float) -> None:
    """One stream of so many events, to its end."""
    port = free_udp_port()
    words = ("--port", str(port), "--workers", str(WORKERS), "--steering", steering)
    server = Replica(stage, "server", "apps.stream:app", *words)
    server.ready()
    tcp = stage.gateway(port)
    reader = Reader()
    victim = Owner(server, lambda: reader.senders[-1])
    disturb = in_turn([victim], every_s)
    began = time.monotonic()
    client = stage.start(
        "client", "curl", "-sS", "-N", f"http://127.0.0.1:{tcp}/?count={events}", piped=True
    )
    for data, now in client.output(began + PATIENCE_S + events / 10):
        reader.read(data, now)
        if reader.senders:
            disturb(len(reader.numbers), now)
    seconds = time.monotonic() - began
    complaint = client.log.strip()
    consecutive = reader.numbers == list(range(events)) and not (reader.strange or reader.rest)
    report.add(
        {
            "steering": steering,
            "workers": WORKERS,
            "seconds": seconds,
            "events": len(reader.numbers),
            "consecutive": consecutive,
            "kills of the owner": victim.kills,
            "owners": len(set(reader.senders)),
            "longest gap s": reader.longest_gap_s,
            "complaint": complaint or "-",
        }
    )
    report.check(consecutive, f"steering {steering}: every event once, in order")
    report.check(not complaint and not client.popen.returncode, f"steering {steering}: no error")
    report.check(victim.kills > 0, f"steering {steering}: the owner is killed")
    report.check(reader.longest_gap_s < LONGEST_GAP_S, f"a gap below {LONGEST_GAP_S:g} s")
    judge_logs(report, [server])
