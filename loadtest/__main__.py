"""The command line: `python -m loadtest SCENARIO|all|results [OPTIONS]`."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import traceback
from pathlib import Path

from loadtest import kind, results
from loadtest.report import Options, Report
from loadtest.scenarios import MEASURED, SCENARIOS

_WHOLE = {
    "all": "those that RESULTS.md needs, and RESULTS.md and its pictures",
    "results": "RESULTS.md alone, from what was measured before",
}


def main(argv: list[str] | None = None) -> int:
    choices = SCENARIOS | _WHOLE
    listing = "\n".join(f"  {name:11} {what}" for name, what in choices.items())
    parser = argparse.ArgumentParser(
        prog="python -m loadtest",
        description="Measures trickles-web with real processes.",
        epilog=f"scenarios:\n{listing}\n\nExit code 1: a target was missed.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scenario", choices=choices, metavar="SCENARIO")
    parser.add_argument("--quick", action="store_true", help="a short form, to see that it works")
    parser.add_argument("--seed", type=int, default=1, help="of the harness's own choices")
    parser.add_argument(
        "--private",
        action="store_true",
        help=f"the clients' flows are private: {', '.join(kind.SCENARIOS)}",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there, too")
    given = parser.parse_args(argv)
    options = Options(given.quick, given.seed)
    if given.private:
        if given.scenario not in kind.SCENARIOS:
            parser.error(f"--private is for {', '.join(kind.SCENARIOS)}")
        os.environ[kind.VARIABLE] = "1"
    if given.scenario == "results":
        results.write()
        return 0
    if given.scenario == "all":
        return _run_all(options)
    report = _run(given.scenario, options)
    print(report.text())
    if given.json is not None:
        report.write_json(given.json, given.scenario, options)
    return 1 if report.failures else 0


def _run(scenario: str, options: Options) -> Report:
    report: Report = importlib.import_module(f"loadtest.{scenario}").run(options)
    return report


def _run_all(options: Options) -> int:
    """Each scenario's result into the folder of results; one that cannot run says so there."""
    missed = False
    results.FOLDER.mkdir(exist_ok=True)
    for scenario in MEASURED:
        print(f"==== {scenario}: {SCENARIOS[scenario]}", file=sys.stderr)
        try:
            report = _run(scenario, options)
        except Exception as error:
            traceback.print_exc()
            report = Report(failures=[f"did not run: {type(error).__name__}: {error}"])
        print(report.text())
        missed = missed or bool(report.failures)
        report.write_json(results.FOLDER / f"{scenario}.json", scenario, options)
        results.write()
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
