"""What `make bench` does with counts, that each path does what it says, and that counts last."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from loadtest.bench import baseline, callgrind
from loadtest.bench.__main__ import ROOT, SLOWER, TOLERANCE, checkout, compare, judged
from loadtest.bench.baseline import Baseline
from loadtest.bench.callgrind import BenchError
from loadtest.bench.paths import PATHS, Measure


class Stretches:
    """Counts how often a path measures."""

    def __init__(self) -> None:
        self.begun = self.ended = 0

    def __enter__(self) -> None:
        self.begun += 1

    def __exit__(self, *_: object) -> None:
        self.ended += 1


@pytest.mark.parametrize("measure", PATHS.values(), ids=PATHS)
def test_a_path_measures_what_it_counts(measure: Measure) -> None:
    meter = Stretches()
    assert measure(meter, 5) >= 5
    assert meter.begun == meter.ended > 0


def test_the_baseline_is_of_these_paths() -> None:
    assert list(baseline.read().instructions) == list(PATHS)


def test_a_baseline_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = Baseline({"python": "3"}, {"a": 12.4})
    written.write(tmp_path / "baseline")
    assert baseline.read(tmp_path / "baseline") == Baseline({"python": "3"}, {"a": 12})


def test_whatever_differs_is_told() -> None:
    here = baseline.environment()
    assert baseline.differences(here, here) == []
    assert all(here.values())
    found = baseline.differences({"python": "3.11", "a": "1"}, {"python": "3.12", "b": "2"})
    assert found == [
        "python is 3.11, was 3.12",
        "a is 1, was not here",
        "b is not here, was 2",
    ]


@pytest.mark.parametrize(
    ("ratio", "verdict"),
    [
        (None, "new"),
        (1.0, "same"),
        (1.009, "same"),
        (0.991, "same"),
        (1.02, SLOWER),
        (0.9, "faster"),
    ],
)
def test_what_is_within_the_tolerance_is_the_same(ratio: float | None, verdict: str) -> None:
    assert judged(ratio) == verdict


def test_each_path_is_compared_with_itself() -> None:
    rows = compare({"a": 110.0, "b": 7.0}, {"a": 100.0, "gone": 1.0}, {"a": 1.5, "b": 2.5})
    assert [list(row.values()) for row in rows] == [
        ["a", 110, 100, "1.100", SLOWER, 1.5],
        ["b", 7, "-", "-", "new", 2.5],
    ]


def test_what_lies_between_marks_is_added_up(tmp_path: Path) -> None:
    """Callgrind writes a file at each mark; the first is of what came before, the third between."""
    for number, total in enumerate((1000, 7, 100, 8, 10), 1):
        (tmp_path / f"callgrind.out.5.{number}").write_text(f"events: Ir\ntotals: {total}\n")
    (tmp_path / "callgrind.out.6.2").write_text("totals: 50\n")
    assert callgrind.measured(tmp_path, 5) == 15
    (tmp_path / "callgrind.out.5.2").write_text("nothing\n")
    with pytest.raises(BenchError, match="no totals"):
        callgrind.measured(tmp_path, 5)


def test_there_is_no_such_revision() -> None:
    with pytest.raises(BenchError, match="worktree add"), checkout("no-such-revision"):
        pass


@pytest.mark.live
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="needs valgrind")
def test_two_runs_count_alike(tmp_path: Path) -> None:
    counts = []
    for name in ("first", "second"):
        outputs = tmp_path / name
        outputs.mkdir()
        [count] = callgrind.instructions(ROOT, outputs, "garbage").values()
        counts.append(count)
    assert counts[0] > 1000
    assert counts[1] == pytest.approx(counts[0], rel=TOLERANCE / 2)
