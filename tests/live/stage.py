"""Servers that are killed and started again, a gateway before them, and the clients of a test."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from apps.large_files import megabyte
from tests.net.processes import PATIENCE_S, ROOT, Running, serving

SITE = "apps.site:app"
TRANSFER_S = 90.0
"""A client's process may take this long, on a machine that is overloaded."""


def until(condition: Callable[[], object], what: str = "it") -> None:
    """Polls what has no other way to tell."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited for {what} in vain"
        time.sleep(0.005)


class Stage:
    """Below one folder; all servers of it share a secret."""

    def __init__(self, directory: Path, site_cache: Path) -> None:
        self.directory = directory
        self.environment = {
            "XDG_STATE_HOME": str(directory / "state"),
            "SITE_CACHE_DIR": str(site_cache),
        }
        self._count = 0

    def folder(self) -> Path:
        self._count += 1
        folder = self.directory / f"process{self._count}"
        folder.mkdir()
        return folder

    def serving(
        self, *arguments: str, fds: tuple[int, ...] = ()
    ) -> contextlib.AbstractContextManager[Running]:
        """`trickles-serve ARGUMENTS`, its output in a folder of its own."""
        arguments = (*arguments, "--app-dir", str(self.directory))
        return serving(self.folder(), *arguments, fds=fds, environment=self.environment)

    @contextlib.contextmanager
    def gateway(self, port: int) -> Iterator[int]:
        """A gateway to the server on this UDP port; its TCP port."""
        process = subprocess.Popen(
            [
                *(sys.executable, "-W", "error", "-m", "trickles_web.cli.gateway"),
                *("--listen", "127.0.0.1:0", f"trickles://127.0.0.1:{port}"),
            ],
            cwd=ROOT,
            stderr=subprocess.PIPE,
        )
        with process:
            assert process.stderr is not None
            try:
                line = process.stderr.readline().decode()
                assert " -> trickles://" in line, line
                yield int(line.partition(" -> ")[0].rpartition(":")[2])
                process.terminate()
                assert process.wait(PATIENCE_S) == 0
                assert b"Traceback" not in process.stderr.read()
            finally:
                process.kill()


class Site:
    """A server process that can die and come back on its port."""

    def __init__(self, stage: Stage, *arguments: str, fds: tuple[int, ...] = ()) -> None:
        self._stage, self._arguments, self._fds = stage, arguments, fds
        self._stack = contextlib.ExitStack()
        self.running = self._start()
        self.port = self.running.port()
        if not fds:
            self._arguments = (*arguments, "--port", str(self.port))  # the last one counts

    def _start(self) -> Running:
        return self._stack.enter_context(self._stage.serving(*self._arguments, fds=self._fds))

    def __enter__(self) -> Site:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def kill(self) -> None:
        self.running.end(signal.SIGKILL)
        assert "Traceback" not in self.running.stderr

    def restart(self) -> None:
        """SIGKILL, and another process; returns when it is started, not when it serves."""
        self.kill()
        self.running = self._start()

    def end(self) -> None:
        assert self.running.end() == 0
        assert "Traceback" not in self.running.stderr


def command(client: str, url: str, *options: str) -> list[str]:
    """`url` without a scheme."""
    if client == "curl":
        return ["curl", "-sS", *options, f"http://{url}"]
    own = [sys.executable, "-W", "error", "-m", "trickles_web.cli.get"]
    return [*own, *options, f"trickles://{url}"]


def run(client: str, url: str, *options: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        command(client, url, *options), cwd=ROOT, capture_output=True, timeout=TRANSFER_S
    )


@contextlib.contextmanager
def fetching(client: str, url: str, file: Path, *options: str) -> Iterator[None]:
    """A download into `file`, which must have ended well by itself at the end."""
    words = command(client, url, *options, "-o", str(file))
    pipe = subprocess.PIPE
    with subprocess.Popen(words, cwd=ROOT, stdout=pipe, stderr=pipe) as process:
        try:
            yield
            out, complaints = process.communicate(timeout=TRANSFER_S)
            assert (process.returncode, out, complaints) == (0, b"", b""), complaints
        finally:
            process.kill()


def grown_to(file: Path, size: int) -> None:
    """Returns when the file has so many bytes."""
    until(lambda: file.exists() and file.stat().st_size >= size, f"{size} bytes in {file}")


def same_as_site(file: Path, megabytes: int) -> bool:
    """Whether these are the bytes of apps.site's large file, computed anew."""
    digest = hashlib.sha256()
    for number in range(megabytes):
        digest.update(megabyte(number))
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").digest() == digest.digest()


def tcp(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)


def free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def alive_below(pid: int) -> list[int]:
    """Processes whose parent this one is."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found]


def is_root() -> bool:
    return os.geteuid() == 0
