"""The command line: `python -m loadtest SCENARIO [--quick] [--json FILE]`."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from loadtest.report import Options, Report

SCENARIOS = {
    "kill": "downloads while the only server is SIGKILLed and restarted",
    "spray": "downloads from 3 servers, each packet to any of them, one killed every second",
    "once": "POSTs to 3 workers, 3% loss, SIGKILLs: each executed at most once (root)",
    "large": "1 GB up and 1 GB down, while the worker at it is SIGKILLed; memory of all",
    "upload": "the first half of it: 1 GB up, without and with a kill",
    "events": "server-sent events, their sender SIGKILLed every 2 s: none lost, none twice",
    "memory": "resident memory of a server between its 20,000th and 120,000th open idle flow",
    "hostile": "random, mutated and replayed datagrams at a server with a real client",
    "rtt": "round trips to the first response byte of a new flow, beside TCP (root)",
    "bulk": "goodput beside TCP Reno at 100 Mbit/s, 20 ms, for four loss rates (root)",
}
"""Each is a module of this package with `run(options) -> Report`."""


def main(argv: list[str] | None = None) -> int:
    listing = "\n".join(f"  {name:8} {what}" for name, what in SCENARIOS.items())
    parser = argparse.ArgumentParser(
        prog="python -m loadtest",
        description="Measures trickles-web with real processes.",
        epilog=f"scenarios:\n{listing}\n\nExit code 1: a target was missed.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scenario", choices=SCENARIOS, metavar="SCENARIO")
    parser.add_argument("--quick", action="store_true", help="a short form, to see that it works")
    parser.add_argument("--seed", type=int, default=1, help="of the harness's own choices")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there, too")
    given = parser.parse_args(argv)
    options = Options(given.quick, given.seed)
    report: Report = importlib.import_module(f"loadtest.{given.scenario}").run(options)
    print(report.text())
    if given.json is not None:
        report.write_json(given.json, given.scenario, options)
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
