"""A real redis-server of the tests' own, on a socket in a temporary folder."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest


class RedisServer:
    """Can be stopped and started again, with nothing of what it held."""

    def __init__(self, directory: str) -> None:
        self.path = f"{directory}/redis.sock"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    def start(self, *options: str) -> None:
        if shutil.which("redis-server") is None:
            pytest.skip("no redis-server: apt-get install redis-server")
        self._process = subprocess.Popen(
            [
                "redis-server",
                *("--port", "0", "--unixsocket", self.path),
                *("--save", "", "--appendonly", "no", *options),
            ],
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 10
        while not self._answers():
            assert time.monotonic() < deadline and self._process.poll() is None
            time.sleep(0.01)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as sock, contextlib.suppress(OSError):
            sock.connect(self.path)
            sock.sendall(b"PING\r\n")
            return sock.recv(16) == b"+PONG\r\n"
        return False

    def flush(self) -> None:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(self.path)
            sock.sendall(b"FLUSHALL\r\n")
            assert sock.recv(16) == b"+OK\r\n"

    def stop(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        Path(self.path).unlink(missing_ok=True)


@contextlib.contextmanager
def redis_server() -> Iterator[RedisServer]:
    # Of its own, because the path of a socket must be short.
    with tempfile.TemporaryDirectory(prefix="redis-") as directory:
        server = RedisServer(directory)
        server.start()
        try:
            yield server
        finally:
            server.stop()
