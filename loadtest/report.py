"""What a scenario has to say: rows for a table, figures beside it, and whether it passed."""

from __future__ import annotations

import datetime
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import trickles_web
from loadtest.targets import TARGETS, Verdict, judge
from trickles_web.cli.serve import COMPILED

Row = dict[str, Any]

VERSIONS_OF = ("uvicorn", "granian", "hypercorn", "aioquic", "uvloop", "httptools", "h11")


@dataclass(slots=True)
class Options:
    """The command line, for scenarios."""

    quick: bool = False
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Picture:
    """What is drawn of a scenario.

    series: values by name; those of one name stand for `places`, in order. `lines` need places
    that are numbers, and have logarithmic axes; `bars` take any.
    """

    title: str
    kind: str
    places: tuple[str | float, ...]
    series: dict[str, tuple[float, ...]]
    place: str = ""
    """What the places are,"""
    value: str = ""
    """and what the values: the texts beside the axes."""


@dataclass(slots=True)
class Report:
    """Result of one scenario; `figures` stand below the table, one a line."""

    rows: list[Row] = field(default_factory=list)
    figures: Row = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    """Targets missed, one sentence each; empty when all were met."""
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    """By the name of the target, see `loadtest.targets`."""
    pictures: list[Picture] = field(default_factory=list)

    def check(self, met: bool, target: str) -> None:
        if not met:
            self.failures.append(target)

    def judge(self, name: str, values: Sequence[float]) -> None:
        """Of the target of this name: one value a round, of which the median counts."""
        verdict = self.verdicts[name] = judge(name, values)
        target = TARGETS[name]
        self.check(verdict.met, f"{target.what}: {target.wanted}, not {verdict.median:.3g}")

    def add(self, row: Row) -> None:
        """Told at once as well: some rows take minutes."""
        self.rows.append(row)
        print(", ".join(f"{name} {show(value)}" for name, value in row.items()), file=sys.stderr)

    def attack(self, what: str, runs: int, figure: str, verdict: str) -> None:
        """A row of the table of attacks and faults."""
        self.add({"attack or fault": what, "runs": runs, "figure": figure, "verdict": verdict})

    def text(self) -> str:
        lines = table(self.rows)
        lines += [f"{name}: {show(value)}" for name, value in self.figures.items()]
        lines += [f"MISSED: {failure}" for failure in self.failures] or ["all targets met"]
        return "\n".join(lines)

    def write_json(self, path: Path, scenario: str, options: Options) -> None:
        content = {
            "scenario": scenario,
            "quick": options.quick,
            "seed": options.seed,
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes"),
            "machine": machine(),
            "rows": self.rows,
            "figures": self.figures,
            "failures": self.failures,
            "verdicts": {name: asdict(verdict) for name, verdict in self.verdicts.items()},
            "pictures": [asdict(picture) for picture in self.pictures],
        }
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def machine() -> Row:
    """What the figures depend on: cores, and versions of what ran on them."""
    found: Row = {
        "cpus": os.cpu_count(),
        "processor": _processor(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "trickles-web": trickles_web.__version__ + (", compiled" if COMPILED else ", pure Python"),
    }
    for name in VERSIONS_OF:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def table(rows: list[Row]) -> list[str]:
    """Columns in the order of the first row's keys; numbers to the right."""
    if not rows:
        return []
    names = list(rows[0])
    cells = [[show(row[name]) for name in names] for row in rows]
    widths = [max(map(len, column)) for column in zip(names, *cells, strict=True)]
    left = [isinstance(rows[0][name], str) for name in names]

    def line(texts: list[str]) -> str:
        padded = (
            text.ljust(width) if to_left else text.rjust(width)
            for text, width, to_left in zip(texts, widths, left, strict=True)
        )
        return "  ".join(padded).rstrip()

    return [line(names), line(["-" * width for width in widths]), *map(line, cells)]


def show(value: object) -> str:
    """A cell of a table."""
    if isinstance(value, bool):
        return "yes" if value else "NO"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.2f}"
    if isinstance(value, int):
        return f"{value:,}"
    return str(value)
