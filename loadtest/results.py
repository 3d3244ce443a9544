"""RESULTS.md and its pictures, from what the scenarios wrote."""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from loadtest import plots
from loadtest.report import Row, show
from loadtest.rounds import spread
from loadtest.scenarios import MEASURED, SCENARIOS
from loadtest.targets import TARGETS, Verdict

HERE = Path(__file__).parent
FOLDER = HERE / "results"
PAGE = HERE / "RESULTS.md"
NOTES = HERE / "notes.toml"
"""By the name of a target: what bounds it, and what was tried."""

Result = dict[str, Any]
"""One scenario's, as `Report.write_json` has it."""

_MET = "met?"

_HEADER = """\
# What was measured

Written by `python -m loadtest all`; do not edit it. Texts about missed targets are in
`loadtest/notes.toml`, and `python -m loadtest results` writes this file anew.

Each comparison is of contenders that took turns in interleaved rounds, and each ratio of two
that ran in the same round; what is given is the median, and from which to which value it went. CPU
time is user and system time of the server's processes. Ratios to others are beside the very
same application on the same machine.
"""


def write() -> None:
    """Draw the pictures and write the page, of whatever results there are."""
    found = read(FOLDER)
    try:
        for name, result in found.items():
            if result["pictures"]:
                plots.draw(result["pictures"], FOLDER / f"{name}.png")
    except plots.CannotDraw as error:
        print(f"the pictures are left as they were: {error}", file=sys.stderr)
    notes = tomllib.loads(NOTES.read_text(encoding="utf-8"))
    PAGE.write_text(page(found, notes), encoding="utf-8")


def read(folder: Path) -> dict[str, Result]:
    """By scenario, in the order of their list."""
    found = {}
    for name in MEASURED:
        path = folder / f"{name}.json"
        if path.exists():
            found[name] = json.loads(path.read_text(encoding="utf-8"))
    return found


def page(found: Mapping[str, Result], notes: Mapping[str, str]) -> str:
    """The whole text."""
    lines = [_HEADER, *_machines(found)]
    rows = {name: _target_row(name, found.values()) for name in TARGETS}
    lines += ["## Targets", "", *markdown(list(rows.values())), ""]
    missed = [name for name, row in rows.items() if "MISSED" in row[_MET]]
    if missed:
        lines += ["## Missed, and why", ""]
    for name in missed:
        text = notes.get(name, "Not looked into yet.").strip()
        lines += [f"**{TARGETS[name].what}** (`{name}`)", "", text, ""]
    for name, result in found.items():
        lines += _section(name, result)
    return "\n".join(lines).rstrip() + "\n"


def _machines(found: Mapping[str, Result]) -> list[str]:
    """Every machine, with its versions, that some result is of."""
    by_machine: dict[str, list[str]] = {}
    for name, result in found.items():
        text = ", ".join(f"{key} {value}" for key, value in result["machine"].items())
        by_machine.setdefault(text, []).append(f"{name} ({result['date']})")
    lines = ["## Machine and versions", ""]
    for text, measured in by_machine.items():
        lines += [f"- {text}: {', '.join(measured)}"]
    return [*lines, ""]


def _target_row(name: str, results: Iterable[Result]) -> Row:
    target = TARGETS[name]
    row = {"what": target.what, "target": target.wanted}
    for result in results:
        judged = result["verdicts"].get(name)
        if judged is None:
            continue
        verdict = Verdict(tuple(judged["values"]), judged["met"])
        median = verdict.median
        quick = " (quick form)" * result["quick"]
        return row | {
            "measured": f"{median:,.3g}" if median < 1000 else f"{median:,.0f}",
            "lowest to highest": spread(verdict.values),
            _MET: ("met" if verdict.met else "**MISSED**") + quick,
        }
    return row | {"measured": "not measured", "lowest to highest": "-", _MET: "-"}


def _section(name: str, result: Result) -> list[str]:
    quick = ", in the quick form, which says little" if result["quick"] else ""
    lines = [f"## {name}", "", f"{SCENARIOS[name]}. {result['date']}{quick}.", ""]
    if result["rows"]:
        lines += [*markdown(result["rows"]), ""]
    lines += [f"- {figure}: {show(value)}" for figure, value in result["figures"].items()]
    lines += [f"- MISSED: {failure}" for failure in result["failures"]]
    if result["figures"] or result["failures"]:
        lines.append("")
    if result["pictures"]:
        title = "; ".join(picture["title"] for picture in result["pictures"])
        lines += [f"![{title}](results/{name}.png)", ""]
    return lines


def markdown(rows: Sequence[Row]) -> list[str]:
    """A table with a column for each key of any row; numbers to the right."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    values = [[row.get(name, "-") for name in names] for row in rows]
    numeric = [
        all(isinstance(value, int | float) or value == "-" for value in column)
        for column in zip(*values, strict=True)
    ]
    lines = [names, ["--:" if right else "---" for right in numeric]]
    lines += [[show(value).replace("|", "\\|") for value in row] for row in values]
    return [f"| {' | '.join(cells)} |" for cells in lines]
