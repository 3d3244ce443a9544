"""What is answered while it is asked, by real processes: WebSockets with a client library as
everyone uses it, 100 Continue with curl, and conversations over one POST."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
import shutil
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.live.stage import Stage, run
from tests.net.processes import Running

pytestmark = [pytest.mark.live, pytest.mark.xdist_group("live open requests")]

APP = """
import asyncio, contextlib, os
from fastapi import FastAPI, WebSocket as FastWebSocket
from starlette.applications import Starlette
from starlette.endpoints import WebSocketEndpoint
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocketDisconnect

async def echo(websocket):
    await websocket.accept()
    await websocket.send_text(str(os.getpid()))
    while (message := await websocket.receive())["type"] == "websocket.receive":
        if message.get("text") is not None:
            await websocket.send_text(message["text"])
        else:
            await websocket.send_bytes(message["bytes"])

async def talks(websocket):
    await websocket.accept()
    await websocket.send_text(str(os.getpid()))
    with contextlib.suppress(WebSocketDisconnect):
        while True:
            await websocket.send_bytes(bytes(1000))
            await asyncio.sleep(0.001)

async def closes(websocket):
    await websocket.accept()
    await websocket.close(4001, "enough")

class Endpoint(WebSocketEndpoint):
    encoding = "json"
    async def on_connect(self, websocket):
        await websocket.accept(subprotocol=websocket.scope["subprotocols"][0])
    async def on_receive(self, websocket, data):
        await websocket.send_json({"got": data, "from": websocket.path_params["name"]})

fast = FastAPI()

@fast.websocket("/sum")
async def sum_of(websocket: FastWebSocket, start: int = 0):
    await websocket.accept()
    async for number in websocket.iter_text():
        start += int(number)
        await websocket.send_json(start)

async def length(request: Request):
    return PlainTextResponse(str(len(await request.body())))

site = Starlette(routes=[
    WebSocketRoute("/echo", echo),
    WebSocketRoute("/talks", talks),
    WebSocketRoute("/closes", closes),
    WebSocketRoute("/endpoint/{name}", Endpoint),
    Route("/length", length, methods=["POST"]),
    Mount("/fast", fast),
])

async def app(scope, receive, send):
    if scope.get("path") != "/duplex":
        return await site(scope, receive, send)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return
        more = message["more_body"]
        body = message["body"].upper()
        await send({"type": "http.response.body", "body": body, "more_body": more})
