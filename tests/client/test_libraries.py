"""Client libraries, unchanged, over Trickles, to servers that are processes of their own."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import websockets.asyncio.client
import websockets.sync.client

from loadtest.failover import sprayed_sockets
from tests.client import libraries, programs
from tests.client.application import pattern
from tests.client.libraries import HOST, NAMES
from tests.live.stage import Site, Stage
from tests.net.processes import serving
from trickles_web.client import create_connection

pytestmark = [pytest.mark.live, pytest.mark.xdist_group("client libraries")]

APPLICATION = ("tests.client.application:app", "--lifespan", "off")
REQUESTS = 200
PAUSE_S = 0.03
KILL_EVERY_S = 2.0
KILLED_UNDER = ["httpx", "httpx in asyncio", "requests", "http.client", "httpx2", "aiohttp"]
CURLS = 50
CURL_PAUSE_S = 0.05
NO_REDIRECTS = {"http.client"}


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Of a server process."""
    with serving(tmp_path_factory.mktemp("server"), *APPLICATION, "--port", "0") as server:
        yield server.port()
        assert server.end() == 0
        assert "Traceback" not in server.stderr


@pytest.mark.parametrize("name", NAMES)
def test_requests_of_all_kinds(name: str, port: int) -> None:
    body = pattern(700_000)
    with libraries.client(name, port) as ask:
        assert ask("GET", "/bytes/10", b"") == (200, pattern(10))
        assert ask("GET", "/bytes/1000000", b"") == (200, pattern(1_000_000))
        digest = hashlib.sha256(body).hexdigest().encode()
        assert ask("POST", "/digest", body) == (200, digest)
        assert ask("HEAD", "/bytes/100", b"") == (200, b"")
        assert ask("GET", "/last/5", b"") == (200, pattern(5))


@pytest.mark.parametrize("name", [name for name in NAMES if name not in NO_REDIRECTS])
def test_redirects_stay_on_trickles(name: str, port: int) -> None:
    """On TCP nobody listens at this port."""
    with libraries.client(name, port) as ask:
        for there in (f"http/{HOST}:{port}/bytes/20", "path/bytes/20"):
            assert ask("GET", f"/redirect/{there}", b"") == (200, pattern(20))


def test_websockets_of_threads(port: int) -> None:
    sock = create_connection((HOST, port), 30)
    url = f"ws://{HOST}:{port}/echo"
    with websockets.sync.client.connect(url, sock=sock, proxy=None) as connection:
        for text in ("one", "two" * 50_000):
            connection.send(text)
            assert connection.recv(30) == text


def test_websockets_of_asyncio(port: int) -> None:
    async def main() -> None:
        sock = create_connection((HOST, port))
        url = f"ws://{HOST}:{port}/echo"
        async with websockets.asyncio.client.connect(url, sock=sock, proxy=None) as connection:
            for text in ("one", "two" * 50_000):
                await connection.send(text)
                assert await connection.recv() == text

    asyncio.run(asyncio.wait_for(main(), 30))


def test_websockets_through_the_proxy(port: int) -> None:
    url = f"ws://{HOST}:{port}/echo"
    with (
        programs.proxy() as proxy,
        websockets.sync.client.connect(url, proxy=proxy) as connection,
    ):
        for text in ("one", "two" * 50_000):
            connection.send(text)
            assert connection.recv(30) == text


class Killer:
    """Kills one of these servers after the other, and starts it again, until it is stopped."""

    def __init__(self, sites: list[Site]) -> None:
        self._sites = sites
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.killed = 0

    def _run(self) -> None:
        while not self._stopping.wait(KILL_EVERY_S):
            self._sites[self.killed % len(self._sites)].restart()
            self.killed += 1

    def __enter__(self) -> Killer:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopping.set()
        self._thread.join()


def failures_of(name: str, port: int) -> list[str]:
    """What went wrong in many requests, one after the other on kept connections."""
    failed = []
    with libraries.client(name, port) as ask:
        for number in range(REQUESTS):
            size = number * 150
            try:
                if ask("GET", f"/bytes/{size}", b"") != (200, pattern(size)):
                    failed.append(f"{name}, {number}: wrong")
            except Exception as error:
                failed.append(f"{name}, {number}: {error!r}")
            time.sleep(PAUSE_S)
    return failed


def failures_of_curl(folder: Path, port: int) -> list[str]:
    """What went wrong in many processes of curl, one after the other."""
    fetch = f"curl -sSf -o $n http://{HOST}:{port}/bytes/$((n * 7000)) || echo $n"
    told = programs.run(
        *("sh", "-c", f"for n in $(seq {CURLS}); do {fetch}; sleep {CURL_PAUSE_S}; done"),
        folder=folder,
    )
    wrong = [n for n in range(1, CURLS + 1) if (folder / str(n)).read_bytes() != pattern(n * 7000)]
    return [f"curl: {told} {wrong}"] if told or wrong else []


def test_no_client_notices_that_servers_are_killed(tmp_path: Path) -> None:
    """Every datagram goes to any of three; one of them is killed, again and again."""
    failed: list[str] = []
    stage = Stage(tmp_path, tmp_path)

    programs.needed("curl")

    def work(name: str) -> None:
        port = sites[0].port
        curl = name == "curl"
        failed.extend(failures_of_curl(tmp_path, port) if curl else failures_of(name, port))

    with contextlib.ExitStack() as stack:
        group = stack.enter_context(sprayed_sockets(3))
        sites = []
        for sock in group:
            fd = sock.fileno()
            site = Site(stage, *APPLICATION, "--fd", str(fd), fds=(fd,))
            sites.append(stack.enter_context(site))
        with Killer(sites) as killer:
            threads = [
                threading.Thread(target=work, args=(name,)) for name in [*KILLED_UNDER, "curl"]
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert killer.killed >= REQUESTS * PAUSE_S / KILL_EVERY_S - 1
    assert failed == []
