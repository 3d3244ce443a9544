"""trickles-run as what stands before a command: it should not be noticed."""

from __future__ import annotations

import os
import pty
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client import programs
from tests.client.application import pattern
from tests.client.conftest import PATIENCE_S, wait_until
from tests.client.programs import RUN, start
from trickles_web.cli.run import environment

pytestmark = pytest.mark.live


def done(*words: str, **settings: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(  # type: ignore[call-overload,no-any-return]
        [*RUN, *words], capture_output=True, timeout=PATIENCE_S, **settings
    )


def proxies() -> set[str]:
    """Process ids of the proxies that commands of this test have left behind."""
    mark = f"TRICKLES_TEST={os.getpid()}".encode()
    found = set()
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes()
            ours = mark in (entry / "environ").read_bytes().split(b"\0")
        except (OSError, NotADirectoryError):
            continue
        if ours and b"trickles_web.cli.run" in words:
            found.add(entry.name)
    return found


@pytest.fixture(autouse=True)
def no_proxy_stays(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TRICKLES_TEST", str(os.getpid()))
    yield
    wait_until(lambda: not proxies())


def test_streams_and_exit_codes() -> None:
    script = "read x; echo out $x; echo err >&2; exit 7"
    ran = done("sh", "-c", script, input=b"in\n")
    assert (ran.returncode, ran.stdout, ran.stderr) == (7, b"out in\n", b"err\n")
    assert done("true").returncode == 0
    assert done("sh", "-c", "kill -TERM $$").returncode == -signal.SIGTERM
    assert done("--", "sh", "-c", "exit 3").returncode == 3


def test_what_cannot_be_started(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("#!/bin/sh\n")
    for word, code in (("no-such-program", 127), (str(plain), 126), (str(tmp_path), 126)):
        ran = done(word)
        assert ran.returncode == code
        assert ran.stderr.startswith(f"trickles-run: {word}: ".encode())
        assert ran.stderr.count(b"\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--no-such-option", "true"),
        ("--only", "http://a/", "true"),
        ("--only", "", "true"),
        ("--connect-timeout", "0", "true"),
        ("--replica", "127.0.0.1", "true"),
        ("--replica", "127.0.0.1:0", "true"),
    ],
)
def test_usage_errors_are_one_line(words: tuple[str, ...]) -> None:
    ran = done(*words)
    assert ran.returncode == 2
    assert ran.stderr.startswith(b"trickles-run: ") and ran.stderr.count(b"\n") == 1


def test_options_after_the_command_are_its_own() -> None:
    assert done("echo", "--only", "-q", "--help").stdout == b"--only -q --help\n"


def test_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "localhost")
    told = environment("http://u:p@127.0.0.1:1")
    assert "no_proxy" not in told and "NO_PROXY" not in told
    for name in ("http_proxy", "HTTPS_PROXY", "all_proxy"):
        assert told[name] == "http://u:p@127.0.0.1:1"
    assert told["PATH"] == os.environ["PATH"]


def test_the_password_is_random_and_in_no_argv() -> None:
    with start("sh", "-c", 'echo "$http_proxy"; read x') as process:
        assert process.stdout is not None
        url = process.stdout.readline()
        [pid] = proxies()
        password = url.partition("//trickles:")[2].partition("@")[0]
        assert len(password) > 30
        assert password.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
        process.communicate("\n")
    with programs.proxy() as another:
        assert password not in another


def test_signals_reach_the_program() -> None:
    script = "trap 'echo got it; exit 5' INT; echo ready; while :; do sleep 0.01; done"
    with start("sh", "-c", script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE_S)
        assert (process.returncode, out, err) == (5, "got it\n", "")


def test_limits_are_those_of_the_caller() -> None:
    script = "ulimit -Sn; umask; pwd"
    ran = done("sh", "-c", script, preexec_fn=few_descriptors)
    plain = subprocess.run(["sh", "-c", script], capture_output=True, preexec_fn=few_descriptors)
    assert ran.stdout == plain.stdout


def few_descriptors() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (300, hard))


