"""The parts of the load tests that end servers, load them meanwhile, and look at their memory."""

from __future__ import annotations

import asyncio
import mmap
import os
import resource
import signal
import sys
from pathlib import Path

import pytest

from loadtest import idle
from loadtest.failover import Reading
from loadtest.processes import Stage
from loadtest.rolling import BODY, CONNECTIONS, Connection, Load
from loadtest.scale import flows_by_worker
from loadtest.supervised import Worker

RIGHT = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY


class Site:
    """Answers over TCP as it is told: by the number of a request, from 1."""

    def __init__(self, answers: dict[int, bytes]) -> None:
        self.answers = answers
        self.requests = 0
        self.tasks: list[asyncio.Task[None]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.append(task)
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                self.requests += 1
                answer = self.answers.get(self.requests, RIGHT)
                writer.write(answer)
                await writer.drain()
                if answer != RIGHT:
                    break
        except (EOFError, OSError):
            pass
        writer.close()


def loaded(site: Site, count: int) -> Load:
    async def run() -> Load:
        async with await asyncio.start_server(site.serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]

            async def connect(port: int) -> Connection:
                return await asyncio.open_connection("127.0.0.1", port)

            load = Load(connect, port)
            await load.run(count)
            await asyncio.gather(*site.tasks)
            return load

    return asyncio.run(run())


def test_a_load_that_nothing_disturbs() -> None:
    load = loaded(Site({}), 120)
    assert not load.failures and len(load.times) == 120
    assert list(load.posts.values()) == ["done"] * 12
    assert load.opened == CONNECTIONS


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (b"", "IncompleteReadError"),
        (RIGHT[:-3], "IncompleteReadError"),
        (RIGHT.replace(BODY, bytes(len(BODY))), "ValueError: a wrong answer"),
        (RIGHT.replace(b"200 OK", b"503 Service Unavailable"), "ValueError: a wrong answer"),
    ],
)
def test_what_a_client_cannot_repair_is_a_failure(answer: bytes, failure: str) -> None:
    load = loaded(Site({30: answer}), 100)
    [(told, count)] = load.failures.items()
    assert told.startswith(failure) and count == 1
    assert len(load.times) == 99 and load.opened == CONNECTIONS + 1


def test_a_worker_is_known_by_its_newest_process(tmp_path: Path) -> None:
    """A process stands for the supervisor: it logs what one would."""
    with Stage() as stage:
        victim = stage.start("victim", sys.executable, "-c", "import time; time.sleep(60)")
        log = f"Worker 1 is process [1]\nWorker 1 is process [{victim.pid}] now"
        code = f"import time; print({log!r}, flush=True); time.sleep(60)"
        supervisor = stage.start("supervisor", sys.executable, "-c", code)
        supervisor.says("now")
        worker = Worker(supervisor, 1)
        assert worker.pid == victim.pid and worker.back
        worker.restart(signal.SIGTERM)
        assert victim.popen.wait(60) == -signal.SIGTERM
        assert worker.kills == 1 and not worker.back
        worker.restart()  # it is not back, and whoever has its process id now is spared
        assert worker.kills == 1


def test_flows_are_counted_by_worker() -> None:
    log = (
        "DEBUG: Counters: {'HELLO': 30, 'sent': 500}\nINFO: Finished\n"
        "DEBUG: Counters: {'sent': 0}\nDEBUG: Counters: {'HELLO': 34}\n"
    )
    assert flows_by_worker(log) == [30, 0, 34]


def test_a_stall_is_told_in_probe_timeouts() -> None:
    assert Reading(longest=0.06, probe_timeout=0.02).stall == pytest.approx(3)


def test_memory_of_a_process_that_grows() -> None:
    before = idle.memory_kb(os.getpid())
    with mmap.mmap(-1, 20 << 20) as kept:
        kept.write(b"x" * len(kept))
        after = idle.memory_kb(os.getpid())
    assert after["Rss"] - before["Rss"] >= 15 << 10 and after["Pss"] > before["Pss"]


def test_files_are_counted_in_blocks(tmp_path: Path) -> None:
    assert idle.stored_mb(tmp_path) == 0
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(bytes(1_000_000))
    assert 1 <= idle.stored_mb(tmp_path) < 1.1


def test_descriptors_are_allowed_as_far_as_may_be() -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        assert idle.allow_descriptors(10) == limits[0]
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, limits[1]))
        assert idle.allow_descriptors(200) == 200
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 200
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
