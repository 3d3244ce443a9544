"""What a framework makes of the host: tasks, contexts, disconnects, files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.http.apps import get
from tests.http.peer import Peer, Site, body_of
from trickles_web.http.progress import Body, decode


class Passing(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        response.headers["x-passed"] = "yes"
        return response


def application(file: Path, done: list[str], *, middleware: bool) -> Starlette:
    async def afterwards() -> None:
        done.append("ran")

    async def upload(request: Request) -> Response:
        body = await request.body()
        return PlainTextResponse(f"{len(body)}", background=BackgroundTask(afterwards))

    async def pieces() -> AsyncIterator[bytes]:
        for i in range(100):
            async with asyncio.timeout(5):
                await asyncio.sleep(0)
            yield b"%03d" % i * 1000

    async def streaming(request: Request) -> Response:
        return StreamingResponse(pieces())

    async def download(request: Request) -> Response:
        return FileResponse(file)

    async def broken(request: Request) -> Response:
        raise ValueError("a broken route")

    return Starlette(
        routes=[
            Route("/upload", upload, methods=["POST"]),
            Route("/streaming", streaming),
            Route("/download", download),
            Route("/broken", broken),
        ],
        middleware=[Middleware(Passing)] if middleware else [],
    )


def check(tmp_path: Path, *, middleware: bool) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(range(256)) * 1000)
    done: list[str] = []

    async def main() -> None:
        site = Site(application(file, done, middleware=middleware))
        peer = Peer(lambda: site, piece=lambda: 50_000)
        answer = await peer.exchange(get("/download"))
        assert body_of(answer) == file.read_bytes()
        assert b"accept-ranges: bytes" in answer
        assert decode(peer.progress).kind is Body.FILE
        part = await peer.exchange(get("/download", "Range: bytes=5-9"))
        assert part.startswith(b"HTTP/1.1 206 ")
        assert body_of(part) == file.read_bytes()[5:10]
        head = await peer.exchange(get("/download", method="HEAD"))
        assert b"content-length: 256000" in head
        assert head.endswith(b"\r\n\r\n")
        whole = await peer.exchange(get("/streaming"))
        assert body_of(whole) == b"".join(b"%03d" % i * 1000 for i in range(100))
        request = get("/upload", "Content-Length: 100000", method="POST") + bytes(100_000)
        cuts = [(i, i + 1200) for i in range(0, len(request), 1200)]
        assert body_of(await peer.exchange(request, cuts=cuts)) == b"100000"
        assert (await peer.exchange(get("/nothing"))).startswith(b"HTTP/1.1 404 Not Found\r\n")
        assert (await peer.exchange(get("/broken"))).startswith(b"HTTP/1.1 500 ")
        for _ in range(10):
            await asyncio.sleep(0)
        assert done == ["ran"]
        assert not site.service.runner.calls.runs
        await site.service.shutdown()

    asyncio.run(main())


def test_plain(tmp_path: Path) -> None:
    check(tmp_path, middleware=False)


def test_behind_a_middleware(tmp_path: Path) -> None:
    check(tmp_path, middleware=True)
