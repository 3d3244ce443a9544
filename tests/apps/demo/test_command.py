"""`python -m apps.demo` as a whole: its ports, its start, and that nothing is left at its end."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from apps.demo.halves import Ports
from apps.demo.processes import ROOT
from loadtest.demo import free_ports
from tests.apps.demo.living import descendants, lives
from tests.live.stage import until

pytestmark = pytest.mark.live


@pytest.fixture
def ports() -> Ports:
    return free_ports()


@pytest.fixture
def folder() -> Iterator[Path]:
    """For temporary files; a short name, for there will be sockets below."""
    with tempfile.TemporaryDirectory(prefix="demo-") as name:
        yield Path(name)


@contextlib.contextmanager
def started(ports: Ports, folder: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-m", "apps.demo", "--port", str(ports.page), "--megabytes", "1"],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as demo:
        try:
            yield demo
        finally:
            demo.kill()


@pytest.mark.parametrize(("offset", "kind"), [(0, "TCP"), (2, "TCP"), (3, "UDP"), (6, "UDP")])
def test_a_port_that_is_taken(ports: Ports, folder: Path, offset: int, kind: str) -> None:
    with socket.socket(
        socket.AF_INET, socket.SOCK_STREAM if kind == "TCP" else socket.SOCK_DGRAM
    ) as sock:
        sock.bind(("127.0.0.1", ports.page + offset))
        if kind == "TCP":
            sock.listen()
        with started(ports, folder) as demo:
            out, error = demo.communicate(timeout=30)
    assert (demo.returncode, out) == (1, "")
    wanted = (
        rf"apps\.demo: {kind} port {ports.page + offset}, for \S+, cannot be had: [^\n]*--port\n"
    )
    assert re.fullmatch(wanted, error)
    assert list(folder.iterdir()) == []


def test_a_wrong_port(folder: Path) -> None:
    with started(Ports(65_530), folder) as demo:
        _, error = demo.communicate(timeout=30)
    assert demo.returncode == 2
    assert "65530 is not in the range" in error


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_at_its_end_nothing_is_left(ports: Ports, folder: Path, number: signal.Signals) -> None:
    """A page that is open, and its replicas that run, do not keep it."""
    with started(ports, folder) as demo:
        assert demo.stdout is not None and demo.stderr is not None
        lines = iter(demo.stdout.readline, "")
        assert any("Open http://127.0.0.1" in line for line in lines)
        page = http.client.HTTPConnection("127.0.0.1", ports.page, timeout=10)
        page.request("GET", "/live")
        look = json.loads(page.getresponse().readline().removeprefix(b"data: "))
        assert {one["state"] for one in look["replicas"]["trickles"]} == {"serving"}
        children = descendants(demo.pid)
        assert {one["pid"] for one in look["replicas"]["trickles"]} < children
        demo.send_signal(number)
        code = demo.wait(timeout=30)
        until(lambda: not any(map(lives, children)), "the end of all")
        page.close()
        if number != signal.SIGKILL:
            assert (code, demo.stderr.read()) == (0, "")
            assert list(folder.iterdir()) == []