def test_python_leaves_no_signal_ignored() -> None:
    """A pipe that nobody reads any more ends its writer in silence."""
    ran = done("sh", "-c", "grep SigIgn /proc/self/status")
    ignored = int(ran.stdout.split()[1], 16)
    assert not ignored & (1 << (signal.SIGPIPE - 1))


def test_the_proxy_ends_with_the_program_however_that_ends() -> None:
    for number in (signal.SIGKILL, signal.SIGTERM):
        with start("sleep", "60") as process:
            wait_until(proxies)
            process.send_signal(number)
            assert process.wait(PATIENCE_S) == -number
        wait_until(lambda: not proxies())


def test_a_program_that_waits_for_all_its_children() -> None:
    script = "import os\ntry:\n os.wait()\nexcept ChildProcessError:\n print('none')"
    assert done(sys.executable, "-c", script).stdout == b"none\n"


def test_descriptors_of_the_caller_are_not_kept() -> None:
    """What reads a pipe that the program has would wait for the proxy, too."""
    reading, writing = os.pipe()
    script = f"import os; os.close({writing}); os.close(1); os.read(0, 1)"
    command = [*RUN, sys.executable, "-c", script]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=(writing,)
    ) as process:
        os.close(writing)
        assert process.stdout is not None
        assert os.read(reading, 1) == b""
        assert process.stdout.read() == b""
        assert process.poll() is None
        process.communicate(b"\n", timeout=PATIENCE_S)
    os.close(reading)


def test_ctrl_c_at_a_terminal(server_port: int) -> None:
    """The program gets it, and still has its proxy to say goodbye with."""
    url = f"http://127.0.0.1:{server_port}/bytes/5"
    script = f"trap 'curl -sS -o /dev/null -w %{{http_code}} {url}; exit 4' INT; echo ready; "
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [*RUN, "sh", "-c", script + "while :; do sleep 0.01; done"])
    heard = b""
    deadline = time.monotonic() + PATIENCE_S
    while b"ready" not in heard and time.monotonic() < deadline:
        heard += os.read(terminal, 1000)
    os.write(terminal, b"\x03")
    while b"200" not in heard and time.monotonic() < deadline:
        heard += os.read(terminal, 1000)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 4
    assert b"200" in heard
    os.close(terminal)


def test_why_a_request_failed_is_told(absent_port: int) -> None:
    url = f"http://127.0.0.1:{absent_port}/"
    told = programs.run("curl", "-sS", "-o", os.devnull, url)
    assert re.fullmatch(
        r"trickles-run: no answer from UDP \S+ \(connection refused\); is .* there\?\n", told
    )
    told = programs.run("curl", "-sS", f"https://127.0.0.1:{absent_port}/", code=35)
    assert "no server speaks TLS over Trickles" in told
    told = programs.run("curl", "-sS", "https://localhost/", code=56)
    assert "no server speaks TLS over Trickles" in told
    ran = done("-q", "curl", "-s", "https://localhost/")
    assert (ran.returncode, ran.stderr) == (56, b"")


def test_only_some_hosts(server_port: int, absent_port: int) -> None:
    there = f"http://127.0.0.1:{server_port}/bytes/20"
    assert done("--only", "127.0.0.1", "curl", "-sS", there).stdout == pattern(20)
    answer = done("--only", f"127.0.0.1:{absent_port}", "curl", "-sS", there).stdout
    assert b"Connection refused; what --only does not name is asked over TCP" in answer


def test_replicas_answer_for_each_other_and_for_nobody_else(
    server_port: int, absent_port: int
) -> None:
    there, absent = f"127.0.0.1:{server_port}", f"127.0.0.1:{absent_port}"
    curl = ("curl", "-sS", f"http://{absent}/bytes/20")
    both = ("--replica", there, "--replica", absent)
    assert done(*both, *curl).stdout == pattern(20)
    alone = done("--replica", there, "--connect-timeout", "0.2", *curl)
    assert alone.stdout.startswith(b"trickles: no answer from UDP")
