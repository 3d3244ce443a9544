"""`trickles-serve` and what cannot work: one line that says what to do, and an exit code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import trickles_web
from tests.net.processes import ROOT, Running, serving
from trickles_web.net import endpoint
from trickles_web.net.sockets import bind_udp, parse_listen

pytestmark = pytest.mark.live

HELLO = "apps.hello:app"


def fails(process: Running, code: int, *parts: str) -> None:
    """Exactly one line on stderr, with all of `parts`."""
    assert process.process.wait(30) == code, process.stderr
    assert process.stderr.startswith("Error: ")
    assert process.stderr.count("\n") == 1
    for part in parts:
        assert part in process.stderr
    assert process.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "code", "part"),
    [
        ((), 2, "give an application"),
        ((HELLO, "--static", "."), 2, "one of them"),
        ((HELLO, "--port", "70000"), 2, "70000"),
        ((HELLO, "--workers", "0"), 2, "workers"),
        ((HELLO, "--fd", "3", "--workers", "2"), 2, "--fd is one socket"),
        ((HELLO, "--fd", "77"), 2, "pass an open UDP socket"),
        ((HELLO, "--host", "192.0.2.7"), 2, "choose another --host"),
        ((HELLO, "--loop", "trio"), 2, "trio"),
        ((HELLO, "--no-such-option"), 2, "--no-such-option"),
        ((HELLO, "--rerun", "always"), 2, "'safe', 'never'"),
        ((HELLO, "--never-rerun", "/ok", "--never-rerun", "admin/*"), 2, "as in '/admin/*'"),
        ((HELLO, "--never-rerun", ""), 2, "--never-rerun: no path matches ''"),
        ((HELLO, "--gateway", "8080", "--port", "0"), 2, "HOST:PORT"),
        (("--static", "/no/such/directory", "--port", "0"), 2, "no such directory"),
        (("--static", "", "--port", "0"), 2, "--static: the name is empty"),
        (("--static", __file__, "--port", "0"), 2, "not a directory"),
        ((HELLO, "--app-dir", "/no/such/directory", "--port", "0"), 2, "--app-dir /no/such/"),
        ((HELLO, "--peer", "127.0.0.1:0"), 2, "--peer: only with --store redis://"),
        ((HELLO, "--ws-max-size", "0"), 2, "--ws-max-size 0: at least 1"),
        ((HELLO, "--forwarded-allow-ips", "::1,10.0.0.0/99"), 2, "'10.0.0.0/99' is no network"),
        ((HELLO, "--forwarded-allow-ips", "300.1.1.1"), 2, "'300.1.1.1' is no address"),
        ((HELLO, "--secret-file", "/no/such/file", "--port", "0"), 2, "openssl rand"),
        ((HELLO, "--log-config", "/no/such/file"), 2, "--log-config /no/such/file: no such file"),
        ((HELLO, "--reload", "--reload-dir", "/no/such/"), 2, "--reload-dir /no/such: no such dir"),
        (("apps.hello", "--port", "0"), 2, "main:app"),
        (("apps/hello.py:app", "--port", "0"), 2, 'Did you mean "hello:app" with --app-dir apps?'),
        (("hello.py:app", "--port", "0"), 2, 'Did you mean "hello:app"?'),
        (("no_such_module:app", "--port", "0"), 2, "--app-dir"),
        (("apps.hello:nothing", "--port", "0"), 2, "nothing"),
        (("apps.hello:BODY", "--port", "0"), 2, "not callable"),
    ],
)
def test_errors_of_use(tmp_path: Path, arguments: tuple[str, ...], code: int, part: str) -> None:
    with serving(tmp_path, *arguments) as process:
        fails(process, code, part)


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        (
            "import no_such_thing",
            ("ModuleNotFoundError: No module named 'no_such_thing'", "line 1"),
        ),
        ("from os import nothing", ("ImportError: cannot import name 'nothing'",)),
        ("def app(:", ("SyntaxError", "line 1")),
        ("x = 1\napp = x / 0", ("ZeroDivisionError", "broken.py, line 2")),
        ("import sys; sys.exit('no\\nway')", ("SystemExit: no way",)),
    ],
)
def test_an_application_that_does_not_import(
    tmp_path: Path, source: str, parts: tuple[str, ...]
) -> None:
    (tmp_path / "broken.py").write_text(source)
    with serving(tmp_path, "broken:app", "--port", "0") as process:
        fails(process, 2, "broken:app", *parts)


def test_a_busy_port(tmp_path: Path) -> None:
    with bind_udp("127.0.0.1", 0) as busy:
        port = str(busy.getsockname()[1])
        for extra in ((), ("--workers", "2")):
            directory = tmp_path / f"run{len(extra)}"
            directory.mkdir()
            with serving(directory, HELLO, "--port", port, *extra) as process:
                fails(process, 2, f"UDP 127.0.0.1:{port} is in use", "choose another --port")


def test_a_port_that_other_workers_share_is_busy_too(tmp_path: Path) -> None:
    with bind_udp("127.0.0.1", 0, reuse_port=True) as busy:
        port = str(busy.getsockname()[1])
        with serving(tmp_path, HELLO, "--port", port, "--workers", "2") as process:
            fails(process, 2, "is in use")


def test_a_secret_that_others_can_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(32))
    secret.chmod(0o644)
    with serving(tmp_path, HELLO, "--port", "0", "--secret-file", str(secret)) as process:
        fails(process, 2, f"chmod 600 {secret}")


def test_a_secret_in_the_environment_is_not_shown(tmp_path: Path) -> None:
    environment = {"TRICKLES_SECRET": "sesame"}
    with serving(tmp_path, HELLO, "--port", "0", environment=environment) as process:
        fails(process, 2, "TRICKLES_SECRET")
        assert "sesame" not in process.stderr


def test_what_is_no_option_of_the_environment(tmp_path: Path) -> None:
    environment = {"TRICKLES_VERSION": "1", "TRICKLES_CHILD": "77:2"}
    with serving(tmp_path, HELLO, "--port", "0", environment=environment) as process:
        assert process.port()
        assert process.end() == 0


def test_an_address_in_brackets(tmp_path: Path) -> None:
    arguments = (HELLO, "--host", "[::1]", "--port", "0", "--gateway", "[::1]:0")
    with serving(tmp_path, *arguments) as process:
        process.says(r"running on trickles://\[::1\]:\d+ \(UDP\) and http://\[::1\]:\d+ ")
        assert process.end() == 0
    assert process.stderr.count("Shutting down") == 1


def test_help_and_version() -> None:
    form = "" if endpoint.__file__.endswith(".py") else " (compiled)"
    for option, expected in (
        ("--version", f"trickles-serve, version {trickles_web.__version__}{form}\n"),
        ("--help", "--secret-file"),
        ("--help", "--never-rerun GLOB"),
        ("--help", "--rerun [safe|never]"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "trickles_web.cli.serve", option],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        assert expected in done.stdout and done.stderr == ""
        assert "--child" not in done.stdout


def test_listening_addresses() -> None:
    assert parse_listen("--gateway", "127.0.0.1:8080") == ("127.0.0.1", 8080)
    assert parse_listen("--gateway", "[::1]:0") == ("::1", 0)
    assert parse_listen("--gateway", "localhost:65535") == ("localhost", 65535)
