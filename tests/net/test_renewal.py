"""Workers that are replaced while they serve: by a signal, by a changed file, by their age."""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.net.processes import Running, serving
from tests.net.test_serve import get
from tests.net.test_supervisor import PIDS, answering, children, comes_back

pytestmark = pytest.mark.live


class Asking(threading.Thread):
    """GETs, one after the other, until told to stop; what came of them."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.port = port
        self.stopped = threading.Event()
        self.answers: Counter[str] = Counter()

    def run(self) -> None:
        while not self.stopped.is_set():
            try:
                answer = get(self.port)
                self.answers["right" if answer.startswith(b"HTTP/1.1 200 ") else repr(answer)] += 1
            except Exception as error:  # is what the test is about
                self.answers[repr(error)] += 1


@contextmanager
def asked(port: int) -> Iterator[Asking]:
    asking = Asking(port)
    asking.start()
    yield asking
    asking.stopped.set()
    asking.join(30)
    assert asking.answers["right"] > 0
    assert set(asking.answers) == {"right"}


def all_renewed(server: Running, before: dict[str, int]) -> None:
    server.until(lambda: not set(children(server).values()) & set(before.values()))


@pytest.mark.parametrize("more", [("--workers", "2"), ("--reload",)])
def test_a_signal_replaces_all_workers_and_no_request_fails(
    tmp_path: Path, more: tuple[str, ...]
) -> None:
    (tmp_path / "pids.py").write_text(PIDS)
    with serving(tmp_path, "pids:app", "--port", "0", *more) as server:
        port = server.port()
        before = children(server)
        with asked(port):
            for _ in range(2):
                server.process.send_signal(signal.SIGHUP)
                all_renewed(server, before)
                before = children(server)
        assert answering(port) in before.values()
        assert server.end() == 0
        assert "Traceback" not in server.stderr


def test_one_worker_more_and_one_less(tmp_path: Path) -> None:
    (tmp_path / "pids.py").write_text(PIDS)
    with serving(tmp_path, "pids:app", "--port", "0", "--workers", "2") as server:
        port = server.port()
        with asked(port):
            server.process.send_signal(signal.SIGTTIN)
            third = int(server.says(r"Worker 3 is process \[(\d+)\]")[1])
            seen: set[int] = set()

            def all_three() -> bool:
                seen.add(answering(port))
                return len(seen) == 3

            server.until(all_three)
            assert third in seen
            server.process.send_signal(signal.SIGTTOU)
            server.says("Worker 3 is taken away")
            server.says(rf"Finished server process \[{third}\]")
        for _ in range(3):
            server.process.send_signal(signal.SIGTTOU)
        server.says("Worker 2 is taken away")
        assert answering(port) == children(server)["Worker 1"]  # the last one stays
        assert server.end() == 0


def test_one_worker_more_that_is_broken_is_taken_away_again(tmp_path: Path) -> None:
    module = tmp_path / "pids.py"
    module.write_text(PIDS)
    with serving(tmp_path, "pids:app", "--port", "0", "--workers", "2") as server:
        port = server.port()
        module.write_text("import no_such_thing")
        server.process.send_signal(signal.SIGTTIN)
        server.says(r"Worker 3 \[\d+\] ended with exit code 2 before it served; it is taken away")
        assert answering(port) in children(server).values()
        assert server.end() == 0


def test_a_hung_worker_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "pids.py").write_text(PIDS)
    arguments = ("--port", "0", "--workers", "2", "--timeout-worker-healthcheck", "1")
    with serving(tmp_path, "pids:app", *arguments) as server:
        port = server.port()
        hung = children(server)["Worker 2"]
        os.kill(hung, signal.SIGSTOP)
        comes_back(server, "Worker 2", hung)
        assert f"Worker 2 [{hung}] gave no sign of life for 1 s; killing it" in server.stderr
        assert answering(port) in children(server).values()
        assert server.end() == 0


def test_a_changed_file_is_served_and_a_broken_one_is_not(tmp_path: Path) -> None:
    source = PIDS.replace("os.getpid()", "number").replace("import os", "from number import number")
    (tmp_path / "pids.py").write_text(source)
    number = tmp_path / "number.py"
    number.write_text("number = 1")
    with serving(tmp_path, "pids:app", "--port", "0", "--reload") as server:
        port = server.port()
        assert answering(port) == 1
        with asked(port):
            number.write_text("number = 22")
            server.until(lambda: answering(port) == 22)
            assert "'number.py' changed; reloading" in server.stderr
            number.write_text("number = ")
            server.says(r"Worker 1: its successor \[\d+\] ended with exit code 2 .* goes on")
            assert answering(port) == 22
            number.write_text("number = 333")
            server.until(lambda: answering(port) == 333)
        assert server.end() == 0


def test_what_is_broken_from_the_start_is_awaited(tmp_path: Path) -> None:
    module = tmp_path / "pids.py"
    module.write_text("import no_such_thing")
    with serving(tmp_path, "pids:app", "--port", "0", "--reload") as server:
        server.says("waiting for a change")
        module.write_text(PIDS)
        assert answering(server.port()) == children(server)["Worker 1"]
        assert server.end() == 0


def test_a_worker_is_replaced_when_it_has_answered_often_enough(tmp_path: Path) -> None:
    (tmp_path / "pids.py").write_text(PIDS)
    arguments = ("--port", "0", "--workers", "2", "--limit-max-requests", "5")
    with serving(tmp_path, "pids:app", *arguments) as server:
        port = server.port()
        before = children(server)
        with asked(port):
            all_renewed(server, before)
        assert "Maximum request limit of 5 exceeded." in server.stderr
        assert server.end() == 0


def test_a_process_of_its_own_ends_then(tmp_path: Path) -> None:
    (tmp_path / "pids.py").write_text(PIDS)
    with serving(tmp_path, "pids:app", "--port", "0", "--limit-max-requests", "2") as server:
        port = server.port()
        assert answering(port) == answering(port) == server.process.pid
        assert server.process.wait(30) == 0


def test_systemd_is_told(tmp_path: Path) -> None:
    (tmp_path / "pids.py").write_text(PIDS)
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(address))
        manager.settimeout(30)
        arguments = ("pids:app", "--port", "0", "--workers", "2")
        environment = {"NOTIFY_SOCKET": str(address)}
        with serving(tmp_path, *arguments, environment=environment) as server:
            assert manager.recv(100) == b"READY=1"
            server.process.send_signal(signal.SIGHUP)
            assert re.fullmatch(rb"RELOADING=1\nMONOTONIC_USEC=\d+", manager.recv(100))
            assert manager.recv(100) == b"READY=1"
            assert server.end() == 0
            assert manager.recv(100) == b"STOPPING=1"


ACTIVATED = """
import os, sys
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
os.dup2(int(sys.argv[1]), 3)
os.execv(sys.executable, [sys.executable, "-m", "trickles_web.cli.serve", *sys.argv[2:]])
"""


@pytest.mark.parametrize("more", [(), ("--reload",)])
def test_a_socket_that_systemd_has_bound(tmp_path: Path, more: tuple[str, ...]) -> None:
    (tmp_path / "pids.py").write_text(PIDS)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0))
        port, descriptor = bound.getsockname()[1], bound.fileno()
        command = (ACTIVATED, str(descriptor), "pids:app", *more)
        with serving(tmp_path, *command, fds=(descriptor,), module=("-c",)) as server:
            assert server.port() == port
            with asked(port):
                if more:
                    before = children(server)
                    server.process.send_signal(signal.SIGHUP)
                    all_renewed(server, before)
            assert server.end() == 0
