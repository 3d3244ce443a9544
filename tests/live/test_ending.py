"""A server that is told to end: what runs comes to its end, and only then the server."""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.live.stage import TRANSFER_S, Stage, command
from tests.net.processes import Running

APP = """
import asyncio

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    kind = scope["path"][1:]
    if kind == "slow":
        print("began", flush=True)
        await asyncio.sleep(1.5)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if kind == "stream":
        print("began", flush=True)
        for _ in range(15):
            await send({"type": "http.response.body", "body": b"x" * 1000, "more_body": True})
            await asyncio.sleep(0.1)
    await send({"type": "http.response.body", "body": b"done"})
    if kind == "background":
        print("began", flush=True)
        await asyncio.sleep(1)
        print("ended", flush=True)
"""


@contextlib.contextmanager
def serving(stage: Stage, *options: str) -> Iterator[tuple[Running, str]]:
    """The server, and where its gateway listens."""
    (stage.directory / "ending.py").write_text(APP)
    words = ("ending:app", "--port", "0", "--gateway", "127.0.0.1:0", *options)
    with stage.serving(*words, "--lifespan", "off") as server:
        yield server, server.says(r"and http://(\S+) \(Press")[1]


@contextlib.contextmanager
def asking(
    server: Running, address: str, kind: str, *options: str
) -> Iterator[subprocess.Popen[bytes]]:
    """curl, when the application has begun."""
    pipe = subprocess.PIPE
    words = command("curl", f"{address}/{kind}", *options)
    with subprocess.Popen(words, stdout=pipe, stderr=pipe) as process:
        try:
            server.until(lambda: "began" in server.stdout)
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("kind", ["slow", "stream"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_runs_comes_to_its_end(method: str, kind: str, workers: str, stage: Stage) -> None:
    with (
        serving(stage, "--workers", workers) as (server, address),
        asking(server, address, kind, "-X", method) as client,
    ):
        assert server.end() == 0
        out, complaints = client.communicate(timeout=TRANSFER_S)
        assert (client.returncode, out[-4:], complaints) == (0, b"done", b"")
        assert re.search(r"Waiting for 1 calls? to complete", server.stderr)
        assert f'"{method} /{kind} HTTP/1.1" 200' in server.stdout + server.stderr
        assert "Traceback" not in server.stderr


def test_so_does_what_goes_on_after_the_response(stage: Stage) -> None:
    with (
        serving(stage) as (server, address),
        asking(server, address, "background") as client,
    ):
        assert client.communicate(timeout=TRANSFER_S)[0] == b"done"
        assert server.end() == 0
        assert "ended" in server.stdout


def test_but_not_for_longer_than_it_was_told(stage: Stage) -> None:
    with (
        serving(stage, "--timeout-graceful-shutdown", "0") as (server, address),
        asking(server, address, "slow") as client,
    ):
        assert server.end() == 0
        client.communicate(timeout=TRANSFER_S)
        assert client.returncode != 0
        assert "timeout graceful shutdown exceeded" in server.stderr
