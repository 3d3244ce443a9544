"""Scenario: every attack and every fault, in one table: how often, what came of it, the verdict."""

from __future__ import annotations

import sys
import traceback

from loadtest import chaos, floods, fuzz, garbage, lies, soak, spoofed
from loadtest.report import Options, Report

PARTS = (garbage, lies, floods, spoofed, fuzz, chaos, soak)


def run(options: Options) -> Report:
    whole = Report()
    for part in PARTS:
        name = part.__name__.rpartition(".")[2]
        print(f"==== {name}", file=sys.stderr)
        try:
            report = part.run(options)
        except Exception as error:
            traceback.print_exc()
            report = Report(failures=[f"did not run: {type(error).__name__}: {error}"])
        whole.rows += report.rows
        whole.figures |= {f"{name}: {what}": figure for what, figure in report.figures.items()}
        whole.failures += [f"{name}: {failure}" for failure in report.failures]
    return whole
