"""`trickles-serve` in one process: what it says, how it serves, how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
import re
import signal
import socket
import tempfile
import time
from pathlib import Path

import pytest

from tests.net.processes import WITHOUT, is_alive, serving
from trickles_web.client import open_connection
from trickles_web.client.tokens import TokenStore
from trickles_web.net.sockets import bind_udp

pytestmark = pytest.mark.live

HELLO = "apps.hello:app"

LIFESPAN = """
import asyncio, os
async def app(scope, receive, send):
    assert scope["type"] == "lifespan"
    await receive()
    %s
    await send({"type": "lifespan.startup.complete"})
    await receive()
    %s
    open("cleaned-up", "w").close()
    await send({"type": "lifespan.shutdown.complete"})
"""


async def exchange(port: int, request: bytes, host: str = "127.0.0.1") -> bytes:
    reader, writer = await open_connection(host, port, tokens=TokenStore(None))
    writer.write(request)
    answer = await reader.read()
    writer.close()
    return answer


def get(port: int, path: str = "/", host: str = "127.0.0.1") -> bytes:
    request = f"GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
    return asyncio.run(exchange(port, request.encode(), host))


@pytest.mark.parametrize("loop", ["asyncio", "auto"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_and_says_what_a_uvicorn_user_expects(
    tmp_path: Path, loop: str, number: int
) -> None:
    with serving(tmp_path, HELLO, "--port", "0", "--loop", loop) as server:
        port = server.port()
        answer = get(port, "/path?query")
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n") and answer.endswith(b"Hello, world!\n")
        server.until(lambda: '- "GET /path?query HTTP/1.1" 200 OK\n' in server.stdout)
        assert server.end(number) == 0
        lines = [line for line in server.stderr.splitlines() if "To try it" not in line]
        (pin,) = re.findall(r"sha256//\S{43}=", server.stderr)
        assert lines == [
            f"INFO:     Started server process [{server.process.pid}]",
            "INFO:     Waiting for application startup.",
            "INFO:     Application startup complete.",
            f"INFO:     Trickles running on trickles://127.0.0.1:{port} (UDP) "
            "(Press CTRL+C to quit)",
            f"INFO:     Its key for private flows is {pin}",
            "INFO:     Shutting down",
            "INFO:     Waiting for application shutdown.",
            "INFO:     Application shutdown complete.",
            f"INFO:     Finished server process [{server.process.pid}]",
        ]
        assert f"kill -9 {server.process.pid}" in server.stderr


def test_servers_of_tests_leave_nothing_in_memory(tmp_path: Path) -> None:
    """Their soft state is in a folder that is removed at the end, and not in /dev/shm."""
    with serving(tmp_path, HELLO, "--port", "0") as server:
        server.port()
        descriptors = Path(f"/proc/{server.process.pid}/fd").iterdir()
        held = [path.readlink() for path in descriptors if path.is_symlink()]
    (lock,) = [path for path in held if path.name.startswith("w-")]
    if "tmpfs" in os.environ.get(WITHOUT, ""):
        base = Path(tempfile.gettempdir(), f"trickles-web-{os.getuid()}")
    else:
        base = Path(os.environ["XDG_RUNTIME_DIR"])
    assert lock.is_relative_to(base) and base.stat().st_mode & 0o777 == 0o700
    assert base.name.startswith(("trickles-tests-", "trickles-web-"))


def test_options_from_the_environment(tmp_path: Path) -> None:
    options = {"TRICKLES_APP": HELLO, "TRICKLES_PORT": "0", "TRICKLES_ACCESS_LOG": "0"}
    with serving(tmp_path, environment=options) as server:
        assert b"200 OK" in get(server.port())
        assert server.end() == 0
        assert server.stdout == ""


def test_ipv6_and_wildcard(tmp_path: Path) -> None:
    for host, asked in (("::1", "::1"), ("::", "::1"), ("0.0.0.0", "127.0.0.2")):
        directory = tmp_path / str(len(host))
        directory.mkdir()
        options = ("--host", host, "--port", "0", "--allow-cleartext")
        with serving(directory, HELLO, *options) as server:
            assert b"200 OK" in get(server.port(), host=asked)


def test_an_inherited_socket(tmp_path: Path) -> None:
    with bind_udp("127.0.0.1", 0) as sock:
        descriptor = sock.fileno()
        with serving(tmp_path, HELLO, "--fd", str(descriptor), fds=(descriptor,)) as server:
            assert server.port() == sock.getsockname()[1]
            assert b"200 OK" in get(server.port())


def test_a_directory_of_files(tmp_path: Path) -> None:
    files = tmp_path / "files"
    (files / "deep").mkdir(parents=True)
    (files / "index.html").write_text("<p>index</p>")
    content = random.Random(3).randbytes(300_000)
    (files / "deep" / "data.bin").write_bytes(content)
    with serving(tmp_path, "--static", str(files), "--port", "0") as server:
        port = server.port()
        assert get(port).endswith(b"<p>index</p>")
        assert get(port, "/deep/data.bin").endswith(content)
        assert get(port, "/nothing").startswith(b"HTTP/1.1 404")
        assert get(port, "/../stdout").startswith(b"HTTP/1.1 404")
        assert server.end() == 0


def test_shutdown_runs_the_lifespan(tmp_path: Path) -> None:
    (tmp_path / "clean.py").write_text(LIFESPAN % ("pass", "await asyncio.sleep(0.01)"))
    with serving(tmp_path, "clean:app", "--port", "0") as server:
        server.port()
        assert server.end() == 0
        assert (tmp_path / "cleaned-up").exists()


def test_a_second_signal_does_not_wait_for_the_application(tmp_path: Path) -> None:
    (tmp_path / "hangs.py").write_text(
        LIFESPAN % ("pass", "open('asked', 'w').close(); await asyncio.sleep(1000)")
    )
    with serving(tmp_path, "hangs:app", "--port", "0") as server:
        server.port()
        server.process.send_signal(signal.SIGINT)
        server.until((tmp_path / "asked").exists)
        assert server.process.poll() is None
        assert server.end(signal.SIGINT) == 0
        assert not (tmp_path / "cleaned-up").exists()
        assert "Traceback" not in server.stderr


def test_a_signal_during_startup_ends_it(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(LIFESPAN % ("await asyncio.sleep(1000)", "pass"))
    with serving(tmp_path, "slow:app", "--port", "0") as server:
        server.says("Waiting for application startup")
        assert server.end() == 0
        assert "Traceback" not in server.stderr


def test_an_application_that_refuses_to_start(tmp_path: Path) -> None:
    failed = "await send({'type': 'lifespan.startup.failed', 'message': 'no database'}); return"
    (tmp_path / "refuses.py").write_text(LIFESPAN % (failed, "pass"))
    with serving(tmp_path, "refuses:app", "--port", "0") as server:
        assert server.process.wait(30) == 3
        assert "no database" in server.stderr
        assert "Application startup failed" in server.stderr


def test_a_restart_is_transparent_to_a_transfer(tmp_path: Path) -> None:
    """A download slower than three restarts, byte for byte, from the same flow."""
    content = random.Random(5).randbytes(6_000_000)
    (tmp_path / "large.bin").write_bytes(content)
    with bind_udp("127.0.0.1", 0) as probe:
        port = probe.getsockname()[1]
    arguments = ("--static", str(tmp_path), "--port", str(port))

    async def download(first: asyncio.Event, go_on: asyncio.Event) -> bytes:
        reader, writer = await open_connection("127.0.0.1", port, tokens=TokenStore(None))
        writer.write(b"GET /large.bin HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        got = await reader.readexactly(100_000)
        first.set()
        await go_on.wait()
        got += await reader.read()
        writer.close()
        return got

    async def main() -> bytes:
        first, go_on = asyncio.Event(), asyncio.Event()
        with serving(tmp_path, *arguments) as server:
            await asyncio.to_thread(server.port)
            task = asyncio.create_task(download(first, go_on))
            await asyncio.wait_for(first.wait(), 30)
            server.end(signal.SIGKILL)
        (tmp_path / "stderr").unlink()
        with serving(tmp_path, *arguments) as server:
            await asyncio.to_thread(server.port)
            go_on.set()
            return await asyncio.wait_for(task, 60)

    assert hashlib.sha256(asyncio.run(main())).digest() == hashlib.sha256(content).digest()


def test_hostile_datagrams_change_nothing(tmp_path: Path) -> None:
    chance = random.Random(int.from_bytes(os.urandom(4), "big"))
    with serving(tmp_path, HELLO, "--port", "0", "--log-level", "debug") as server:
        port = server.port()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect(("127.0.0.1", port))
            client.setblocking(False)
            deadline = time.monotonic() + 2
            sent = received = 0
            while time.monotonic() < deadline:
                size = chance.choice([0, 1, 9, 60, 300, 1200, 1452, 9000, 16_385])
                datagram = chance.randbytes(size)
                if datagram and chance.random() < 0.8:
                    datagram = bytes([0x10 | chance.randrange(1, 13)]) + datagram[1:]
                client.send(datagram)
                sent += size
                with contextlib.suppress(BlockingIOError):
                    received += len(client.recv(65_535))
        assert received <= 3 * sent
        assert b"200 OK" in get(port)
        assert server.end() == 0
        assert "Traceback" not in server.stderr and "Exception" not in server.stderr
        assert server.says(r"Counters: .*'received': (\d+)")
        assert not is_alive(server.process.pid)
