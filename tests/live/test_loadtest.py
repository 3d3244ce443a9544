"""The load tests' own command line, tables and sums."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import loadtest.__main__ as command
from loadtest import downloads, events, large, star, striped, upload
from loadtest.processes import Stage
from loadtest.report import Options, Report, table
from loadtest.scenarios import SCENARIOS
from tests.live.test_requests import needs_curl


def test_every_scenario_is_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(["--help"])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    for name in SCENARIOS:
        assert re.search(rf"^  {name} ", printed, re.MULTILINE)
        assert (Path(command.__file__).with_name(f"{name}.py")).is_file()


def test_a_table_has_a_column_for_each_key() -> None:
    rows = [{"name": "a", "n": 1234, "x": 0.5}, {"name": "long", "n": 5, "x": 10.25}]
    assert table(rows) == [
        "name      n      x",
        "----  -----  -----",
        "a     1,234   0.50",
        "long      5  10.25",
    ]
    assert table([]) == []


def test_a_missed_target_is_said_and_written(tmp_path: Path) -> None:
    report = Report([{"n": 1}], {"figure": 2})
    report.check(True, "met")
    assert report.text().endswith("figure: 2\nall targets met")
    report.check(False, "not met")
    assert report.text().endswith("MISSED: not met")
    report.write_json(tmp_path / "result", "none", Options(quick=True))
    written = json.loads((tmp_path / "result").read_text())
    assert written["failures"] == ["not met"] and written["rows"] == [{"n": 1}]


class Counting:
    """Stands for a replica."""

    kills = 0
    back = True

    def restart(self) -> None:
        self.kills += 1


def test_kills_are_spread_over_the_file() -> None:
    replica = Counting()
    disturb = downloads.at_shares(replica, 12, 5)  # type: ignore[arg-type]
    for size in range(0, 12_000_001, 500_000):
        disturb(size, 0.0)
        assert replica.kills == min(5, size // 2_000_000)


def test_replicas_are_killed_in_turn() -> None:
    replicas = [Counting() for _ in range(3)]
    disturb = downloads.in_turn(replicas, 1.0)  # type: ignore[arg-type]
    for tenth in range(66):
        disturb(1, 50 + tenth / 10)
    assert [replica.kills for replica in replicas] == [2, 2, 2]


def test_no_replica_is_killed_while_another_one_is_away() -> None:
    replicas = [Counting() for _ in range(2)]
    disturb = downloads.in_turn(replicas, 1.0)  # type: ignore[arg-type]
    disturb(1, 50.0)
    replicas[1].back = False
    disturb(1, 51.5)
    disturb(1, 55.0)
    assert [replica.kills for replica in replicas] == [0, 0]
    replicas[1].back = True
    disturb(1, 55.5)
    disturb(1, 56.0)
    assert [replica.kills for replica in replicas] == [1, 0]


def test_events_are_told_from_what_is_none() -> None:
    reader = events.Reader()
    reader.read(b"id: 0\ndata: 0 by 7\n\nid: 1\nda", 5.0)
    reader.read(b"ta: 1 by 8\n\nid: 2\ndata: 1 by 8\n\nid: 3\nda", 5.5)
    assert (reader.numbers, reader.senders) == ([0, 1], [7, 8])
    assert reader.strange == [b"id: 2\ndata: 1 by 8"] and reader.rest == b"id: 3\nda"
    assert reader.longest_gap_s == 0.5


long_run = pytest.mark.xdist_group("live long runs")


@long_run
@needs_curl
@pytest.mark.live
def test_events_in_short() -> None:
    report = Report()
    with Stage() as stage:
        events.follow(report, stage, "random", 60, 0.8)
    assert not report.failures, report.text()
    assert report.rows[0]["kills of the owner"] >= 3


@long_run
@needs_curl
@pytest.mark.live
def test_a_long_stream_in_short() -> None:
    report = Report()
    with Stage() as stage:
        large.download(report, stage, "curl", 50, kills=1)
    assert not report.failures, report.text()


@long_run
@pytest.mark.live
def test_a_long_upload_in_short() -> None:
    report = Report()
    with Stage() as stage:
        upload.upload(report, stage, "flow", 40, kills=1)
    assert not report.failures, report.text()


@long_run
@pytest.mark.live
@pytest.mark.skipif(bool(star.missing()), reason=f"needs {star.missing()}")
def test_a_striped_download_in_short(site_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its bytes are checked, with one server of three killed half-way; its speed is not."""
    monkeypatch.setenv("SITE_CACHE_DIR", str(site_cache))
    with striped.Setting() as setting:
        setting.download(10, setting.replicas, setting.kill_half_way(10))
        assert setting.killed
