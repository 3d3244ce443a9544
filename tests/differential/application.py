"""A Starlette application that shows all that a server tells it, and answers in many ways."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Mount, Route

SECRET = "of a test"
EVERY_METHOD = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY"]
LARGE = random.Random(5).randbytes(300_000).hex()


def shown(value: object) -> Any:
    """A value of a scope, as JSON can say it."""
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, list | tuple):
        return [shown(item) for item in value]
    return value


async def echo(request: Request) -> Response:
    body = await request.body()
    scope = request.scope
    names = (
        *("type", "asgi", "http_version", "scheme", "method", "path", "raw_path"),
        *("query_string", "root_path", "headers"),
    )
    told = {name: shown(scope[name]) for name in names}
    digest = hashlib.sha256(body).hexdigest()
    host = scope["client"] and scope["client"][0]
    return JSONResponse(told | {"client": host, "length": len(body), "digest": digest})


async def form(request: Request) -> Response:
    async with request.form() as fields:
        found = []
        for name, value in fields.multi_items():
            if isinstance(value, str):
                found.append([name, value])
            else:
                content = await value.read()
                digest = hashlib.sha256(content).hexdigest()
                found.append([name, str(value.filename), str(value.content_type), digest])
    return JSONResponse(found)


async def messages(request: Request) -> Response:
    """The body as `stream` gives it: its digest, for the messages may be cut anywhere."""
    digest = hashlib.sha256()
    async for part in request.stream():
        digest.update(part)
    return PlainTextResponse(digest.hexdigest())


async def status(request: Request) -> Response:
    number = int(request.path_params["number"])
    body = b"" if number in (204, 304) else b"a page"
    return Response(body, number, {"ETag": '"a"', "X-Odd-Case": "Kept", "x-empty": ""})


async def headers(request: Request) -> Response:
    """Header lines as odd as an application may send them, in an order of its own."""
    response = PlainTextResponse("headers")
    response.raw_headers += [
        (b"X-Repeated", b"1"),
        (b"Link", b"</a>; rel=preload"),
        (b"x-repeated", b"2"),
        (b"X-Latin", b"\xe4\xff"),
        (b"X-Long", b"a" * 6000),
        (b"X-Empty", b""),
        (b"X-Repeated", b"1"),
    ]
    return response


async def closing(request: Request) -> Response:
    return PlainTextResponse("closing", headers={"Connection": "close"})


async def cookies(request: Request) -> Response:
    response = JSONResponse(request.cookies)
    response.set_cookie("a", "1", max_age=60, httponly=True)
    response.set_cookie("b", 'two words, and "more"', path="/cookies", samesite="strict")
    response.delete_cookie("c")
    return response


async def session(request: Request) -> Response:
    request.session["count"] = request.session.get("count", 0) + 1
    return JSONResponse(request.session)


async def leave(request: Request) -> Response:
    request.session.clear()
    return RedirectResponse("/session?left=ja&ü=ö", 303)


async def numbers() -> AsyncIterator[bytes]:
    for number in range(300):
        await asyncio.sleep(0)
        yield b"%d\n" % number


async def stream(request: Request) -> Response:
    return StreamingResponse(numbers(), media_type="text/plain")


async def nothing() -> AsyncIterator[bytes]:
    for _ in range(3):
        yield b""


async def empty(request: Request) -> Response:
    return StreamingResponse(nothing())


async def breaking() -> AsyncIterator[bytes]:
    yield b"begun" * 10
    raise LookupError("a broken stream")


async def breaks(request: Request) -> Response:
    return StreamingResponse(breaking())


async def broken(request: Request) -> Response:
    raise LookupError("a broken route")


async def page(request: Request) -> Response:
    return HTMLResponse(f"<!doctype html>{LARGE[: int(request.path_params['size'])]}")


def sync(request: Request) -> Response:
    return PlainTextResponse("from a thread")


async def file(request: Request) -> Response:
    return FileResponse(Path(__file__), filename="übung.py")


ROUTES = [
    Route("/form", form, methods=["POST", "PUT"]),
    Route("/messages", messages, methods=["POST", "PUT", "PATCH"]),
    Route("/status/{number:int}", status, methods=["GET", "POST", "DELETE"]),
    Route("/headers", headers),
    Route("/closing", closing),
    Route("/cookies", cookies),
    Route("/session", session),
    Route("/leave", leave, methods=["POST"]),
    Route("/stream", stream),
    Route("/empty", empty),
    Route("/breaks", breaks),
    Route("/broken", broken, methods=["GET", "POST"]),
    Route("/page/{size:int}", page),
    Route("/sync", sync),
    Route("/file", file),
    Route("/slash/", sync),
]

app = Starlette(
    routes=[
        *ROUTES,
        Mount(
            "/gzip",
            routes=ROUTES,
            middleware=[Middleware(GZipMiddleware, minimum_size=500)],
        ),
        Route("/{rest:path}", echo, methods=EVERY_METHOD),
    ],
    middleware=[Middleware(SessionMiddleware, secret_key=SECRET)],
)
