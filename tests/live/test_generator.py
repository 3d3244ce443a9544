"""The load generator in C against real servers: what it counts as answered is answered."""

from __future__ import annotations

import contextlib
import select
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loadtest import generator
from loadtest.application import BODY
from tests.live.stage import Stage
from tests.net.processes import PATIENCE_S

pytestmark = [
    pytest.mark.live,
    pytest.mark.xdist_group("live requests"),
    pytest.mark.skipif(shutil.which("cc") is None, reason="needs cc"),
]

APP = "loadtest.application:app"
LARGE = 1_000_000
REQUESTS = 200
BUSY = 300


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generator.compiled(tmp_path_factory.mktemp("generator"))


def load(program: Path, port: int, **options: str | float) -> dict[str, Any]:
    """What the generator says; it fails unless every answer is right."""
    words = [str(program), *generator.words(port=port, **options)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr + done.stdout
    return generator.parse(done.stdout)


@contextlib.contextmanager
def relaying(port: int, lose_every: int = 0, busy: threading.Event | None = None) -> Iterator[int]:
    """A relay to this UDP port, for one client port; its own port.

    lose_every: of each direction, every so many datagrams are lost. busy: set when BUSY came.
    """
    near, far = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    wake, stop = socket.socketpair()
    near.bind(("127.0.0.1", 0))
    far.connect(("127.0.0.1", port))
    near.setblocking(False)
    far.setblocking(False)

    def relay() -> None:
        client: tuple[str, int] | None = None
        counts = {near: 0, far: 0}
        while True:
            readable, _, _ = select.select([near, far, wake], [], [])
            if wake in readable:
                return
            for sock in readable:
                try:
                    datagram, sender = sock.recvfrom(65_536)
                except (ConnectionRefusedError, BlockingIOError):  # the news of it, once or twice
                    continue
                client = sender if sock is near else client
                counts[sock] += 1
                if busy is not None and counts[near] == BUSY:
                    busy.set()
                if lose_every and counts[sock] % lose_every == 0:
                    continue
                if sock is near:
                    with contextlib.suppress(ConnectionRefusedError):  # the server is dead
                        far.send(datagram)
                elif client is not None:
                    near.sendto(datagram, client)

    thread = threading.Thread(target=relay)
    thread.start()
    try:
        yield near.getsockname()[1]
    finally:
        stop.send(b".")
        thread.join()
        for sock in (near, far, wake, stop):
            sock.close()


@pytest.mark.parametrize("mode", ["get", "new"])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_every_request_is_answered(program: Path, stage: Stage, mode: str, workers: str) -> None:
    with stage.serving(APP, "--port", "0", "--workers", workers) as server:
        found = load(program, server.port(), mode=mode, body=len(BODY), requests=REQUESTS, flows=16)
    assert found["requests in all"] >= REQUESTS
    assert found["errors"] == found["wrong"] == found["foreign"] == 0


def test_a_long_answer_is_claimed_burst_by_burst(program: Path, stage: Stage) -> None:
    with stage.serving(APP, "--port", "0") as server:
        options: dict[str, str | float] = {"path": f"/bytes/{LARGE}", "requests": 20, "flows": 2}
        found = load(program, server.port(), body=LARGE, **options)
        small = load(program, server.port(), body=LARGE, size=1200, **options)
    assert found["claims"] > 0 and small["claims"] > found["claims"]
    assert found["bytes"] >= 20 * LARGE
    assert found["bytes"] < 21 * LARGE + 20 * 1000  # asked for once: heads, and what was under way


def test_what_is_lost_is_asked_for_again(program: Path, stage: Stage) -> None:
    with stage.serving(APP, "--port", "0") as server, relaying(server.port(), 9) as port:
        found = load(program, port, body=len(BODY), requests=REQUESTS, flows=4, sockets=1)
        long = load(
            program, port, path="/bytes/200000", body=200_000, requests=4, flows=4, sockets=1
        )
    assert found["requests in all"] >= REQUESTS and found["timeouts"] > 0
    assert long["losses"] > 0


def test_it_outlives_its_server(program: Path, stage: Stage) -> None:
    """Killed while requests are in flight, and started again: none of them fails."""
    busy = threading.Event()
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(stage.serving(APP, "--port", "0"))
        port = server.port()
        relay = stack.enter_context(relaying(port, busy=busy))
        words = generator.words(port=relay, body=len(BODY), requests=2 * BUSY, flows=16, sockets=1)
        command = [str(program), *words]
        client = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert busy.wait(PATIENCE_S)
        server.end(signal.SIGKILL)
        stack.enter_context(stage.serving(APP, "--port", str(port)))
        printed, _ = client.communicate(timeout=PATIENCE_S)
    found = generator.parse(printed)
    assert found["requests in all"] >= 2 * BUSY and found["timeouts"] > 0
    assert found["errors"] == found["wrong"] == 0


def test_a_wrong_answer_is_an_error(program: Path, stage: Stage) -> None:
    with stage.serving(APP, "--port", "0") as server:
        words = generator.words(port=server.port(), body=len(BODY) + 1, requests=5, flows=1)
        done = subprocess.run([str(program), *words], capture_output=True, text=True, timeout=90)
        missing = generator.words(port=server.port(), path="/none", body=14, requests=5, flows=1)
        refused = subprocess.run([str(program), *missing], capture_output=True, text=True)
    assert done.returncode == 1
    assert generator.parse(done.stdout)["wrong"] == 5
    assert generator.parse(refused.stdout)["wrong"] == 5


def test_without_a_server_it_says_so(program: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        words = generator.words(port=sock.getsockname()[1], body=1, patience=0.3)
        done = subprocess.run([str(program), *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "no answer" in done.stderr and "is the server" in done.stderr
    with pytest.raises(RuntimeError, match="no result"):
        generator.parse(done.stdout)
