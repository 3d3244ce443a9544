"""The README's commands, as they stand there but for the ports, in the order it gives them."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.stage import Stage, free_port, grown_to, until
from tests.net.processes import ROOT, Running
from tests.test_readme import README, SCRIPTS, blocks, command_lines

pytestmark = [
    pytest.mark.live,
    pytest.mark.xdist_group("live readme"),
    pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl"),
]

PORTS = {"8000": socket.SOCK_DGRAM, "8001": socket.SOCK_DGRAM, "8080": socket.SOCK_STREAM}
MYAPP = "from apps.hello import app\n\n__all__ = ['app']\n"


class Reader:
    """Somebody with a clone, who types what the README says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {told: str(free_port(kind)) for told, kind in PORTS.items()}
        self.environment = os.environ | {
            "PATH": f"{folder / '.venv' / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "error",
            "XDG_STATE_HOME": str(folder / "state"),
        }
        commands = folder / ".venv" / "bin"
        commands.mkdir(parents=True)
        for script, place in SCRIPTS.items():
            module = place.partition(":")[0]
            path = commands / script
            path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n')
            path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def types(self, line: str) -> str:
        """The line with the ports that are free here."""
        for told, ours in self.ports.items():
            line = re.sub(rf"\b{told}\b", ours, line)
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
def reader(tmp_path: Path, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Reader:
    monkeypatch.setenv("SITE_CACHE_DIR", stage.environment["SITE_CACHE_DIR"])
    folder = tmp_path / "clone"
    folder.mkdir()
    return Reader(folder)


def line_like(pattern: str) -> str:
    """The README's one command line of this form."""
    found = [line for line in command_lines() if re.fullmatch(pattern, line)]
    assert len(found) == 1, f"{pattern}: {found}"
    return found[0]


def made_by_make() -> str:
    """What `make serve` runs at its end."""
    recipe = re.search(r"^serve:.*\n\t@exec \$\(BIN\)/(.*)$", (ROOT / "Makefile").read_text(), re.M)
    assert recipe is not None
    values = {"APP": "apps.site:app", "GATEWAY": "127.0.0.1:8080"}
    return re.sub(r"\$\((\w+)\)", lambda name: values[name[1]], recipe[1]) + " --port 8000"


def test_the_first_page_and_the_demonstration(reader: Reader) -> None:
    """Both downloads at once, their server killed three times, the check of the README after it."""
    downloads = {
        name: line_like(rf"(\.venv/bin/)?{name} --limit-rate 10M -o 100\.bin \S+/files/100\.bin")
        for name in ("trickles-get", "curl")
    }
    assert line_like("kill -9 PID")
    check = line_like(r"curl -s \S+/files/100\.bin\.sha256 \| sha256sum --check")
    with reader.running(made_by_make()) as server, contextlib.ExitStack() as stack:
        server.port()
        for first in (r"curl -s http://127\.0\.0\.1:8080/", r"\S+trickles-get trickles://[^/]+/"):
            assert "<html" in reader.prints(line_like(first)).lower()
        reader.prints(check.partition(" | ")[0])  # makes the file
        running = []
        for name, line in downloads.items():
            folder = reader.folder / name
            folder.mkdir()
            (folder / ".venv").symlink_to(reader.folder / ".venv")
            running.append(stack.enter_context(reader.running(line, folder)))
        for megabytes in (15, 40, 65):
            for name in downloads:
                grown_to(reader.folder / name / "100.bin", megabytes * 1_000_000)
            pid = pids(server)[-1]
            reader.prints(f"kill -9 {pid}")
            until(lambda: pids(server)[-1] != pid, "another worker")  # noqa: B023
        for name, client in zip(downloads, running, strict=True):
            client.until(lambda: client.process.poll() is not None)  # noqa: B023
            assert client.process.returncode == 0, client.stderr
            assert reader.prints(check, reader.folder / name) == "100.bin: OK\n"
        assert server.end(signal.SIGINT) == 0
        assert "Traceback" not in server.stderr


def test_the_trace_of_a_transfer(reader: Reader) -> None:
    with reader.running(made_by_make()) as server:
        server.port()
        reader.prints(line_like(r"curl -s http://127\.0\.0\.1:8080/"))
        told = reader.prints(line_like(r"\S+trickles-trace --save .*"))
        assert "the response [0, 100,000," in told
        assert reader.prints(line_like(r"\S+trickles-trace --plot .*")).startswith(told)
        assert "<svg" in (reader.folder / "transfer.svg").read_text()
        assert server.end(signal.SIGINT) == 0


def pids(server: Running) -> list[int]:
    """Of the workers, as the banner tells them, newest last."""
    return [int(pid) for pid in re.findall(r"kill -9 (\d+)", server.stderr)]


def test_downloads_from_two_servers(reader: Reader) -> None:
    """What is there is resumed; both servers are asked for what is not."""
    content = bytes(range(256)) * 12_000
    (reader.folder / "100.bin").write_bytes(content)
    with contextlib.ExitStack() as stack:
        for port in ("8000", "8001"):
            folder = reader.folder / port
            folder.mkdir()
            os.link(reader.folder / "100.bin", folder / "100.bin")
            line = line_like(rf"trickles-serve --static \. --port {port}")
            stack.enter_context(reader.running(line, folder)).port()
        target = reader.folder / "downloads"
        target.mkdir()
        for options in (r"-C - --retry 5 -O", r"-O --replica 127\.0\.0\.1:8001"):
            (target / "100.bin").write_bytes(content[:1_000_000])
            reader.prints(line_like(rf"trickles-get {options} \S+/100\.bin"), target)
            assert (target / "100.bin").read_bytes() == content


def test_an_application_of_ones_own(reader: Reader) -> None:
    (reader.folder / "myapp.py").write_text(MYAPP)
    with reader.running(line_like("trickles-serve myapp:app --host .* --gateway .*")) as server:
        server.port()
        assert reader.prints("curl -s http://127.0.0.1:8080/") == "Hello, world!\n"
        for client in ("open_connection", "TricklesTransport", "routed"):
            [example] = [block for block in blocks("python") if f"import {client}\n" in block]
            (reader.folder / "example.py").write_text(reader.types(example))
            printed = reader.prints(f"{sys.executable} example.py")
            head, _, body = printed.rstrip().rpartition("\n\n")
            assert body == "Hello, world!"
            assert head.startswith("HTTP/1.1 200 OK") == (client == "open_connection")
        assert server.end() == 0
    with reader.running(line_like("trickles-serve myapp:app") + " --port 8000") as server:
        server.port()
        assert reader.prints(line_like("trickles-run .*")) == "Hello, world!\n"
        folder = reader.folder / "gateway"
        folder.mkdir()
        line = line_like("trickles-gateway --listen .*")
        with reader.running(line, folder) as gateway:
            gateway.says("Trickles gateway: http")
            assert reader.prints("curl -s http://127.0.0.1:8080/") == "Hello, world!\n"
            assert gateway.end() == 0
        with reader.running(line_like("trickles-gateway --proxy .*"), folder) as proxy:
            password = Path(proxy.says("with the password in (.*)")[1]).read_text().strip()
            curl = f"curl -s -x http://trickles:{password}@127.0.0.1:8080"
            assert reader.prints(f"{curl} http://127.0.0.1:8000/") == "Hello, world!\n"
            assert proxy.end() == 0
        assert server.end() == 0


def test_the_example_site_is_what_make_serves() -> None:
    assert "`apps.site:app`" in README
    makefile = (ROOT / "Makefile").read_text()
    assert "APP ?= apps.site:app" in makefile and "GATEWAY ?= 127.0.0.1:8080" in makefile
