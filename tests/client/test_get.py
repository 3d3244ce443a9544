"""trickles-get as a process: output, exit codes, messages."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.client.application import pattern
from tests.client.conftest import PATIENCE_S

COMMAND = [sys.executable, "-W", "error", "-m", "trickles_web.cli.get"]


def run(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, timeout=PATIENCE_S, check=False
    )


def fails(code: int, *arguments: str) -> str:
    """Runs, expects this exit code and one line that carries it; returns the line."""
    done = run(*arguments)
    assert done.returncode == code, done.stderr.decode()
    text = done.stderr.decode()
    assert text.startswith(f"trickles-get: ({code}) ")
    assert text.count("\n") == 1
    return text


@pytest.fixture
def base(server_port: int) -> str:
    return f"trickles://127.0.0.1:{server_port}"


@pytest.mark.live
def test_the_body_goes_to_stdout(base: str) -> None:
    done = run(f"{base}/bytes/200000")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == pattern(200_000)


@pytest.mark.live
def test_the_body_goes_to_a_file(base: str, tmp_path: Path) -> None:
    file = tmp_path / "out"
    file.write_bytes(bytes(9_999))
    done = run(f"{base}/bytes/5000", "-o", str(file))
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert file.read_bytes() == pattern(5_000)


@pytest.mark.live
def test_an_empty_body_makes_an_empty_file(base: str, tmp_path: Path) -> None:
    file = tmp_path / "out"
    assert run(f"{base}/bytes/0", "-o", str(file)).returncode == 0
    assert file.read_bytes() == b""


@pytest.mark.live
def test_heads(base: str) -> None:
    head = run("-I", f"{base}/bytes/5000").stdout
    assert head.startswith(b"HTTP/1.1 200")
    assert head.endswith(b"\r\n\r\n")
    assert b"X-Case: Kept\r\n" in head
    both = run("-i", f"{base}/bytes/10").stdout
    assert both.startswith(b"HTTP/1.1 200")
    assert both.endswith(b"\r\n\r\n" + pattern(10))


@pytest.mark.live
def test_verbose_shows_both_heads(base: str) -> None:
    done = run("-v", "-H", "X-Mine: yes", f"{base}/bytes/10")
    assert done.stdout == pattern(10)
    lines = done.stderr.decode().splitlines()
    assert "> GET /bytes/10 HTTP/1.1" in lines
    assert "> X-Mine: yes" in lines
    assert any(line.startswith("< HTTP/1.1 200") for line in lines)
    assert lines[-1].startswith("* flow: ")


@pytest.mark.live
def test_http_errors(base: str, tmp_path: Path) -> None:
    assert run(f"{base}/none").returncode == 0
    assert run(f"{base}/none").stdout == b"not here.\n"
    file = tmp_path / "out"
    assert "error: 404" in fails(22, "-f", f"{base}/none", "-o", str(file))
    assert not file.exists()


@pytest.mark.live
def test_silence(base: str) -> None:
    done = run("-s", "-f", f"{base}/none")
    assert (done.returncode, done.stdout, done.stderr) == (22, b"", b"")
    assert run("-sS", "-f", f"{base}/none").stderr.startswith(b"trickles-get: (22)")


@pytest.mark.live
def test_a_body_that_breaks_off_is_partial(base: str) -> None:
    fails(18, f"{base}/broken")


@pytest.mark.live
def test_the_rate_limit_slows(base: str) -> None:
    before = time.monotonic()
    done = run("--limit-rate", "100k", f"{base}/bytes/100000")
    # A lower bound only: a loaded machine may be slower, no machine may be faster.
    assert time.monotonic() - before > 0.6
    assert done.stdout == pattern(100_000)


@pytest.mark.live
def test_max_time(base: str) -> None:
    assert "9 bytes received" in fails(28, "-m", "1", f"{base}/endless")


@pytest.mark.live
def test_a_file_that_cannot_be_written(base: str, tmp_path: Path) -> None:
    assert "No such file" in fails(23, f"{base}/bytes/1", "-o", str(tmp_path / "no" / "out"))


@pytest.mark.live
def test_a_broken_pipe_is_quiet(base: str) -> None:
    with subprocess.Popen(
        [*COMMAND, f"{base}/bytes/3000000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.read(10) == pattern(10)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(PATIENCE_S) == 23


@pytest.mark.live
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it_at_once(base: str, number: signal.Signals) -> None:
    with subprocess.Popen(
        [*COMMAND, f"{base}/endless"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == b"data: 1\n"
        process.send_signal(number)
        assert process.wait(PATIENCE_S) == -number
        assert process.stderr.read() == b""


@pytest.mark.live
def test_progress_on_a_terminal(base: str, tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    try:
        done = subprocess.run(
            [*COMMAND, f"{base}/bytes/100000", "-o", str(tmp_path / "out")],
            stderr=theirs,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0
        shown = os.read(ours, 65_536).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert "100% [########################] 97.7 KiB of 97.7 KiB" in shown
    assert shown.endswith("\n")


def test_usage_errors_are_2() -> None:
    fails(2)
    fails(2, "--no-such-option", "trickles://h/")
    fails(2, "--limit-rate", "fast", "trickles://h/")
    fails(2, "-m", "0", "trickles://h/")
    fails(2, "-H", "nonsense", "trickles://127.0.0.1:1/")
    fails(2, "-H", "Bad Name: x", "trickles://127.0.0.1:1/")


def test_bad_urls_are_3() -> None:
    assert "scheme" in fails(3, "http://127.0.0.1/")
    fails(3, "trickles://")
    fails(3, "trickles://h:99999/")


def test_unknown_hosts_are_6() -> None:
    fails(6, "trickles://no-such-host.invalid/")


def test_an_absent_server_is_7(absent_port: int) -> None:
    line = fails(7, f"trickles://127.0.0.1:{absent_port}/")
    assert line == (
        f"trickles-get: (7) no answer from UDP 127.0.0.1:{absent_port} (connection refused); "
        "is trickles-serve running there?\n"
    )


def test_a_silent_server_is_28(mute: socket.socket) -> None:
    url = f"trickles://127.0.0.1:{mute.getsockname()[1]}/"
    assert "silence for 0.5 s" in fails(28, "--connect-timeout", "0.5", url)


def test_version() -> None:
    assert run("--version").stdout.startswith(b"trickles-get, version ")
