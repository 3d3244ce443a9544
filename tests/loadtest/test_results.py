"""Targets, and the page that is written of them."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import loadtest.__main__ as command
from loadtest import results
from loadtest.report import Options, Picture, Report
from loadtest.results import NOTES, markdown, page, read
from loadtest.scenarios import MEASURED, SCENARIOS
from loadtest.targets import TARGETS, Target, judge


def test_the_median_is_judged() -> None:
    assert judge("get-h11", [1.4, 1.5, 9.0]).met
    assert not judge("get-h11", [1.4, 1.49, 9.0]).met
    assert judge("latency-p50", [0.7]).met and not judge("latency-p50", [0.71]).met
    assert not judge("bulk-loss-1", [1.2]).met and not judge("bulk-loss-1", [0.8]).met
    with pytest.raises(ValueError, match="nothing was measured"):
        judge("get-h11", [])
    with pytest.raises(KeyError):
        judge("unheard of", [1.0])


def test_a_target_says_what_it_wants() -> None:
    assert Target("", "times", low=1.5).wanted == "at least 1.5 times"
    assert Target("", "MB", high=2).wanted == "at most 2 MB"
    assert Target("", "times", low=0.8, high=1.25).wanted == "0.8 to 1.25 times"
    assert Target("", "", high=0).wanted == "at most 0"


def test_a_missed_target_is_a_failure() -> None:
    report = Report()
    report.judge("get-h11", [2.0])
    assert not report.failures
    report.judge("latency-p50", [0.9, 0.9])
    assert report.failures == [
        "one client, median latency, beside uvicorn: at most 0.7 times, not 0.9"
    ]


def written(folder: Path, scenario: str, report: Report) -> None:
    report.write_json(folder / f"{scenario}.json", scenario, Options())


def test_the_page_has_every_target_and_what_bounds_those_missed(tmp_path: Path) -> None:
    report = Report([{"server": "a | b", "requests/s": 12345.6}], {"rounds": 5})
    report.judge("get-h11", [1.0, 1.25, 1.1])
    report.judge("get-httptools", [2.0, 1.6])
    report.pictures.append(Picture("A title", "bars", ("a",), {"": (1.0,)}))
    written(tmp_path, "requests", report)
    text = page(read(tmp_path), {"get-h11": "h11 itself.\n"})
    for target in TARGETS.values():
        assert f"| {target.what} | {target.wanted} |" in text
    what = TARGETS["get-h11"].what
    assert f"| {what} | at least 1.5 times | 1.1 | 1.00 to 1.25 | **MISSED** |" in text
    assert f"**{what}** (`get-h11`)\n\nh11 itself.\n" in text
    assert "| 1.8 | 1.60 to 2.00 | met |" in text
    assert f"| {TARGETS['capacity'].what} | at least 800 MB per CPU second | not measured |" in text
    assert "| a \\| b | 12,346 |" in text and "- rounds: 5" in text
    assert "![A title](results/requests.png)" in text
    assert "do not edit" in text and "kernel" in text and "uvicorn" in text


def test_a_target_that_is_missed_without_a_note_says_so(tmp_path: Path) -> None:
    report = Report()
    report.judge("capacity", [10.0])
    written(tmp_path, MEASURED[0], report)
    assert "Not looked into yet." in page(read(tmp_path), {})


def test_without_matplotlib_the_page_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = Report(pictures=[Picture("A title", "bars", ("a",), {"": (1.0,)})])
    written(tmp_path, MEASURED[0], report)
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    monkeypatch.setattr(results, "PAGE", tmp_path / "page")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    results.write()
    assert "A title" in (tmp_path / "page").read_text()
    assert "pip install 'trickles-web[loadtest]'" in capsys.readouterr().err


def test_notes_are_of_targets() -> None:
    assert set(tomllib.loads(NOTES.read_text(encoding="utf-8"))) <= set(TARGETS)


def test_what_is_measured_is_a_scenario() -> None:
    assert set(MEASURED) <= set(SCENARIOS)


def test_markdown_has_a_column_for_each_key_of_any_row() -> None:
    rows = [{"a": "x", "n": 1}, {"a": "y", "m": 2.5}]
    assert markdown(rows) == [
        "| a | n | m |",
        "| --- | --: | --: |",
        "| x | 1 | - |",
        "| y | - | 2.50 |",
    ]


def test_all_goes_on_after_a_scenario_that_cannot_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two scenarios: the first raises, the second says what it measured."""
    for name, code in {"breaks": "raise OSError('no link')", "works": "return Report()"}.items():
        module = f"from loadtest.report import Report\ndef run(options):\n    {code}\n"
        (tmp_path / f"{name}.py").write_text(module)
    monkeypatch.setattr("loadtest.__path__", [*sys.modules["loadtest"].__path__, str(tmp_path)])
    for module_name in ("loadtest.__main__", "loadtest.results"):
        monkeypatch.setattr(f"{module_name}.MEASURED", ("breaks", "works"))
        monkeypatch.setattr(f"{module_name}.SCENARIOS", {"breaks": "one", "works": "other"})
    monkeypatch.setattr(results, "FOLDER", tmp_path / "results")
    monkeypatch.setattr(results, "PAGE", tmp_path / "RESULTS.md")
    assert command.main(["all", "--quick"]) == 1
    assert "MISSED: did not run: OSError: no link" in capsys.readouterr().out
    text = (tmp_path / "RESULTS.md").read_text()
    assert "did not run: OSError: no link" in text and "## works" in text
    assert json.loads((tmp_path / "results" / "works.json").read_text())["failures"] == []


def test_what_is_not_in_dev_is_imported_late() -> None:
    """Tests must run where neither matplotlib nor the other servers are installed."""
    code = (
        "import sys; sys.modules.update(dict.fromkeys("
        "('matplotlib', 'granian', 'hypercorn', 'aioquic', 'playwright')));"
        "import loadtest.__main__, loadtest.peers, loadtest.plots;"
        f"[__import__('loadtest.' + name) for name in {sorted(SCENARIOS)!r}]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(command.__file__).parents[1])
