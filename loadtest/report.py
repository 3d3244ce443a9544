"""What a scenario has to say: rows for a table, figures beside it, and whether it passed."""

from __future__ import annotations

import json
import os
import platform
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Row = dict[str, Any]


@dataclass(slots=True)
class Options:
    """The command line, for scenarios."""

    quick: bool = False
    seed: int = 1


@dataclass(slots=True)
class Report:
    """Result of one scenario; `figures` stand below the table, one a line."""

    rows: list[Row] = field(default_factory=list)
    figures: Row = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    """Targets missed, one sentence each; empty when all were met."""

    def check(self, met: bool, target: str) -> None:
        if not met:
            self.failures.append(target)

    def add(self, row: Row) -> None:
        """Told at once as well: some rows take minutes."""
        self.rows.append(row)
        print(", ".join(f"{name} {_show(value)}" for name, value in row.items()), file=sys.stderr)

    def text(self) -> str:
        lines = table(self.rows)
        lines += [f"{name}: {_show(value)}" for name, value in self.figures.items()]
        lines += [f"MISSED: {failure}" for failure in self.failures] or ["all targets met"]
        return "\n".join(lines)

    def write_json(self, path: Path, scenario: str, options: Options) -> None:
        content = {
            "scenario": scenario,
            "quick": options.quick,
            "seed": options.seed,
            "machine": {
                "cpus": os.cpu_count(),
                "kernel": platform.release(),
                "python": platform.python_version(),
            },
            "rows": self.rows,
            "figures": self.figures,
            "failures": self.failures,
        }
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def table(rows: list[Row]) -> list[str]:
    """Columns in the order of the first row's keys; numbers to the right."""
    if not rows:
        return []
    names = list(rows[0])
    cells = [[_show(row[name]) for name in names] for row in rows]
    widths = [max(map(len, column)) for column in zip(names, *cells, strict=True)]
    left = [isinstance(rows[0][name], str) for name in names]

    def line(texts: list[str]) -> str:
        padded = (
            text.ljust(width) if to_left else text.rjust(width)
            for text, width, to_left in zip(texts, widths, left, strict=True)
        )
        return "  ".join(padded).rstrip()

    return [line(names), line(["-" * width for width in widths]), *map(line, cells)]


def _show(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "NO"
    if isinstance(value, float):
        return f"{value:.2f}"
    if isinstance(value, int):
        return f"{value:,}"
    return str(value)
