"""FastAPI, as its documentation shows it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Annotated

from fastapi import BackgroundTasks, FastAPI, Form, Request, Response
from fastapi.responses import PlainTextResponse, StreamingResponse

app = FastAPI()


@app.middleware("http")
async def passing(
    request: Request, call_next: Callable[[Request], Awaitable[Response]]
) -> Response:
    response = await call_next(request)
    response.headers["x-passed"] = "yes"
    return response


@app.get("/", response_class=PlainTextResponse)
async def hello() -> str:
    return "hello"


@app.post("/form", response_class=PlainTextResponse)
async def form(name: Annotated[str, Form()], text: Annotated[str, Form()]) -> str:
    return f"{name} sent {len(text)}"


@app.get("/background", response_class=PlainTextResponse)
async def background(mark: Path, tasks: BackgroundTasks) -> str:
    tasks.add_task(mark.touch)
    return "later"


@app.get("/slow", response_class=PlainTextResponse)
async def slow(response: Response) -> str:
    try:
        async with asyncio.timeout(0.01):
            await asyncio.Event().wait()
    except TimeoutError:
        response.status_code = 504
    return "too slow"


async def numbers() -> AsyncIterator[bytes]:
    for number in range(300):
        await asyncio.sleep(0)
        yield b"%d\n" % number


@app.get("/stream")
async def stream() -> StreamingResponse:
    return StreamingResponse(numbers(), media_type="text/plain")


@app.get("/sync", response_class=PlainTextResponse)
def sync() -> str:
    return "from a thread"


@app.get("/broken")
async def broken() -> None:
    raise LookupError("a broken route")
