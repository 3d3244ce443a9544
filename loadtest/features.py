"""Scenario: the live tests, each time without one thing that Linux offers (`--without`).

Every server that the tests start is told by the environment; the clients go on using all of it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from time import monotonic

from loadtest.report import Options, Report
from tests.net.processes import ROOT, WITHOUT
from trickles_web.net.options import FEATURES

TESTS, QUICK_TESTS = ("tests/live", "tests/net"), ("tests/live/test_supervised.py",)
MOST_S = 1200.0
_PASSED = re.compile(r"(\d+) passed")


def run(options: Options) -> Report:
    report = Report()
    for feature in FEATURES:
        begun = monotonic()
        told, failed = _tested(feature, QUICK_TESTS if options.quick else TESTS)
        found = _PASSED.search(told)
        report.rows.append(
            {
                "without": feature,
                "passed": int(found[1]) if found else 0,
                "seconds": round(monotonic() - begun),
            }
        )
        if failed or found is None:
            report.failures.append(f"without {feature}:\n{told}")
    return report


def _tested(feature: str, tests: tuple[str, ...]) -> tuple[str, bool]:
    """The end of what pytest printed, and whether a test failed."""
    command = (sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "loadgroup")
    done = subprocess.run(
        [*command, "-m", "live", *tests],
        cwd=ROOT,
        env=os.environ | {WITHOUT: feature},
        capture_output=True,
        text=True,
        timeout=MOST_S,
        check=False,
    )
    return done.stdout[-2000:], done.returncode != 0
