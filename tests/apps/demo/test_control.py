"""The control server's endpoints, in-process, with real processes to kill."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from apps.demo.control import PAGE, Control, File
from apps.demo.halves import Half
from apps.demo.processes import Process, start_all
from apps.demo.sprayer import Count

PORT = 8090
OURS = f"http://127.0.0.1:{PORT}"
FILE = File("/files/1.bin", 1_000_000, "digest")
SERVES = ["sh", "-c", "echo ready; exec sleep 100"]


@pytest.fixture
def half(tmp_path: Path) -> Iterator[Half]:
    front, *replicas = [Process(f"{n}", SERVES, tmp_path, "ready") for n in range(4)]
    yield Half(front, 8091, replicas, [1, 2, 3])
    for process in replicas:
        process.end()


def ask(half: Half, method: str, path: str, **headers: str) -> httpx.Response:
    """One request, to the page's own address unless there is another Host."""

    async def exchange() -> httpx.Response:
        counts = [Count(asked=5, answered=7), Count(), Count()]
        control = Control({"trickles": half}, counts, FILE, ending=lambda: True)
        transport = httpx.ASGITransport(app=control.application(PORT))
        async with httpx.AsyncClient(transport=transport, base_url=OURS) as client:
            return await client.request(method, path, headers=headers)

    return asyncio.run(exchange())


def states(half: Half) -> list[str]:
    return [process.state for process in half.replicas]


def test_kill_and_start(half: Half) -> None:
    asyncio.run(start_all(half.replicas))
    response = ask(half, "POST", "/trickles/2/kill", origin=OURS)
    assert response.status_code == 200
    assert [one["state"] for one in response.json()["replicas"]["trickles"]] == [
        "serving",
        "dead",
        "serving",
    ]
    ask(half, "POST", "/trickles/all/kill", origin=OURS)
    assert states(half) == ["dead"] * 3
    ask(half, "POST", "/trickles/3/start", origin=OURS)
    assert states(half)[:2] == ["dead"] * 2
    assert half.replicas[2].pid is not None


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "null"},
        {"origin": "http://elsewhere.test"},
        {"origin": f"https://127.0.0.1:{PORT}"},
        {"origin": "http://127.0.0.1:8091"},
        {"origin": f"http://localhost:{PORT}"},
        {"origin": f"http://elsewhere.test:{PORT}", "host": f"elsewhere.test:{PORT}"},
        {"origin": OURS, "host": f"elsewhere.test:{PORT}"},
        {"origin": OURS, "host": "127.0.0.1"},
    ],
    ids=str,
)
def test_nobody_else_kills(half: Half, headers: dict[str, str]) -> None:
    half.replicas[0].start()
    assert ask(half, "POST", "/trickles/1/kill", **headers).status_code == 403
    assert half.replicas[0].pid is not None


@pytest.mark.parametrize("path", ["/", "/setting", "/live", "/main.js"])
def test_nobody_else_reads(half: Half, path: str) -> None:
    assert ask(half, "GET", path).status_code == 200
    assert ask(half, "GET", path, host=f"localhost:{PORT}").status_code == 200
    assert ask(half, "GET", path, host=f"elsewhere.test:{PORT}").status_code == 403
    assert ask(half, "GET", path, origin="http://elsewhere.test").status_code == 403


@pytest.mark.parametrize(
    "path", ["/trickles/4/kill", "/trickles/0/kill", "/uvicorn/1/kill", "/trickles/1/stop"]
)
def test_what_there_is_not(half: Half, path: str) -> None:
    half.replicas[0].start()
    assert ask(half, "POST", path, origin=OURS).status_code == 404
    assert half.replicas[0].pid is not None


def test_a_kill_is_a_post(half: Half) -> None:
    half.replicas[0].start()
    assert ask(half, "GET", "/trickles/1/kill").status_code == 404
    assert half.replicas[0].pid is not None


def test_setting(half: Half) -> None:
    told = ask(half, "GET", "/setting").json()
    upstreams = ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"]
    assert told == {
        "halves": {"trickles": {"base": "http://127.0.0.1:8091", "upstreams": upstreams}},
        "file": {"path": "/files/1.bin", "bytes": 1_000_000, "sha256": "digest"},
    }


def test_a_look(half: Half) -> None:
    control = Control({"trickles": half}, [Count(asked=5, answered=7)], FILE, ending=lambda: True)
    look = json.loads(json.dumps(control.look()))
    assert (look["asked"], look["answered"]) == ([5], [7])
    assert look["replicas"] == {"trickles": [{"pid": None, "state": "dead"}] * 3}


def test_the_page_needs_nothing_from_elsewhere(half: Half) -> None:
    response = ask(half, "GET", "/")
    policy = "default-src 'self'; connect-src 'self' http://127.0.0.1:8091"
    assert response.headers["content-security-policy"] == policy
    named = re.findall(r'(?:src|href)="([^"]+)"', response.text)
    assert len(named) == 4
    for name in [*named, "chart.js", "half.js", "transfers.js"]:
        assert ask(half, "GET", f"/{name}").status_code == 200
    for file in PAGE.iterdir():
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", file.read_text())
