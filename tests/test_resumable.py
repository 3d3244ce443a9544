"""The helper for streams that outlive their process: by itself, in Starlette, behind others."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import Response
from starlette.routing import Route

from tests.documents import example
from tests.http.apps import get
from tests.http.peer import body_of
from tests.http.test_shared import Group
from trickles_web.resumable import Chunks, resumable_stream

COUNT = 300


@resumable_stream("text/plain", [(b"x-more", b"yes")])
async def numbers(scope: Any, state: bytes | None) -> Chunks:
    for number in range(int(state or 0), COUNT):
        yield f"{number}\n", str(number + 1) if number % 3 == 0 else None
        await asyncio.sleep(0)


WHOLE = b"".join(b"%d\n" % number for number in range(COUNT))


async def untouched(request: Any, following: Any) -> Response:
    response: Response = await following(request)
    return response


def routed(*middleware: Middleware) -> Starlette:
    return Starlette(routes=[Route("/", endpoint=numbers)], middleware=middleware)


@pytest.mark.parametrize(
    "app",
    [numbers, routed(), routed(Middleware(GZipMiddleware))],
    ids=["itself", "a route", "behind a middleware"],
)
@pytest.mark.parametrize("seed", range(4))
def test_it_goes_on_after_deaths(tmp_path: Path, app: Any, seed: int) -> None:
    random = Random(seed)

    async def main() -> int:
        group = Group(app, tmp_path / "run")
        deaths = 0

        async def disturb() -> None:
            nonlocal deaths
            group.clock.ms += 100
            owners = [site for site in group.sites if site.service.runner.calls.runs]
            if owners and random.random() < 0.2:
                await group.kill(owners[0])
                deaths += 1

        async with group:
            peer = group.peer(lambda: random.choice(group.sites))
            peer.piece = lambda: 100
            answer = await peer.exchange(get("/"), between=disturb)
            assert b"\r\nx-more: yes\r\n" in answer
            assert body_of(answer) == WHOLE
        return deaths

    assert asyncio.run(main()) >= 1


def test_what_makes_its_own_messages_has_an_ordinary_stream(tmp_path: Path) -> None:
    app = routed(Middleware(BaseHTTPMiddleware, dispatch=untouched))

    async def main() -> None:
        group = Group(app, tmp_path / "run")
        async with group:
            peer = group.peer(lambda: group.sites[0])
            peer.piece = lambda: 100
            assert body_of(await peer.exchange(get("/"))) == WHOLE
            assert peer.note is None

    asyncio.run(main())


def test_a_server_without_checkpoints() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError

    asyncio.run(numbers({"type": "http"}, receive, send))
    assert b"".join(message.get("body", b"") for message in sent) == WHOLE
    with pytest.raises(NotImplementedError, match="websocket"):
        asyncio.run(numbers({"type": "websocket"}, receive, send))


def test_the_example_of_the_documentation() -> None:
    code = example("from trickles_web.resumable import resumable_stream")
    names: dict[str, Any] = {}
    exec(compile(code, "docs", "exec"), names)
    sent: list[Any] = []

    class Enough(Exception):
        pass

    async def send(message: Any) -> None:
        sent.append(message)
        if len(sent) == 4:
            raise Enough

    async def receive() -> Any:
        raise AssertionError

    extensions = {"trickles.checkpoint": {"state": b"41"}}
    with pytest.raises(Enough):
        asyncio.run(names["app"]({"type": "http", "extensions": extensions}, receive, send))
    assert [message["body"] for message in sent[1:]] == [
        b"",
        b"id: 41\ndata: 41\n\n",
        b"id: 42\ndata: 42\n\n",
    ]
    assert [message["trickles.checkpoint"] for message in sent[1:]] == [b"41", b"42", b"43"]
