"""`trickles-serve --metrics`: what real servers tell of themselves, killed or not."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.net.monitoring.test_tallies import Sample, sample, samples
from tests.net.processes import Running, serving
from tests.net.test_serve import HELLO, get
from tests.net.test_supervisor import children, comes_back

pytestmark = pytest.mark.live


def address(server: Running) -> tuple[str, int]:
    found = server.says(r"Metrics and status on http://(127\.0\.0\.1):(\d+)/")
    return found[1], int(found[2])


def metrics(server: Running) -> dict[Sample, float]:
    host, port = address(server)
    with urlopen(f"http://{host}:{port}/metrics", timeout=30) as answer:
        return samples(answer.read())


def until(server: Running, holds: Callable[[dict[Sample, float]], bool]) -> dict[Sample, float]:
    """The first metrics of which that is so."""
    seen: dict[Sample, float] = {}

    def look() -> bool:
        seen.clear()
        seen.update(metrics(server))
        return holds(seen)

    server.until(look)
    return seen


def requests(found: dict[Sample, float], **labels: str) -> float:
    """Of all workers, or those with these labels."""
    return sum(
        count
        for (name, of), count in found.items()
        if name == "trickles_requests_total" and labels.items() <= set(of)
    )


def test_one_process_tells_at_once(tmp_path: Path) -> None:
    arguments = ("--port", "0", "--metrics", "0", "--access-log-format", "json")
    with serving(tmp_path, HELLO, *arguments) as server:
        port = server.port()
        get(port, "/a?b=c")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(b"\x11what", ("127.0.0.1", port))
            found = until(server, lambda found: any("refusals" in name for name, _ in found))
        assert requests(found, method="safe", status="2xx", worker="1") == 1
        assert requests(found) == 1
        datagrams = sample(found, "datagrams_total", worker="1", direction="in")
        assert datagrams >= 2
        assert sample(found, "batch_datagrams_sum", worker="1") == datagrams
        assert sample(found, "batch_datagrams_count", worker="1") <= datagrams
        assert sample(found, "bytes_total", worker="1", direction="in") >= 1200 + 5
        assert sample(found, "bytes_total", worker="1", direction="out") > 100
        assert sample(found, "bursts_total", worker="1") >= 1
        assert sample(found, "soft_state_bytes", worker="1") > 0
        assert sample(found, "worker_restarts_total", worker="1") == 0
        assert server.end() == 0
        (line,) = server.stdout.splitlines()
        told = json.loads(line)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", told.pop("time"))
        assert told.pop("client").startswith("127.0.0.1:")
        assert told.pop("bytes") > 100 and told.pop("duration_ms") > 0
        assert told == {
            "method": "GET",
            "path": "/a",
            "query": "b=c",
            "http_version": "1.1",
            "status": 200,
            "pid": server.process.pid,
        }


def test_counts_of_workers_only_grow_while_one_is_killed(tmp_path: Path) -> None:
    arguments = ("--port", "0", "--workers", "2", "--metrics", "0")
    with serving(tmp_path, HELLO, *arguments, "--timeout-worker-healthcheck", "1") as server:
        port = server.port()
        before = children(server)
        for _ in range(8):
            get(port)
        counted = until(server, lambda found: requests(found) == 8)
        os.kill(before["Worker 1"], signal.SIGKILL)
        comes_back(server, "Worker 1", before["Worker 1"])
        for _ in range(8):
            get(port)
        later = until(server, lambda found: requests(found) == 16)
        assert sample(later, "worker_restarts_total", worker="1") == 1
        assert sample(later, "worker_restarts_total", worker="2") == 0
        gauges = ("trickles_soft_state_bytes", "trickles_parked_requests")
        for (name, labels), count in counted.items():
            assert name in gauges or later[name, labels] >= count, (name, labels)
        with urlopen("http://{}:{}/events".format(*address(server)), timeout=30) as events:
            told = json.loads(events.readline().removeprefix(b"data: "))
        assert {worker["name"]: worker["pid"] for worker in told["workers"]} == {
            name.removeprefix("Worker "): pid for name, pid in children(server).items()
        }
        assert sum(worker["requests"] for worker in told["workers"]) == 16
        assert server.end() == 0
        assert "Traceback" not in server.stderr


def test_what_a_worker_counts_until_its_end_is_not_lost(tmp_path: Path) -> None:
    """It is asked once a second only, and ends before it is asked again."""
    with serving(tmp_path, HELLO, "--port", "0", "--workers", "2", "--metrics", "0") as server:
        port, before = server.port(), children(server)
        for _ in range(6):
            get(port)
        for pid in before.values():
            os.kill(pid, signal.SIGTERM)
        for name, pid in before.items():
            comes_back(server, name, pid)
        assert requests(metrics(server)) == 6
        assert server.end() == 0


def test_hostile_clients_of_the_port_do_not_disturb_serving(tmp_path: Path) -> None:
    with serving(tmp_path, HELLO, "--port", "0", "--metrics", "0") as server:
        port, listener = server.port(), address(server)
        clients = [socket.create_connection(listener, timeout=30) for _ in range(100)]
        try:
            for number, client in enumerate(clients):
                client.setblocking(False)
                try:
                    client.send((b"GET / HT", b"\0\xff" * 99, b"x" * 100_000)[number % 3])
                except OSError:
                    continue
            for _ in range(20):
                assert get(port).startswith(b"HTTP/1.1 200 OK\r\n")
        finally:
            for client in clients:
                client.close()
        assert requests(until(server, lambda found: requests(found) >= 20)) == 20
        assert server.end() == 0
        assert "Traceback" not in server.stderr


@pytest.mark.parametrize("text", ["", "x", "127.0.0.1:", "127.0.0.1:70000", "999999"])
def test_what_is_no_port_is_said(tmp_path: Path, text: str) -> None:
    with serving(tmp_path, HELLO, f"--metrics={text}") as server:
        assert server.process.wait(30) == 2
        assert "give HOST:PORT" in server.stderr
        assert server.stderr.count("\n") == 1


@pytest.mark.parametrize("more", [(), ("--workers", "2")])
def test_a_port_that_is_taken_is_said(tmp_path: Path, more: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with serving(tmp_path, HELLO, "--port", "0", "--metrics", port, *more) as server:
            assert server.process.wait(30) == 2
            assert f"TCP 127.0.0.1:{port} is in use" in server.stderr
            assert "Traceback" not in server.stderr
