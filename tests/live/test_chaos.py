"""Mixed exchanges under faults, in short; `python -m loadtest chaos` is the long form."""

from __future__ import annotations

import pytest

from loadtest import chaos, kind, soak
from loadtest.faults import FAULTS
from loadtest.report import Report
from loadtest.soak import slope

pytestmark = [pytest.mark.live, pytest.mark.xdist_group("live chaos")]

SHORT = ("killed (SIGKILL)", "corrupted", "tenfold", "late", "MTU", "another address")
EXCHANGES = 30
SEED = 5


@pytest.mark.parametrize("private", ["", "1"])
def test_mixed_exchanges_under_faults_end_right_or_with_an_error(
    private: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(kind.VARIABLE, private)
    report = Report()
    chosen = {name: FAULTS[name] for name in FAULTS if any(word in name for word in SHORT)}
    assert len(chosen) == len(SHORT)
    chaos.storm_over(report, "directory", EXCHANGES, SEED, chosen)
    assert not report.failures, report.text()
    assert report.rows[0]["runs"] == EXCHANGES


def exchange(kind: str, name: str, outcome: str) -> chaos.Exchange:
    return chaos.Exchange(kind, name, outcome, 1.0, 2.0)


@pytest.mark.parametrize(
    ("outcome", "executed", "missed"),
    [
        ("right", ["1"], ""),
        ("unknown", [], ""),
        ("right", [], "every success is executed"),
        ("right", ["1", "1"], "nothing unsafe is executed twice"),
        ("503", ["1"], "what is refused is not executed"),
        ("WRONG", ["1"], "no wrong byte"),
        ("HANG", [], "every exchange ends"),
        ("early end", [], "no body that ends early without an error"),
    ],
)
def test_what_must_not_be_is_told(outcome: str, executed: list[str], missed: str) -> None:
    report = Report()
    seen = [exchange("post", "1", outcome), *(exchange("small", "", "right") for _ in range(9))]
    chaos.judge(report, "directory", seen, executed, 10)
    assert report.failures == ([f"directory: {missed}"] if missed else [])
    assert report.rows[0]["verdict"] == ("MISSED" if missed else "held")


def test_growth_is_told_by_its_slope() -> None:
    assert slope([(0.0, 5.0), (10.0, 25.0), (20.0, 45.0)]) == pytest.approx(2.0)
    report = Report()
    leaking = soak.Watched("worker 1", 1)
    leaking.samples = [soak.Sample(float(at), 50 + at, 9) for at in range(31)]
    soak._judge(report, leaking, 10.0, 10.0)
    assert [row["verdict"] for row in report.rows] == ["MISSED", "held"]
