"""The plain application, called as a server calls it."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from apps.hello import app


def run(scope: dict[str, Any], *incoming: dict[str, Any]) -> list[Any]:
    """Calls the application with these messages; returns what it sent."""
    messages = iter(incoming)
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return sent


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_hello(method: str) -> None:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, "/any/path?at=all")

    response = asyncio.run(ask())
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert response.headers["content-length"] == str(len(response.content))
    assert response.content == b"Hello, world!\n"


def test_lifespan() -> None:
    sent = run({"type": "lifespan"}, {"type": "lifespan.startup"}, {"type": "lifespan.shutdown"})
    assert [message["type"] for message in sent] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]


def test_websocket_is_turned_away() -> None:
    sent = run({"type": "websocket"}, {"type": "websocket.connect"})
    assert sent == [{"type": "websocket.close", "code": 1008}]


def test_unknown_scope_type_is_an_error() -> None:
    with pytest.raises(NotImplementedError, match="carrier-pigeon"):
        run({"type": "carrier-pigeon"})
