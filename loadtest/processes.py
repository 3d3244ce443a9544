"""The processes of a scenario: started, watched through their logs, and always ended."""

from __future__ import annotations

import ast
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parent.parent
PATIENCE_S = 60.0
"""For anything that takes seconds at most on a machine that is not overloaded."""
LOOK_S = 0.005
"""Between two looks at what grows: the grain of stalls."""
PIPE_BYTES = 1 << 20
BANNER = "running on trickles"
"""What a server says when it serves."""


class Process:
    """One process, in a session of its own, and the file that it logs to."""

    def __init__(self, popen: subprocess.Popen[bytes], log: Path, start: int) -> None:
        self.popen = popen
        self._log = log
        self._start = start
        """Size of the log when it began: what came before is another process's."""

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def log(self) -> str:
        with self._log.open("rb") as file:
            file.seek(self._start)
            return file.read().decode(errors="replace")

    def says(self, pattern: str) -> re.Match[str]:
        """The first match in its log, once there is one. RuntimeError if it never comes."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            ended = self.popen.poll() is not None
            found = re.search(pattern, self.log)
            if found:
                return found
            if ended or time.monotonic() > deadline:
                raise RuntimeError(f"no {pattern!r} in the log of process {self.pid}:\n{self.log}")
            time.sleep(0.01)

    def output(self, deadline: float) -> Iterator[tuple[bytes, float]]:
        """What a piped process writes, with monotonic seconds, until its end; b"" in a silence.

        At the deadline it is killed.
        """
        assert self.popen.stdout is not None
        with self.popen.stdout as pipe:
            while True:
                readable, _, _ = select.select([pipe], [], [], LOOK_S)
                now = time.monotonic()
                if now > deadline:
                    self.popen.kill()
                data = os.read(pipe.fileno(), PIPE_BYTES) if readable else b""
                if readable and not data:
                    break
                yield data, now
        self.popen.wait(PATIENCE_S)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Signal it and wait; the exit code."""
        if self.popen.poll() is None:
            self.popen.send_signal(number)
        return self.popen.wait(PATIENCE_S)


class Stage:
    """A temporary folder and the processes of one scenario; at its end both are gone."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="trickles-loadtest-"))
        self.environment: dict[str, str] = {}
        """Variables for all processes, beside those of this one."""
        self._processes: list[Process] = []

    def __enter__(self) -> Stage:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in reversed(self._processes):
            if process.popen.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # some would leave children behind
            process.end(signal.SIGKILL)
        shutil.rmtree(self.directory, ignore_errors=True)

    def start(
        self,
        name: str,
        *command: str,
        fds: tuple[int, ...] = (),
        netns: str = "",
        piped: bool = False,
        before: tuple[str, ...] = (),
    ) -> Process:
        """Start a command; several processes may log under one name, one after the other.

        piped: what it writes to its standard output is for `output`, not for the log. before: words
        before the command, such as taskset's.
        """
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("TRICKLES_")}
        # One state directory: all servers share the secret. No tokens: every run begins alike.
        ours = {
            "PYTHONPATH": str(ROOT),
            "XDG_STATE_HOME": str(self.directory / "state"),
            "XDG_RUNTIME_DIR": str(self.directory),
            "TRICKLES_TOKENS": "off",
            "TRICKLES_ALLOW_CLEARTEXT": "yes",  # in network namespaces, which are nobody else's
        }
        log = self.directory / f"{name}.log"
        with log.open("ab") as output:
            start = output.tell()
            popen = subprocess.Popen(
                [*(["ip", "netns", "exec", netns] if netns else []), *before, *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if piped else output,
                stderr=output,
                cwd=self.directory,
                env=inherited | ours | self.environment,
                pass_fds=fds,
                start_new_session=True,
            )
        process = Process(popen, log, start)
        self._processes.append(process)
        return process

    def python(
        self,
        name: str,
        module: str,
        *arguments: str,
        fds: tuple[int, ...] = (),
        netns: str = "",
        piped: bool = False,
        before: tuple[str, ...] = (),
    ) -> Process:
        words = (sys.executable, "-m", module, *arguments)
        return self.start(name, *words, fds=fds, netns=netns, piped=piped, before=before)

    @property
    def redis_url(self) -> str:
        """Of the scenario's own Redis."""
        return f"unix://{self.directory}/redis.sock"

    def redis(self) -> Process:
        """Start it; it serves."""
        path = self.redis_url.removeprefix("unix://")
        options = ("--port", "0", "--unixsocket", path, "--save", "", "--appendonly", "no")
        process = self.start("redis", "redis-server", *options)
        process.says("accept connections")
        return process

    def gateway(self, port: int) -> int:
        """Start a gateway to the server on this UDP port; the TCP port where it listens."""
        return self.start_gateway(port)[1]

    def start_gateway(self, port: int) -> tuple[Process, int]:
        """The same, with its process."""
        gateway = self.python(
            "gateway",
            "trickles_web.cli.gateway",
            "--listen=127.0.0.1:0",
            f"trickles://127.0.0.1:{port}",
        )
        return gateway, int(gateway.says(r"http://127\.0\.0\.1:(\d+) ->")[1])


class Replica:
    """A trickles-serve that can be killed and started again, on the same port."""

    def __init__(
        self, stage: Stage, name: str, *arguments: str, fds: tuple[int, ...] = (), netns: str = ""
    ) -> None:
        self._stage, self._name, self._arguments = stage, name, arguments
        self._fds, self._netns = fds, netns
        self.kills = 0
        self.logs = ""
        """What killed incarnations logged."""
        self.process = self._start()

    def _start(self) -> Process:
        return self._stage.python(
            self._name,
            "trickles_web.cli.serve",
            "--no-access-log",
            *self._arguments,
            fds=self._fds,
            netns=self._netns,
        )

    def ready(self) -> None:
        self.process.says(BANNER)

    @property
    def back(self) -> bool:
        """Does it serve, since it was started last?"""
        return BANNER in self.process.log

    def restart(self) -> None:
        """SIGKILL, and a new process at once; it serves when it is ready."""
        self.process.end(signal.SIGKILL)
        self.kills += 1
        self.logs += self.process.log
        self.process = self._start()

    @property
    def log(self) -> str:
        return self.logs + self.process.log


def free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def counted(log: str) -> list[Counter[str]]:
    """What each worker counted that was ended, not killed (log level debug)."""
    return [Counter(ast.literal_eval(one)) for one in re.findall(r"Counters: (\{.*\})", log)]


def counters(log: str) -> Counter[str]:
    """The sums of that."""
    return sum(counted(log), Counter())
