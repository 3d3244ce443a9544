"""Starlette, as its documentation shows it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route


class Passing(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        response.headers["x-passed"] = "yes"
        return response


async def hello(request: Request) -> Response:
    return PlainTextResponse("hello")


async def form(request: Request) -> Response:
    async with request.form() as fields:
        return PlainTextResponse(f"{fields['name']} sent {len(str(fields['text']))}")


async def background(request: Request) -> Response:
    mark = Path(request.query_params["mark"])
    return PlainTextResponse("later", background=BackgroundTask(mark.touch))


async def slow(request: Request) -> Response:
    try:
        async with asyncio.timeout(0.01):
            await asyncio.Event().wait()
    except TimeoutError:
        return PlainTextResponse("too slow", 504)
    raise AssertionError("waited for nothing, and it came")


async def numbers() -> AsyncIterator[bytes]:
    for number in range(300):
        await asyncio.sleep(0)
        yield b"%d\n" % number


async def stream(request: Request) -> Response:
    return StreamingResponse(numbers(), media_type="text/plain")


def sync(request: Request) -> Response:
    return PlainTextResponse("from a thread")


async def broken(request: Request) -> Response:
    raise LookupError("a broken route")


app = Starlette(
    routes=[
        Route("/", hello),
        Route("/form", form, methods=["POST"]),
        Route("/background", background),
        Route("/slow", slow),
        Route("/stream", stream),
        Route("/sync", sync),
        Route("/broken", broken),
    ],
    middleware=[Middleware(Passing)],
)
