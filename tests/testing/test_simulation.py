"""Simulations: real forks, HTTP clients as they are, and the network in virtual time."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.http.apps import read_body
from trickles_web.http.scope import Receive, Scope, Send
from trickles_web.testing.clients import Clients, MakeClient
from trickles_web.testing.nursery import fork
from trickles_web.testing.world import Settings

BLOCK = bytes(range(256)) * 256


def settings(**asked: Any) -> Settings:
    told = {name: value for name, value in asked.items() if value is not None}
    return Settings(**{"replicas": 3, "loss": 0.05, "kill_every": 0, "seed": 1} | told)


@pytest.fixture
def clients() -> Iterator[Clients]:
    clients = Clients(settings)
    yield clients
    clients.close()


@pytest.fixture
def make(clients: Clients) -> MakeClient:
    return clients.make


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    assert scope["type"] == "http"
    path = scope["path"]
    body = await read_body(receive)
    if path == "/exit":
        os._exit(3)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if path == "/endless":
        for number in range(1_000_000):
            await send({"type": "http.response.body", "body": b"%d\n" % number, "more_body": True})
            await asyncio.sleep(0.01)
    if path == "/flood":
        while True:
            await send({"type": "http.response.body", "body": BLOCK, "more_body": True})
    if path == "/long":
        for _ in range(30):
            await send({"type": "http.response.body", "body": BLOCK, "more_body": True})
    if path == "/late":
        await asyncio.sleep(0.4)
    if path == "/blocking":
        time.sleep(0.4)
    await send({"type": "http.response.body", "body": body})


def test_bodies_of_any_size(make: MakeClient) -> None:
    client = make(app)
    assert client.post("/", content=BLOCK * 20).content == BLOCK * 20
    assert client.get("/long").content == BLOCK * 30
    pieces = (BLOCK[:size] for size in (1, 1000, 60_000))
    assert client.post("/", content=pieces).content == BLOCK[:1] + BLOCK[:1000] + BLOCK[:60_000]


@pytest.mark.parametrize("path", ["/endless", "/flood"])
def test_streams_without_end(make: MakeClient, path: str) -> None:
    """Whoever leaves one is free for other requests at once; what is not read is not kept."""
    client = make(app)
    with client.stream("GET", path) as response:
        taken = b""
        for piece in response.iter_raw():
            taken += piece
            if len(taken) > 20:
                break
        assert taken.startswith(b"0\n1\n" if path == "/endless" else BLOCK[:21])
        assert client.get("/").status_code == 200
    assert client.get("/").status_code == 200


@pytest.mark.parametrize("path", ["/late", "/blocking"])
def test_a_slow_application_is_waited_for(make: MakeClient, path: str) -> None:
    assert make(app).get(path).status_code == 200


def test_threads_share_a_client(make: MakeClient) -> None:
    client = make(app)
    with ThreadPoolExecutor(8) as pool:
        contents = list(pool.map(lambda n: client.post("/", content=b"%d" % n).content, range(60)))
    assert contents == [b"%d" % n for n in range(60)]


def test_wsgi(make: MakeClient) -> None:
    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [environ["PATH_INFO"].encode()]

    assert make(application).get("/somewhere").text == "/somewhere"


async def knows_its_scheme(scope: Scope, receive: Receive, send: Send) -> None:
    """Sends its client once more to itself, with a cookie for https alone."""
    headers = dict(scope["headers"])
    place = f"{scope['scheme']}://{headers[b'host'].decode()}/once-more"
    again = scope["path"] == "/once-more"
    told = [] if again else [(b"location", place.encode()), (b"set-cookie", b"a=b; Secure")]
    start = {"type": "http.response.start", "status": 200 if again else 307, "headers": told}
    await send(start)
    cookie = headers.get(b"cookie", b"")
    await send({"type": "http.response.body", "body": scope["scheme"].encode() + b" " + cookie})


@pytest.mark.parametrize(("private", "said"), [(True, "https a=b"), (False, "http ")])
def test_flows_may_be_private(clients: Clients, private: bool, said: str) -> None:
    client = clients.make(knows_its_scheme, private=private, kill_every=4)
    for _ in range(3):
        assert client.get("/", follow_redirects=True).text == said
    clients.close()
    packets = [str(one) for one in clients.simulations[0].story.packets]
    assert any("sealed" in one for one in packets) is private


def test_flows_may_be_private_in_asyncio(clients: Clients) -> None:
    async def main() -> str:
        async with clients.make_async(knows_its_scheme, private=True) as client:
            return (await client.get("/", follow_redirects=True)).text

    assert asyncio.run(main()) == "https a=b"


def test_a_process_that_ends_by_itself(clients: Clients) -> None:
    client = clients.make(app)
    response = client.post("/exit")
    assert (response.status_code, response.headers["trickles-outcome"]) == (500, "unknown")
    for _ in range(10):
        assert client.get("/").status_code == 200
    clients.close()
    story = clients.simulations[0].story
    assert "its process has ended by itself" in "".join(story.problems)
    assert story.requests[0].unknown


def test_processes_that_end_at_their_start(clients: Clients) -> None:
    """They are not started for ever."""

    async def ending(scope: Scope, receive: Receive, send: Send) -> None:
        os._exit(3)

    assert clients.make(ending).get("/").status_code == 500
    clients.close()
    story = clients.simulations[0].story
    assert "its process has ended by itself" in "".join(story.problems)


def test_a_network_that_carries_nothing(clients: Clients) -> None:
    """Ten virtual seconds without an answer are an error at once."""
    client = clients.make(app, loss=0.999999)
    began = time.monotonic()
    with pytest.raises(httpx.RemoteProtocolError):
        client.get("/")
    assert time.monotonic() - began < 9
    clients.close()
    asked = clients.simulations[0].story.requests[0]
    assert asked.replicas == []
    assert "no answer" in asked.error


KILLED = """
import os, signal, sys
from trickles_web.testing.simulation import Simulation
from trickles_web.testing.world import Settings
from tests.testing.test_simulation import app

simulation = Simulation(app, Settings(2, 0.0, 0, 1))
print(simulation.path, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_nothing_outlives_a_test_that_is_killed() -> None:
    """Its processes hold the pipe that its output goes to: that ends with the last of them."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.endswith("/http\n"), done.stderr
    assert done.returncode == -9
    assert not os.path.exists(os.path.dirname(done.stdout))


def test_a_child_never_comes_back() -> None:
    def failing() -> None:
        raise SystemExit("not here")

    _, status = os.waitpid(fork(failing), 0)
    assert os.waitstatus_to_exitcode(status) == 1
