"""Scenario: datagrams with forged source addresses: what they bring to whom they name (root)."""

from __future__ import annotations

import json
from typing import Any

from loadtest.link import FAR_ADDRESS, NEAR_ADDRESS, Shape, do, link
from loadtest.processes import Replica, Stage
from loadtest.report import Options, Report

APP = "apps.site:app"
PORT = 8_000
SHAPE = Shape(mbit=1_000.0, delay_ms=0.1)
SHOTS, QUICK_SHOTS = 1_000, 100
PATIENCE_S = 300.0
OLD_S = 65.0
"""Older than the horizon within which a continuation proves its address."""
MOST_AMPLIFICATION = 3.0


def run(options: Options) -> Report:
    report = Report()
    found = shoot(QUICK_SHOTS if options.quick else SHOTS, 0.0 if options.quick else OLD_S)
    for kind, shots in found["kinds"].items():
        most = shots["most"]
        figure = f"{shots['answered']} answered; one brings back {most:.2f} of its bytes at most"
        held = shots["sent"] > 0 and most <= MOST_AMPLIFICATION
        report.attack(f"forged source: {kind}", shots["sent"], figure, "held" if held else "MISSED")
        report.check(held, f"{kind}: {most:.2f} times the bytes, of {shots['sent']} sent")
    came, went = found["came"], found["went"]
    held = came > 0 and went == 0
    figure = f"{came} replies came to the other, which sent {went}"
    report.attack("in another server's name", came, figure, "held" if held else "MISSED")
    report.check(held, f"two servers: {came} replies, {went} answers to them")
    return report


def shoot(shots: int, age: float) -> Any:
    """As `loadtest.spoofing` prints it. Raises RuntimeError for what this machine lacks."""
    with link(SHAPE) as between, Stage() as stage:
        stage.environment["SITE_CACHE_DIR"] = str(stage.directory)
        do("ip", "-n", between.far, "route", "add", "11.0.0.0/8", "dev", "em0")
        for name, host in ((between.far, FAR_ADDRESS), (between.near, NEAR_ADDRESS)):
            words = (APP, "--host", host, "--port", str(PORT), "--preferred-address")
            Replica(stage, host, *words, f"{host}:{PORT + 1}", netns=name).ready()
        words = (FAR_ADDRESS, str(PORT), NEAR_ADDRESS, str(PORT), str(shots), str(age))
        spoofer = stage.python("spoofer", "loadtest.spoofing", *words, netns=between.near)
        spoofer.popen.wait(age + PATIENCE_S)
        return json.loads(spoofer.says(r"(?m)^\{.*\}$")[0])
