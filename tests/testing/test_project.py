"""A whole project of tests: what is safe passes, what is not fails, and the report says why."""

from __future__ import annotations

import re

import pytest

from tests.testing.project import APPLICATIONS, TESTS


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.setenv("COLUMNS", "200")  # summaries in full
    pytester.makeini("[pytest]\npythonpath = .\nfilterwarnings = error\naddopts = -p no:asyncio\n")
    pytester.makepyfile(shop=APPLICATIONS, test_shop=TESTS)
    return pytester


def test_only_what_is_safe_passes(project: pytest.Pytester) -> None:
    result = project.runpytest_subprocess("-rfp")
    result.assert_outcomes(passed=1, failed=3)
    result.stdout.fnmatch_lines(
        [
            "* trickles: state kept in one process *",
            "  2  GET /: replica 1: 200",
            "* trickles: state kept in one process *",
            "  1  POST /login: replica 2: 200",
            "* trickles: unsafe request sent again *",
            "*sent again: POST /pay (request 3, after 2)*",
            "  2  POST /pay: replica ? (killed as it answered: ?): 500, outcome unknown",
            "  3  POST /pay: replica ?: 200; repeats request 2",
            "* ms  flow 0 -> replica ?  HELLO * request bytes, datagrams of 1,200 bytes",
            "The same network again: --trickles-seed 965626804",
            "FAILED test_shop.py::test_counter - state kept in one process: *",
            "FAILED test_shop.py::test_session - state kept in one process: *",
            "FAILED test_shop.py::test_payment - unsafe request sent again: *",
            "PASSED test_shop.py::test_safe",
        ]
    )
    cost = re.search(r"trickles: (\d+) ms on average .* \(4 tests\)", result.stdout.str())
    assert cost is not None
    print(cost.group())


def test_one_replica_hides_it(project: pytest.Pytester) -> None:
    result = project.runpytest_subprocess("--trickles-replicas", "1", "-k", "counter or session")
    result.assert_outcomes(passed=2)


def test_reports_cross_processes(project: pytest.Pytester) -> None:
    """Under pytest-xdist another process prints them."""
    result = project.runpytest_subprocess("-n", "1", "-k", "session")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "* trickles: state kept in one process *",
            "trickles: * ms on average *",
            "FAILED test_shop.py::test_session - state kept in one process: *",
        ]
    )


def test_one_seed_one_story(project: pytest.Pytester) -> None:
    stories = []
    for _ in range(2):
        result = project.runpytest_subprocess("-k", "payment", "--trickles-seed", "7")
        stories.append([line for line in result.outlines if " ms  flow " in line])
    assert stories[0] == stories[1]
    assert len(stories[0]) > 8
    other = project.runpytest_subprocess("-k", "payment", "--trickles-seed", "8").outlines
    assert [line for line in other if " ms  flow " in line] != stories[0]
