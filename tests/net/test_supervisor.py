"""Several workers and a gateway under one supervisor: killed, restarted, ended."""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import socket
from pathlib import Path

import pytest

from tests.net.processes import Running, is_alive, serving
from tests.net.test_serve import get
from trickles_web.client import open_connection
from trickles_web.client.tokens import TokenStore

pytestmark = pytest.mark.live

HELLO = "apps.hello:app"
PIDS = """
import os
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise RuntimeError("not supported")
    body = b"%d" % os.getpid()
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
"""


def children(server: Running) -> dict[str, int]:
    """The newest process of each child, by name."""
    found = re.findall(r"(Worker \d+|Gateway) is process \[(\d+)\]", server.stderr)
    return {name: int(pid) for name, pid in found}


def answering(port: int) -> int:
    return int(get(port).rpartition(b"\r\n\r\n")[2])


def both_answering(server: Running, port: int) -> set[int]:
    """The first two processes that answer new flows."""
    seen: set[int] = set()

    def two() -> bool:
        seen.add(answering(port))
        return len(seen) == 2

    server.until(two)
    return seen


def comes_back(server: Running, name: str, before: int) -> None:
    server.until(lambda: children(server)[name] != before)


def test_workers_share_the_port_and_a_killed_one_comes_back(tmp_path: Path) -> None:
    (tmp_path / "pids.py").write_text(PIDS)
    with serving(tmp_path, "pids:app", "--port", "0", "--workers", "2") as server:
        port = server.port()
        before = children(server)
        assert set(before) == {"Worker 1", "Worker 2"}
        for pid in before.values():
            assert f"kill -9 {pid}" in server.stderr
        assert both_answering(server, port) == set(before.values())

        os.kill(before["Worker 1"], signal.SIGKILL)
        comes_back(server, "Worker 1", before["Worker 1"])
        after = children(server)
        assert after["Worker 2"] == before["Worker 2"]
        assert both_answering(server, port) == set(after.values())
        assert "was killed by signal 9; restarting it at once" in server.stderr

        assert server.end() == 0
        assert not any(is_alive(pid) for pid in after.values())
        assert "Traceback" not in server.stderr


def test_any_worker_answers_any_datagram_while_workers_are_killed(tmp_path: Path) -> None:
    content = random.Random(7).randbytes(20_000_000)
    (tmp_path / "large.bin").write_bytes(content)
    arguments = ("--static", str(tmp_path), "--port", "0", "--workers", "3", "--steering", "random")

    async def download(port: int, server: Running) -> bytes:
        reader, writer = await open_connection("127.0.0.1", port, tokens=TokenStore(None))
        writer.write(b"GET /large.bin HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        got = bytearray()
        for part in range(1, 5):
            got += await reader.readexactly(part * len(content) // 5 - len(got))
            name = f"Worker {part % 3 + 1}"
            before = children(server)[name]
            os.kill(before, signal.SIGKILL)
            await asyncio.to_thread(comes_back, server, name, before)
        got += await reader.read()
        writer.close()
        return bytes(got)

    with serving(tmp_path, *arguments) as server:
        assert asyncio.run(asyncio.wait_for(download(server.port(), server), 60)) == content
        assert server.end() == 0
        assert "Traceback" not in server.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_cleanly_when_one_worker_does_not(tmp_path: Path, number: int) -> None:
    with serving(tmp_path, HELLO, "--port", "0", "--workers", "2") as server:
        server.port()
        pids = children(server)
        os.kill(pids["Worker 2"], signal.SIGSTOP)
        server.process.send_signal(number)
        server.says("Shutting down")
        assert server.end(number) == 0  # the second signal does not wait
        server.until(lambda: not any(is_alive(pid) for pid in pids.values()))


def test_children_die_with_the_supervisor(tmp_path: Path) -> None:
    with serving(tmp_path, HELLO, "--port", "0", "--workers", "2") as server:
        server.port()
        pids = children(server)
        server.end(signal.SIGKILL)
        server.until(lambda: not any(is_alive(pid) for pid in pids.values()))


def test_what_fails_at_the_first_start_is_said_once_and_not_repeated(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import no_such_thing")
    with serving(tmp_path, "broken:app", "--port", "0", "--workers", "3") as server:
        assert server.process.wait(30) == 2
        assert server.stderr.count("Error: importing broken:app failed") == 1
        assert "giving up" in server.stderr
        assert "Traceback" not in server.stderr


def test_a_worker_that_breaks_later_is_tried_again_and_again(tmp_path: Path) -> None:
    module = tmp_path / "mended.py"
    module.write_text(PIDS)
    with serving(tmp_path, "mended:app", "--port", "0", "--workers", "2") as server:
        port = server.port()
        before = children(server)
        module.write_text("import no_such_thing")
        os.kill(before["Worker 1"], signal.SIGKILL)
        server.until(lambda: server.stderr.count("ended with exit code 2; restarting") >= 2)
        assert answering(port) == before["Worker 2"]  # the other one serves all flows meanwhile
        module.write_text(PIDS)
        comes_back(server, "Worker 1", before["Worker 1"])
        assert server.end() == 0


def test_the_environment_does_not_make_supervisors_of_workers(tmp_path: Path) -> None:
    options = {"TRICKLES_WORKERS": "2", "TRICKLES_PORT": "0", "TRICKLES_LOG_LEVEL": "info"}
    with serving(tmp_path, HELLO, environment=options) as server:
        server.port()
        assert server.stderr.count("Started parent process") == 1
        assert server.stderr.count("Started server process") == 2


def test_a_gateway_beside_one_worker(tmp_path: Path) -> None:
    arguments = (HELLO, "--port", "0", "--gateway", "127.0.0.1:0")
    environment = {"XDG_CACHE_HOME": str(tmp_path)}
    with serving(tmp_path, *arguments, environment=environment) as server:
        server.port()
        before = children(server)
        assert set(before) == {"Worker 1", "Gateway"}
        tcp = int(server.says(r"and http://127\.0\.0\.1:(\d+) \(Press")[1])

        def ask() -> bytes:
            with socket.create_connection(("127.0.0.1", tcp), timeout=30) as connection:
                connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                return b"".join(iter(lambda: connection.recv(65_536), b""))

        assert ask().endswith(b"Hello, world!\n")
        for name in ("Worker 1", "Gateway"):
            os.kill(before[name], signal.SIGKILL)
            comes_back(server, name, before[name])
        assert ask().endswith(b"Hello, world!\n")
        pids = children(server)
        assert server.end() == 0
        assert not any(is_alive(pid) for pid in pids.values())


def test_a_busy_gateway_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        listen = f"127.0.0.1:{busy.getsockname()[1]}"
        with serving(tmp_path, HELLO, "--port", "0", "--gateway", listen) as server:
            assert server.process.wait(30) == 2
            assert server.stderr == (
                f"Error: TCP {listen} is in use by another process; "
                "choose another --gateway or stop it\n"
            )
