"""Processes that are killed and started again, and die with whoever started them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from apps.demo.bound import PARENT
from apps.demo.processes import ROOT, DemoError, Process, start_all
from tests.apps.demo.living import lives
from tests.live.stage import until

SERVES = ["sh", "-c", "echo ready; exec sleep 100"]
FAILS = ["sh", "-c", "echo first; echo no port >&2; exit 3"]
OWNER = """
import asyncio, sys
from pathlib import Path
from apps.demo.processes import Process, start_all
made = Process("one", ["sh", "-c", "echo ready; exec sleep 100"], Path(sys.argv[1]), "ready")
asyncio.run(start_all([made]))
print(made.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    made = Process("one", SERVES, tmp_path, "ready")
    yield made
    made.end()


def started(process: Process) -> int:
    """It serves: its process id."""
    asyncio.run(start_all([process]))
    assert process.state == "serving" and process.pid is not None
    return process.pid


def test_killed_and_started_again(process: Process) -> None:
    process.kill()  # nothing to kill
    assert process.state == "dead"
    first = started(process)
    process.start()
    assert process.pid == first
    process.kill()
    assert process.pid is None
    assert not lives(first)
    process.start()
    # What the one before it has logged does not count.
    assert process.state == "starting"
    assert started(process) != first


def test_one_that_somebody_else_kills_is_dead(process: Process) -> None:
    os.kill(started(process), signal.SIGKILL)
    until(lambda: process.state == "dead", "its death")


def test_one_that_does_not_start_says_why(tmp_path: Path) -> None:
    process = Process("one", FAILS, tmp_path, "ready")
    with pytest.raises(DemoError, match=r"^one does not start: no port$"):
        asyncio.run(start_all([process]))


def test_settings_for_other_servers_are_not_inherited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRICKLES_PORT", "1")
    process = Process("one", ["sh", "-c", "env; exec sleep 100"], tmp_path, "PYTHONPATH")
    asyncio.run(start_all([process]))
    process.end()
    assert "TRICKLES_PORT" not in (tmp_path / "one.log").read_text()


def test_it_dies_with_its_parent(tmp_path: Path) -> None:
    words = [sys.executable, "-c", OWNER, str(tmp_path)]
    with subprocess.Popen(
        words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        assert lives(pid)
        owner.kill()
        until(lambda: not lives(pid), "its death")


def test_it_does_not_begin_without_its_parent(tmp_path: Path) -> None:
    """That may have died before the kernel was told."""
    made = tmp_path / "made"
    words = [sys.executable, "-m", "apps.demo.bound", str(int(signal.SIGKILL)), "touch", str(made)]
    for parent, begins in ((1, False), (os.getpid(), True)):
        environment = os.environ | {PARENT: str(parent)}
        subprocess.run(words, cwd=ROOT, env=environment, check=True)
        assert made.exists() == begins
