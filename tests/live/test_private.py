"""Private flows with real processes: what a capture shows, and what kills and new secrets do."""

from __future__ import annotations

import asyncio
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from loadtest import downloads, failover, kind, mixture, rolling, rotating
from loadtest.failover import Servers
from loadtest.processes import PATIENCE_S
from loadtest.processes import Stage as LoadStage
from loadtest.supervised import supervised
from tests.live.stage import Site, Stage, is_root, until
from tests.sim.captured import WINDOW, shown
from trickles_web.client import open_connection
from trickles_web.client.tokens import TokenStore
from trickles_web.config import ClientConfig, Trust

pytestmark = [pytest.mark.live, pytest.mark.xdist_group("live private")]

needs_tcpdump = pytest.mark.skipif(
    not is_root() or shutil.which("tcpdump") is None, reason="needs root, and tcpdump"
)

ECHO = """
async def app(scope, receive, send):
    assert scope["type"] == "http"
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message["body"], message["more_body"]
    answer = body[::-1] + scope["scheme"].encode()
    headers = [(b"set-cookie", b"csrf=c9f0f895fb98ab9159f51fd0297e236d; HttpOnly")]
    headers.append((b"content-length", str(len(answer)).encode()))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})
"""
OLD, NEW = "0a" * 32, "1b" * 32
BODY = random.Random(1).randbytes(15_000).hex().encode()
REQUEST = (
    b"POST /accounts/4711?name=Dr.+Faustus HTTP/1.1\r\nHost: bank.example\r\n"
    b"Authorization: Bearer eyJhbGciOiJFZERTQSJ9.c2VjcmV0.0123456789\r\n"
    b"Cookie: session=8f14e45fceea167a5a36dedd4bea2543\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n" % len(BODY)
) + BODY


async def exchange(port: int, config: ClientConfig) -> bytes:
    tokens = TokenStore(None)
    reader, writer = await open_connection("127.0.0.1", port, config=config, tokens=tokens)
    writer.write(REQUEST)
    answer = await reader.read()
    writer.close()
    return answer


def captured(port: int, config: ClientConfig, file: Path) -> tuple[bytes, bytes]:
    """What tcpdump sees of an exchange on the loopback, and the answer."""
    words = ("tcpdump", "-i", "lo", "-U", "-B", "32768", "-w", str(file), "udp", "port", str(port))
    with subprocess.Popen(words, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        try:
            line = process.stderr.readline()
            assert b"listening on" in line, line
            answer = asyncio.run(exchange(port, config))
            until(lambda: file.stat().st_size > len(REQUEST) + len(answer), "the capture")
        finally:
            process.terminate()
    return file.read_bytes(), answer


@needs_tcpdump
def test_a_capture_shows_no_byte_of_request_or_response(stage: Stage, tmp_path: Path) -> None:
    """And of the same in clear, all of both."""
    (stage.directory / "echo.py").write_text(ECHO)
    with Site(stage, "echo:app", "--port", "0", "--lifespan", "off") as site:
        pin = site.running.says(r"sha256//\S{44}")[0]
        private = ClientConfig(private=Trust(pin=pin))
        seen, answer = captured(site.port, private, tmp_path / "private.pcap")
        assert answer.endswith(BODY[::-1] + b"https")
        assert not shown([seen], REQUEST + answer)
        seen, answer = captured(site.port, ClientConfig(), tmp_path / "clear.pcap")
        assert answer.endswith(BODY[::-1] + b"http")
        assert len(shown([seen], REQUEST)) > 0.99 * (len(REQUEST) - WINDOW)
        assert len(shown([seen], answer)) > 0.99 * (len(answer) - WINDOW)
        site.end()


@pytest.fixture
def private(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scenarios of `loadtest`, as with --private."""
    monkeypatch.setenv(kind.VARIABLE, "1")


def test_a_download_survives_a_kill_wherever_its_datagrams_go(
    private: None, site_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any of three workers opens any of them; `python -m loadtest failover --private`."""
    monkeypatch.setenv("SITE_CACHE_DIR", str(site_cache))
    with LoadStage() as stage:
        port, workers = supervised(stage, failover.APP, 3, "--steering", "random")
        [reading] = failover.stalls(Servers("3", port, workers), 10, 1)
    assert reading.error == ""
    assert reading.digest == downloads.expected_sha256(10)
    assert reading.probe_timeout, "nobody was killed"


def test_the_secret_is_replaced_under_load(private: None) -> None:
    """With it go the keys to which HELLOs are sealed; `python -m loadtest rotating --private`."""
    with LoadStage() as stage:
        file = stage.directory / "secret"
        words = ("--workers=2", f"--secret-file={rotating._write(file, OLD)}")
        server = rolling.trickles(stage, *words)
        asyncio.run(rotated(server, file))
        server.master.end()


async def rotated(server: rolling.Server, file: Path) -> None:
    """GETs on flows of their own for as long as it takes to replace the secret."""

    async def rotate() -> None:
        for texts in ((OLD, NEW), (NEW, OLD), (NEW,)):
            rotating._write(file, *texts)
            await server.restart()

    async with asyncio.timeout(PATIENCE_S):
        rotation = asyncio.create_task(rotate())
        while not rotation.done():
            await get(server)
        await rotation
        await get(server)


async def get(server: rolling.Server) -> None:
    reader, writer = await server.connect(server.port)
    request = b"GET /bytes/7/1000 HTTP/1.1\r\nHost: test\r\n\r\n"
    status, body = await rolling.exchange(reader, writer, request)
    assert (status, body) == (200, mixture.content(7, 1000))
    writer.close()