"""

KILLED_WITHIN_S = 15.0
"""Of its owner a client must hear the death by then."""

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")


@dataclass
class Place:
    server: Running
    port: int

    def talking(
        self, path: str, story: Callable[[ClientConnection], Awaitable[None]], **options: object
    ) -> None:
        """Run a story with a WebSocket; the library sends nothing of its own accord."""

        async def main() -> None:
            settings = {"ping_interval": None, "max_size": None, "proxy": None} | options
            address = f"ws://127.0.0.1:{self.port}{path}"
            async with asyncio.timeout(20), connect(address, **settings) as client:  # type: ignore[arg-type]
                await story(client)

        asyncio.run(main())


@contextlib.contextmanager
def place(stage: Stage, *more: str) -> Iterator[Place]:
    """Two workers, of which any gets any datagram, behind a gateway."""
    (stage.directory / "conversing.py").write_text(APP)
    arguments = ("conversing:app", "--port", "0", "--gateway", "127.0.0.1:0", "--workers", "2")
    with stage.serving(*arguments, "--steering", "random", *more) as server:
        server.port()
        yield Place(server, int(server.says(r"and http://127\.0\.0\.1:(\d+) \(Press")[1]))
        if server.process.poll() is None:
            assert server.end() == 0
        assert "Traceback" not in server.stderr


async def goodbye(client: ClientConnection) -> tuple[int | None, str | None]:
    """Code and reason, once the server has said so or is gone."""
    with pytest.raises(ConnectionClosed):
        while True:
            await client.recv()
    return client.close_code, client.close_reason


async def closed(client: ClientConnection) -> None:
    """By the server, for reasons of its own."""
    assert await goodbye(client) == (4001, "enough")


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_messages(stage: Stage, compression: str | None) -> None:
    large = random.Random(1).randbytes(3_000_000)

    async def story(client: ClientConnection) -> None:
        await client.recv()
        for number in range(200):
            message: str | bytes = f"message {number}" if number % 2 else b"%d" % number
            await client.send(message)
            assert await client.recv() == message
        await client.send(large)
        assert await client.recv() == large
        latency = await (await client.ping())
        assert latency >= 0
        await client.close(4000, "done")
        assert (client.close_code, client.close_reason) == (4000, "done")

    with place(stage) as here:
        here.talking("/echo", story, compression=compression)


def test_frameworks_and_how_it_ends(stage: Stage) -> None:
    async def starlette(client: ClientConnection) -> None:
        assert client.subprotocol == "chat"
        await client.send('{"a": [1]}')
        assert await client.recv() == '{"got":{"a":[1]},"from":"someone"}'
        await client.close()

    async def fastapi(client: ClientConnection) -> None:
        for number, expected in (("1", "41"), ("2", "43")):
            await client.send(number)
            assert await client.recv() == expected

    with place(stage) as here:
        here.talking("/closes", closed)
        here.talking("/endpoint/someone", starlette, subprotocols=["chat"])
        here.talking("/fast/sum?start=40", fastapi)


@pytest.mark.parametrize("path", ["/echo", "/talks"], ids=["idle", "busy"])
def test_the_death_of_its_process_ends_a_websocket(
    stage: Stage, path: str, record_property: Callable[[str, object], None]
) -> None:
    """As a connection that breaks, and soon; the client never waits for ever."""

    async def story(client: ClientConnection) -> None:
        pid = int(await client.recv())
        await asyncio.sleep(0.5)  # until nothing but the wait for more is under way
        os.kill(pid, signal.SIGKILL)
        before = time.monotonic()
        assert await goodbye(client) == (1006, "")
        took = time.monotonic() - before
        record_property("seconds", took)
        assert took < KILLED_WITHIN_S

    with place(stage) as here:
        here.talking(path, story)
        here.talking("/closes", closed)


@pytest.mark.parametrize("path", ["/echo", "/talks"], ids=["idle", "busy"])
def test_a_server_that_ends_says_so(stage: Stage, path: str) -> None:
    async def story(client: ClientConnection) -> None:
        await client.recv()
        here.server.process.terminate()
        assert await goodbye(client) == (1012, "")
        assert await asyncio.to_thread(here.server.process.wait, 30) == 0

    with place(stage) as here:
        here.talking(path, story)


@needs_curl
@pytest.mark.parametrize("buffering", ["--request-buffering", "--no-request-buffering"])
def test_curl_is_told_to_go_on(stage: Stage, tmp_path: Path, buffering: str) -> None:
    """It does not come to the end of its patience, which is long here."""
    (tmp_path / "body").write_bytes(os.urandom(2_000_000))
    body = ("--data-binary", f"@{tmp_path / 'body'}", "-H", "Expect: 100-continue")
    with place(stage, buffering) as here:
        done = run(
            *("curl", f"127.0.0.1:{here.port}/length"),
            *("--expect100-timeout", "60", "-v", "--fail", *body),
        )
    assert (done.returncode, done.stdout) == (0, b"2000000"), done.stderr
    lines = done.stderr.decode().splitlines()
    assert lines.index("< HTTP/1.1 100 Continue") < lines.index("< HTTP/1.1 200 OK")
    assert not any("Done waiting" in line for line in lines)


def test_a_conversation_over_one_post(stage: Stage) -> None:
    """Each part is answered before the next is sent; then the connection is used again."""
    with place(stage, "--no-request-buffering") as here:
        address = ("127.0.0.1", here.port)
        with socket.create_connection(address, timeout=30) as client, client.makefile("rb") as file:
            for _ in range(2):
                client.sendall(
                    b"POST /duplex HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                )
                assert file.readline() == b"HTTP/1.1 200 OK\r\n"
                while file.readline() != b"\r\n":
                    pass
                for number in range(50):
                    part = b"part %d" % number
                    client.sendall(b"%x\r\n%b\r\n" % (len(part), part))
                    answer = b"%x\r\n%b\r\n" % (len(part), part.upper())
                    assert file.read(len(answer)) == answer
                client.sendall(b"0\r\n\r\n")
                assert file.read(5) == b"0\r\n\r\n"


@pytest.mark.parametrize("whole", [True, False])
def test_an_upload_behind_which_its_client_closes(stage: Stage, whole: bool) -> None:
    """A whole one is answered; from another one the client has gone, long before it is silent."""
    body = os.urandom(100_000).hex().encode()
    head = b"POST /duplex HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    with place(stage, "--no-request-buffering") as here:
        address = ("127.0.0.1", here.port)
        with socket.create_connection(address, timeout=30) as client, client.makefile("rb") as file:
            client.sendall(head % (len(body) + (not whole)) + body[:10])
            assert file.readline() == b"HTTP/1.1 200 OK\r\n"  # it is open
            client.sendall(body[10:])
            client.shutdown(socket.SHUT_WR)
            assert file.read().endswith(b"\r\n0\r\n\r\n") is whole


@needs_curl
def test_a_large_body_passes_through(stage: Stage, tmp_path: Path) -> None:
    body = os.urandom(2_000_000).hex().encode()
    (tmp_path / "body").write_bytes(body)
    with place(stage, "--no-request-buffering") as here:
        done = run(
            *("curl", f"127.0.0.1:{here.port}/duplex", "--fail"),
            *("--data-binary", f"@{tmp_path / 'body'}"),
        )
    assert (done.returncode, done.stderr) == (0, b"")
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(body.upper()).digest()
