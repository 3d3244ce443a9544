"""Uploads, broken responses and keep-alive connections over real sockets."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from tests.live.stage import SITE, Site, Stage, run, tcp, until
from trickles_web.client import open_connection
from trickles_web.client.tokens import TokenStore
from trickles_web.client.transport import FlowTransport

pytestmark = [pytest.mark.live, pytest.mark.xdist_group("live requests")]

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")

UPLOAD_BYTES = 5_000_000
PART = b"the first half"
BROKEN = f"""
import asyncio
async def app(scope, receive, send):
    assert scope["type"] == "http"
    headers = [(b"content-length", b"1000")] if scope["path"] != "/chunked" else []
    await send({{"type": "http.response.start", "status": 200, "headers": headers}})
    await send({{"type": "http.response.body", "body": {PART!r}, "more_body": True}})
    if scope["path"] == "/waits":
        await asyncio.sleep(1000)
    await asyncio.sleep(0.05)  # so that the part leaves before the end is known
    raise RuntimeError("half-way")
"""
ONCE = """
import asyncio
async def app(scope, receive, send):
    with open(%r, "a") as file:
        file.write("once\\n")
    await asyncio.sleep(1000)
"""
BREAKS = ["/length", "/chunked"]


async def exchange(port: int, request: bytes) -> bytes:
    reader, writer = await open_connection("127.0.0.1", port, tokens=TokenStore(None))
    writer.write(request)
    answer = await reader.read()
    writer.close()
    return answer


def post(body: bytes) -> bytes:
    head = f"POST /upload HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


def test_an_upload_by_the_client(stage: Stage) -> None:
    body = os.urandom(UPLOAD_BYTES)
    with Site(stage, SITE, "--port", "0") as site:
        answer = asyncio.run(asyncio.wait_for(exchange(site.port, post(body)), 60))
        site.end()
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert hashlib.sha256(body).hexdigest().encode() in answer


@needs_curl
def test_an_upload_by_curl_through_the_gateway(stage: Stage, tmp_path: Path) -> None:
    body = os.urandom(UPLOAD_BYTES)
    (tmp_path / "body").write_bytes(body)
    with Site(stage, SITE, "--port", "0") as site, stage.gateway(site.port) as port:
        done = run(
            "curl", f"127.0.0.1:{port}/upload", "--data-binary", f"@{tmp_path / 'body'}", "--fail"
        )
        site.end()
    assert (done.returncode, done.stderr) == (0, b"")
    assert hashlib.sha256(body).hexdigest().encode() in done.stdout


def read_to_reset(connection: socket.socket) -> bytes:
    """What arrives before the reset; an end in order fails the test."""
    got = b""
    while True:
        try:
            data = connection.recv(65_536)
        except ConnectionResetError:
            return got
        assert data, f"ended in order after {got!r}"
        got += data


@pytest.fixture
def broken(stage: Stage) -> Site:
    (stage.directory / "broken.py").write_text(BROKEN)
    return Site(stage, "broken:app", "--port", "0", "--lifespan", "off")


@pytest.mark.parametrize("path", BREAKS)
def test_a_response_that_breaks_off_is_a_reset_at_the_gateway(
    stage: Stage, broken: Site, path: str
) -> None:
    with broken, stage.gateway(broken.port) as port, tcp(port) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert PART in read_to_reset(connection)


@needs_curl
@pytest.mark.parametrize("path", BREAKS)
def test_a_response_that_breaks_off_is_an_error_of_curl(
    stage: Stage, broken: Site, path: str
) -> None:
    with broken, stage.gateway(broken.port) as port:
        done = run("curl", f"127.0.0.1:{port}{path}")
    assert done.returncode == 56, done.stderr
    assert done.stdout == PART


@pytest.mark.parametrize("path", BREAKS)
def test_a_response_that_breaks_off_is_an_error_of_trickles_get(broken: Site, path: str) -> None:
    with broken:
        done = run("trickles-get", f"127.0.0.1:{broken.port}{path}")
    assert done.returncode in (18, 56), done.stderr
    assert done.stdout == PART
    assert done.stderr.count(b"\n") == 1


def test_a_dynamic_response_does_not_outlive_its_process(stage: Stage, broken: Site) -> None:
    """Its bytes are gone, and the next process could only invent others: an error, and soon."""

    async def main() -> None:
        reader, writer = await open_connection("127.0.0.1", broken.port, tokens=TokenStore(None))
        writer.write(b"GET /waits HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(PART)
        await asyncio.to_thread(broken.restart)
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()

    with broken:
        asyncio.run(asyncio.wait_for(main(), 60))


def test_a_post_whose_process_is_killed_runs_once_and_its_client_is_told(stage: Stage) -> None:
    ran = stage.directory / "ran"
    (stage.directory / "once.py").write_text(ONCE % str(ran))

    async def main() -> None:
        reader, writer = await open_connection("127.0.0.1", site.port, tokens=TokenStore(None))
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab")
        await asyncio.to_thread(until, lambda: ran.exists() and ran.read_text() == "once\n")
        await asyncio.to_thread(site.restart)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 500 ")
        assert b"\r\ntrickles-outcome: unknown\r\n" in head
        writer.close()

    with Site(stage, "once:app", "--port", "0", "--lifespan", "off") as site:
        asyncio.run(asyncio.wait_for(main(), 60))
        site.end()
    assert ran.read_text() == "once\n"


def answer_of(connection: socket.socket) -> bytes:
    """The body of a response with a Content-Length."""
    with connection.makefile("rb") as file:
        assert file.readline() == b"HTTP/1.1 200 OK\r\n"
        length = 0
        while line := file.readline().strip():
            name, _, value = line.lower().partition(b":")
            length = int(value) if name == b"content-length" else length
        return file.read(length)


def test_a_restart_is_not_seen_by_a_connection_that_is_kept_open(stage: Stage) -> None:
    with Site(stage, "apps.hello:app", "--port", "0") as site:
        with stage.gateway(site.port) as port, tcp(port) as connection:
            for restarts in range(3):
                if restarts:
                    site.restart()
                connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                assert answer_of(connection) == b"Hello, world!\n"
        site.end()


def uvloop_loop() -> asyncio.AbstractEventLoop:
    uvloop = pytest.importorskip("uvloop")
    return uvloop.new_event_loop()  # type: ignore[no-any-return]


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop_loop], ids=["asyncio", "uvloop"])
def test_a_flow_hears_a_server_that_was_absent(
    stage: Stage, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """While nobody has the port, each request of the client comes back as an error of its socket.

    Several, so that the client has changed its port as well: that one must be listened to, too.
    """
    request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"

    async def main() -> None:
        reader, writer = await open_connection("127.0.0.1", site.port, tokens=TokenStore(None))
        stats = cast(FlowTransport, writer.transport).flow.stats
        writer.write(request)
        await reader.readuntil(b"Hello, world!\n")
        site.kill()
        writer.write(request)
        before = stats.datagrams_out
        while stats.datagrams_out < before + 5:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(site.restart)
        await reader.readuntil(b"Hello, world!\n")
        writer.close()

    with (
        Site(stage, "apps.hello:app", "--port", "0") as site,
        asyncio.Runner(loop_factory=loop) as runner,
    ):
        runner.run(asyncio.wait_for(main(), 30))
