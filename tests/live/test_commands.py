"""The commands of README and documentation, as they stand there but for addresses and ports.

Each test names the lines that it runs. A line that no test names, and that is not in `NOT_RUN` with
a reason, is an error; so is one that a test names and does not use, or that is not there any more.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.authority import Authority
from tests.documents import README, SCRIPTS, blocks, command_lines, example, is_test, title
from tests.live.stage import Stage, free_port, grown_to, until
from tests.net.processes import ROOT, Running
from tests.state.redis_server import redis_server

pytestmark = [
    pytest.mark.live,
    pytest.mark.xdist_group("live commands"),
    pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl"),
]

PORTS = {"8000": socket.SOCK_DGRAM, "8001": socket.SOCK_DGRAM, "8080": socket.SOCK_STREAM}
MYAPP = "from apps.hello import app\n\n__all__ = ['app']\n"
CI = ".ci/run"
HERE = "tests/live/test_commands.py"
NOT_RUN = {
    "make serve": ("serves for ever", f"{HERE}::test_the_first_page_and_the_demonstration"),
    "make demo": ("serves for ever", "tests/apps/demo/test_command.py"),
    "make docs": ("makes the whole site", CI),
    "make test": ("it would run itself", CI),
    "make check": ("a minute", CI),
    "make audit": ("asks a service elsewhere", CI),
    "make compiled": ("minutes", "tests/test_compiled.py"),
    "TRICKLES_COMPILE=1 pip install .": ("minutes", "tests/test_compiled.py"),
    "make bench": ("minutes", "tests/loadtest/test_bench.py"),
    "pip install .": ("installs packages", "tests/test_documents.py::test_extras_exist"),
    ".venv/bin/python -m pip install -e '.[loadtest]'": (
        "installs packages",
        "tests/test_documents.py::test_extras_exist",
    ),
    ".venv/bin/python -m pip install -e '.[dev,loadtest]'": (
        "installs packages",
        "tests/test_documents.py::test_extras_exist",
    ),
    ".venv/bin/python -m loadtest failover": ("a minute", "tests/live/test_downloads.py"),
    ".venv/bin/python -m loadtest requests --quick": ("minutes", "tests/live/test_generator.py"),
    ".venv/bin/python -m loadtest all": ("an hour", "tests/live/test_loadtest.py"),
    ".venv/bin/python -m loadtest fuzz": ("an hour", "tests/fuzz/test_corpus.py"),
    "chromium --proxy-server=http://127.0.0.1:8080 '--proxy-bypass-list=<-loopback>'": (
        "needs a screen; curl asks that proxy instead",
        f"{HERE}::test_an_application_of_ones_own",
    ),
}
"""Lines, why no test runs them as they are, and what comes nearest to that."""
ELSEWHERE = {
    "from trickles_web.resumable import resumable_stream": (
        "tests/test_resumable.py::test_the_example_of_the_documentation"
    ),
    "def test_login(trickles_client):": (
        "tests/testing/test_plugin.py::test_the_example_of_the_documentation"
    ),
}
"""Examples that other tests run."""

Test = Callable[..., None]
RUN: dict[str, dict[str, str]] = {}
"""What tests run: their names, then lines, and titles of examples, by what a test calls them."""


def runs(**lines: str) -> Callable[[Test], Test]:
    def note(test: Test) -> Test:
        RUN[test.__name__] = lines
        return test

    return note


class Reader:
    """Somebody with a clone, who types what stands in the documents."""

    def __init__(self, folder: Path, lines: dict[str, str]) -> None:
        self.folder = folder
        self.used: set[str] = set()
        self.instead = {told: str(free_port(kind)) for told, kind in PORTS.items()}
        self._lines = lines
        self.environment = os.environ | {
            "PATH": f"{folder / '.venv' / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "error",
            "XDG_STATE_HOME": str(folder / "state"),
            "TRICKLES_PORT": self.instead["8000"],
        }
        commands = folder / ".venv" / "bin"
        commands.mkdir(parents=True)
        modules = {script: f"-m {place.partition(':')[0]}" for script, place in SCRIPTS.items()}
        for script, module in {**modules, "python": ""}.items():
            path = commands / script
            path.write_text(f'#!/bin/sh\nexec "{sys.executable}" {module} "$@"\n')
            path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def __getitem__(self, name: str) -> str:
        """The line, or the example in Python, that the test calls so."""
        self.used.add(name)
        line = self._lines[name]
        return line if line in command_lines() else example(line)

    def types(self, line: str) -> str:
        """The line with what is free here in place of what the documents name."""
        for told, ours in self.instead.items():
            line = re.sub(rf"(?<![\w.]){re.escape(told)}\b", ours, line)
        return line

    @contextlib.contextmanager
    def running(self, line: str, folder: Path | None = None) -> Iterator[Running]:
        """A command that goes on until it is stopped, or comes to its end."""
        folder = folder or self.folder
        out, err = folder / "stdout", folder / "stderr"
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen(
                ["sh", "-c", f"exec {self.types(line)}"],
                cwd=folder,
                env=self.environment,
                stdout=stdout,
                stderr=stderr,
            )
        try:
            yield Running(process, out, err)
        finally:
            process.kill()
            process.wait()

    def prints(self, line: str, folder: Path | None = None) -> str:
        """What a command prints; it must succeed and not complain."""
        done = subprocess.run(
            ["sh", "-c", self.types(line)],
            cwd=folder or self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, ""), (line, done.stderr)
        return done.stdout


@pytest.fixture
def reader(
    request: pytest.FixtureRequest, tmp_path: Path, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Reader]:
    monkeypatch.setenv("SITE_CACHE_DIR", stage.environment["SITE_CACHE_DIR"])
    folder = tmp_path / "clone"
    folder.mkdir()
    lines = RUN[request.node.name]
    reader = Reader(folder, lines)
    yield reader
    assert set(lines) == reader.used, "a line that this test names was not run"


def made_by_make() -> str:
    """What `make serve` runs at its end."""
    recipe = re.search(r"^serve:.*\n\t@exec \$\(BIN\)/(.*)$", (ROOT / "Makefile").read_text(), re.M)
    assert recipe is not None
    values = {"APP": "apps.site:app", "GATEWAY": "127.0.0.1:8080"}
    return re.sub(r"\$\((\w+)\)", lambda name: values[name[1]], recipe[1])


def pids(server: Running) -> list[int]:
    """Of the workers, as the banner tells them, newest last."""
    return [int(pid) for pid in re.findall(r"kill -9 (\d+)", server.stderr)]


def kill(reader: Reader, server: Running) -> None:
    """The newest worker, as the README tells; waits for the next one."""
    pid = pids(server)[-1]
    reader.prints(f"kill -9 {pid}")
    until(lambda: pids(server)[-1] != pid, "another worker")


def test_every_line_is_run_or_has_a_reason() -> None:
    told = {*command_lines(), *map(title, blocks("python"))}
    run = {line for lines in RUN.values() for line in lines.values()}
    assert told - run - set(NOT_RUN) - set(ELSEWHERE) == set(), "neither run nor listed"
    assert run | set(NOT_RUN) | set(ELSEWHERE) <= told, "not in any document"
    assert not run & (set(NOT_RUN) | set(ELSEWHERE))


def test_what_comes_nearest_exists() -> None:
    ci = (ROOT / CI).read_text().splitlines()
    for line, (_, nearest) in NOT_RUN.items():
        assert is_test(nearest) if nearest != CI else line in ci, line
    assert [test for test in ELSEWHERE.values() if not is_test(test)] == []


@runs(
    curl="curl -s http://127.0.0.1:8080/",
    get=".venv/bin/trickles-get trickles://127.0.0.1:8000/",
    get_file=(
        ".venv/bin/trickles-get --limit-rate 10M -o 100.bin trickles://127.0.0.1:8000/files/100.bin"
    ),
    curl_file="curl --limit-rate 10M -o 100.bin http://127.0.0.1:8080/files/100.bin",
    kill="kill -9 PID",
    check="curl -s http://127.0.0.1:8080/files/100.bin.sha256 | sha256sum --check",
)
def test_the_first_page_and_the_demonstration(reader: Reader) -> None:
    """Both downloads at once, their server killed three times, the check of the README after it."""
    with reader.running(made_by_make()) as server, contextlib.ExitStack() as stack:
        server.port()
        for first in ("curl", "get"):
            assert "<html" in reader.prints(reader[first]).lower()
        check = reader["check"]
        reader.prints(check.partition(" | ")[0])  # makes the file
        running = {}
        for name in ("get_file", "curl_file"):
            folder = reader.folder / name
            folder.mkdir()
            (folder / ".venv").symlink_to(reader.folder / ".venv")
            running[name] = stack.enter_context(reader.running(reader[name], folder))
        assert reader["kill"] == "kill -9 PID"
        for megabytes in (15, 40, 65):
            for name in running:
                grown_to(reader.folder / name / "100.bin", megabytes * 1_000_000)
            kill(reader, server)
        for name, client in running.items():
            client.until(lambda: client.process.poll() is not None)  # noqa: B023
            assert client.process.returncode == 0, client.stderr
            assert reader.prints(check, reader.folder / name) == "100.bin: OK\n"
        assert server.end(signal.SIGINT) == 0
        assert "Traceback" not in server.stderr


@runs(
    serve=".venv/bin/trickles-serve apps.stream:app --workers 1 --gateway 127.0.0.1:8080",
    curl="curl -N http://127.0.0.1:8080/",
)
def test_a_stream_goes_on(reader: Reader) -> None:
    folder = reader.folder / "curl"
    folder.mkdir()
    with reader.running(reader["serve"]) as server:
        server.port()
        with reader.running(reader["curl"], folder) as client:
            client.until(lambda: "id: 2\n" in client.stdout)
            kill(reader, server)
            client.until(lambda: "id: 5\n" in client.stdout)
        numbers = [int(number) for number in re.findall(r"^id: (\d+)\n", client.stdout, re.M)]
        assert numbers == list(range(len(numbers)))  # the server would wait for the stream to end


@runs(
    look=".venv/bin/trickles-trace trickles://127.0.0.1:8000/files/1.bin",
    save=(".venv/bin/trickles-trace --save transfer.pcap trickles://127.0.0.1:8000/files/100.bin"),
    plot=".venv/bin/trickles-trace --plot transfer.svg transfer.pcap",
)
def test_the_trace_of_a_transfer(reader: Reader) -> None:
    with reader.running(made_by_make()) as server:
        server.port()
        assert "the response [0, 1,000," in reader.prints(reader["look"])
        told = reader.prints(reader["save"])
        assert "the response [0, 100,000," in told
        assert reader.prints(reader["plot"]).startswith(told)
        assert "<svg" in (reader.folder / "transfer.svg").read_text()
        assert server.end(signal.SIGINT) == 0


@runs(
    first="trickles-serve --static . --port 8000",
    second="trickles-serve --static . --port 8001",
    resumed="trickles-get -C - --retry 5 -O trickles://127.0.0.1:8000/100.bin",
    striped="trickles-get -O --replica 127.0.0.1:8001 trickles://127.0.0.1:8000/100.bin",
)
def test_downloads_from_two_servers(reader: Reader) -> None:
    """What is there is resumed; both servers are asked for what is not."""
    content = bytes(range(256)) * 12_000
    (reader.folder / "100.bin").write_bytes(content)
    with contextlib.ExitStack() as stack:
        for name in ("first", "second"):
            folder = reader.folder / name
            folder.mkdir()
            os.link(reader.folder / "100.bin", folder / "100.bin")
            stack.enter_context(reader.running(reader[name], folder)).port()
        target = reader.folder / "downloads"
        target.mkdir()
        for name in ("resumed", "striped"):
            (target / "100.bin").write_bytes(content[:1_000_000])
            reader.prints(reader[name], target)
            assert (target / "100.bin").read_bytes() == content


@runs(
    workers=(
        "trickles-serve myapp:app --host 127.0.0.1 --port 8000 --workers 2 --gateway 127.0.0.1:8080"
    ),
    connection="from trickles_web.client import open_connection",
    httpx="from trickles_web.client.httpx import TricklesTransport",
    routed="from trickles_web.client import routed",
    serve="trickles-serve myapp:app --never-rerun '/confirm/*' --never-rerun '/unsubscribe'",
    run="trickles-run curl -s http://127.0.0.1:8000/",
    gateway="trickles-gateway --listen 127.0.0.1:8080 trickles://127.0.0.1:8000",
    proxy="trickles-gateway --proxy --listen 127.0.0.1:8080",
)
def test_an_application_of_ones_own(reader: Reader) -> None:
    (reader.folder / "myapp.py").write_text(MYAPP)
    with reader.running(reader["workers"]) as server:
        server.port()
        assert reader.prints("curl -s http://127.0.0.1:8080/") == "Hello, world!\n"
        for client in ("connection", "httpx", "routed"):
            (reader.folder / "example.py").write_text(reader.types(reader[client]))
            printed = reader.prints(f"{sys.executable} example.py")
            head, _, body = printed.rstrip().rpartition("\n\n")
            assert body == "Hello, world!"
            assert head.startswith("HTTP/1.1 200 OK") == (client == "connection")
        assert server.end() == 0
    with reader.running(reader["serve"]) as server:
        server.port()
        assert reader.prints(reader["run"]) == "Hello, world!\n"
        folder = reader.folder / "gateway"
        folder.mkdir()
        with reader.running(reader["gateway"], folder) as gateway:
            gateway.says("Trickles gateway: http")
            assert reader.prints("curl -s http://127.0.0.1:8080/") == "Hello, world!\n"
            assert gateway.end() == 0
        with reader.running(reader["proxy"], folder) as proxy:
            password = Path(proxy.says("with the password in (.*)")[1]).read_text().strip()
            curl = f"curl -s -x http://trickles:{password}@127.0.0.1:8080"
            assert reader.prints(f"{curl} http://127.0.0.1:8000/") == "Hello, world!\n"
            assert proxy.end() == 0
        assert server.end() == 0


@runs(
    shared=(
        "trickles-serve myapp:app --host 10.0.0.11 --secret-file /etc/trickles/secret"
        " --store redis://10.0.0.2:6379/0 --peer 10.0.0.11:8001"
    ),
    preferred=(
        "trickles-serve myapp:app --host 0.0.0.0 --preferred-address 10.0.0.11:8000"
        " --secret-file /etc/trickles/secret"
    ),
)
def test_a_replica(reader: Reader) -> None:
    (reader.folder / "myapp.py").write_text(MYAPP)
    secret = reader.folder / "secret"
    secret.touch(mode=0o600)
    secret.write_text(secrets.token_hex(32))
    with redis_server() as redis:
        reader.instead |= {
            "10.0.0.11": "127.0.0.1",
            "redis://10.0.0.2:6379/0": redis.url,
            "/etc/trickles/secret": str(secret),
        }
        for name in ("shared", "preferred"):
            with reader.running(reader[name]) as server:
                server.port()
                page = reader.prints(".venv/bin/trickles-get -k trickless://127.0.0.1:8000/")
                assert page == "Hello, world!\n"
                assert server.end() == 0


@runs(
    server="trickles-serve myapp:app --ssl-certfile cert.pem --ssl-keyfile key.pem",
    get="trickles-get --cacert ca.pem trickless://localhost:8000/",
    gateway=("trickles-gateway --listen 127.0.0.1:8443 --cacert ca.pem trickless://localhost:8000"),
)
def test_private_flows(reader: Reader) -> None:
    (reader.folder / "myapp.py").write_text(MYAPP)
    authority = Authority()
    authority.write(reader.folder)
    certificates, key = authority.certify("localhost").write(reader.folder)
    Path(certificates).rename(reader.folder / "cert.pem")
    Path(key).rename(reader.folder / "key.pem")
    reader.instead["8443"] = str(free_port(socket.SOCK_STREAM))
    with reader.running(reader["server"]) as server:
        server.port()
        assert reader.prints(reader["get"]) == "Hello, world!\n"
        folder = reader.folder / "gateway"
        folder.mkdir()
        shutil.copy(reader.folder / "ca.pem", folder)
        with reader.running(reader["gateway"], folder) as gateway:
            gateway.says("Trickles gateway: http")
            assert reader.prints("curl -s http://127.0.0.1:8443/") == "Hello, world!\n"
            assert gateway.end() == 0
        assert server.end() == 0


@runs(help=".venv/bin/python -m loadtest --help")
def test_the_long_runs_are_listed(reader: Reader) -> None:
    assert "failover" in reader.prints(reader["help"])


def test_the_example_site_is_what_make_serves() -> None:
    assert "`apps.site:app`" in README
    makefile = (ROOT / "Makefile").read_text()
    assert "APP ?= apps.site:app" in makefile and "GATEWAY ?= 127.0.0.1:8080" in makefile
