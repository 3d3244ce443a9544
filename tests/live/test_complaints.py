"""What cannot work says so in one line, and what to do."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from tests.live.stage import SITE, Stage, free_port, run
from tests.net.processes import ROOT

pytestmark = [pytest.mark.live, pytest.mark.xdist_group("live requests")]


def complaint(module: str, *arguments: str, code: int) -> str:
    """One line on stderr and nothing on stdout; returns it."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", f"trickles_web.cli.{module}", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert done.stderr.count("\n") == 1 and done.stderr.endswith("\n")
    return done.stderr


def test_a_busy_udp_port() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as busy:
        busy.bind(("127.0.0.1", 0))
        port = str(busy.getsockname()[1])
        for more in ((), ("--gateway", "127.0.0.1:0")):
            assert "--port" in complaint("serve", SITE, "--port", port, *more, code=2)


def test_a_busy_tcp_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        listen = f"127.0.0.1:{busy.getsockname()[1]}"
        arguments = (SITE, "--port", "0", "--gateway", listen)
        assert listen in complaint("serve", *arguments, code=2)
        alone = ("--listen", listen, "trickles://127.0.0.1:8000")
        assert listen in complaint("gateway", *alone, code=2)


@pytest.mark.parametrize("app", ["apps.nowhere:app", "apps.site:application", "apps.site"])
def test_a_wrong_app_path(app: str) -> None:
    assert "apps" in complaint("serve", app, "--port", "0", code=2)


def test_a_secret_that_others_may_read(stage: Stage) -> None:
    secret = stage.directory / "secret"
    secret.write_bytes(bytes(32))
    secret.chmod(0o640)
    arguments = (SITE, "--port", "0", "--secret-file", str(secret))
    assert f"chmod 600 {secret}" in complaint("serve", *arguments, code=2)


def test_an_absent_server() -> None:
    """Nobody has this port: it is bound for a moment only, by us."""
    port = free_port(socket.SOCK_DGRAM)
    done = run("trickles-get", f"127.0.0.1:{port}/")
    assert (done.returncode, done.stdout) == (7, b"")
    assert done.stderr.count(b"\n") == 1
    assert b"is trickles-serve running there?" in done.stderr


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000/", "trickles://", "trickles://host:port/"])
def test_a_bad_url(url: str) -> None:
    assert "(3)" in complaint("get", url, code=3)
