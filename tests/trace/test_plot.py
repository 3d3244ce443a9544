"""Plots: one group of marks for each class that a trace has, and errors of one line."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.trace.recorded import Told, transfer
from trickles_web.errors import UsageError
from trickles_web.trace import plot
from trickles_web.trace.marks import Marks
from trickles_web.trace.thinned import Thinned

UNPLOTTED = {"window", "flight", "rtt", "generation", "wanted", "received", "data", "again"}
"""Classes that are no points of the table."""


KNOWN = UNPLOTTED | set(plot.POINTS)


@pytest.fixture
def everything() -> Marks:
    """Two marks of each class."""
    marks = Marks()
    for number, name in enumerate(sorted(KNOWN)):
        marks.add(name, 10.0**9 + number, number, number + 1, number % 3)
        marks.add(name, 10.0**9 + number + 0.5, number + 1)
    return marks


def test_an_svg_has_a_group_for_each_class(everything: Marks, tmp_path: Path) -> None:
    file = tmp_path / "plot.svg"
    plot.draw(everything, "a title", 10.0**9, str(file))
    identities = [element.get("id") for element in ElementTree.parse(file).iter()]
    assert {name for name in KNOWN if identities.count(name) == 1} == KNOWN


@pytest.mark.parametrize(
    "options",
    [
        {"seed": 1, "body": 300_000, "loss": 0.02, "request_loss": 0.02},
        {"seed": 1, "pause_ms": 300},
        {"seed": 0, "loss": 0.03, "reorder": 0.05},
        {"seed": 4, "size": 200_000, "request_loss": 0.3, "kill_every": 1.0},
    ],
    ids=str,
)
def test_all_classes_of_a_story_are_plotted(options: dict[str, Any]) -> None:
    classes = set(Told(transfer(**options).capture).marks.classes)
    assert {"data", "request", "window"} <= classes <= KNOWN


def test_a_class_without_marks_is_not_there(tmp_path: Path) -> None:
    file = tmp_path / "plot.svg"
    told = Told(transfer(1, size=50_000).capture)
    plot.draw(told.marks, "a title", told.totals.began, str(file))
    identities = {element.get("id") for element in ElementTree.parse(file).iter()}
    assert {"data", "request", "hello", "ack", "rtt", "window", "generation"} <= identities
    assert identities.isdisjoint({"lost", "again", "late", "silence", "refused"})


def test_a_png(everything: Marks, tmp_path: Path) -> None:
    file = tmp_path / "plot.png"
    plot.draw(everything, "a title", 10.0**9, str(file))
    assert file.read_bytes().startswith(b"\x89PNG")


@pytest.fixture
def silence() -> Marks:
    """Of a client that nobody answers."""
    marks = Marks()
    marks.add("hello", 0.0, 0.0)
    return marks


def test_a_trace_without_data_can_be_drawn(silence: Marks, tmp_path: Path) -> None:
    plot.draw(silence, "nothing", 0.0, str(tmp_path / "plot.svg"))


def test_what_cannot_be_drawn(
    silence: Marks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match=r"must end in \.svg, \.png, \.pdf"):
        plot.check("plot.txt")
    with pytest.raises(UsageError, match=r"cannot write .*: No such file or directory"):
        plot.draw(silence, "", 0.0, str(tmp_path / "none" / "plot.svg"))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match=r"pip install 'trickles-web\[trace\]'"):
        plot.check("plot.svg")


def test_matplotlib_is_imported_only_when_it_is_asked_for() -> None:
    code = "import sys, trickles_web.cli.trace; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_thinned_lists_stay_short_and_even() -> None:
    thinned: Thinned[int] = Thinned(100)
    for number in range(100_000):
        thinned.add(number)
    kept = list(thinned)
    assert 50 <= len(kept) <= 100
    assert kept[0] == 0
    steps = {later - earlier for earlier, later in pairwise(kept)}
    assert len(steps) == 1
    assert kept[-1] + steps.pop() >= 100_000
