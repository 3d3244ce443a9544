"""A small site to try a server with: a page, static files, downloads, an upload, events, slowness.

    trickles-serve apps.site:app --gateway 127.0.0.1:8080
    uvicorn apps.site:app

An ordinary Starlette application; it needs starlette and python-multipart. Its large files are
`FileResponse`s and its static files `StaticFiles`, which is all it takes for them to survive the
death of the server process half-way; its events say how to go on (see `apps.stream`).
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import os
from collections.abc import AsyncIterator, Callable
from html import escape
from pathlib import Path
from string import Template

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import (
    FileResponse,
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    Response,
)
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from apps import large_files
from apps.stream import events

HERE = Path(__file__).resolve().parent
PAGE = Template((HERE / "site.html").read_text(encoding="utf-8"))
CHUNK_BYTES = 64 * 1024
LONGEST_SLEEP_S = 60.0


async def home(request: Request) -> Response:
    """The page. It names the process that made it: the one to kill for what the page proposes."""
    text = PAGE.substitute(base=escape(str(request.base_url).rstrip("/")), pid=os.getpid())
    return HTMLResponse(text)


async def large(request: Request) -> Response:
    """A large file, made when first asked for."""
    path = await cached(request, large_files.large_file)
    return FileResponse(path, media_type="application/octet-stream", filename=path.name)


async def checksum(request: Request) -> Response:
    """Its SHA-256, in the format that `sha256sum --check` reads."""
    path = await cached(request, large_files.checksum_file)
    return FileResponse(path, media_type="text/plain")


async def cached(request: Request, path_of: Callable[[Path, int], Path]) -> Path:
    """What `path_of` makes for the size in the path or the query; its errors as HTTP errors."""
    given = request.path_params.get("megabytes", request.query_params.get("megabytes", "100"))
    try:
        megabytes = int(given)
    except ValueError:
        raise HTTPException(400, f"megabytes: {given!r} is no whole number") from None
    if not 1 <= megabytes <= large_files.LARGEST_MEGABYTES:
        raise HTTPException(
            404, f"Files of 1 to {large_files.LARGEST_MEGABYTES} megabytes are here."
        )
    try:
        return await run_in_threadpool(path_of, large_files.cache_directory(), megabytes)
    except large_files.CacheFull as error:
        raise HTTPException(507, str(error)) from error


async def upload(request: Request) -> Response:
    """Size and SHA-256 of a raw body, or of a form's field `file`; memory holds neither whole."""
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        # Starlette writes a file of over 1 MB to disk while the form arrives.
        async with request.form(max_files=1, max_fields=10) as form:
            file = form.get("file")
            if not isinstance(file, UploadFile):
                raise HTTPException(400, "The form has no field `file` with a file in it.")
            return await digest_answer(file_chunks(file), name=file.filename)
    try:
        return await digest_answer(request.stream())
    except ClientDisconnect:
        return Response(status_code=400)  # Nobody is there to read it.


async def file_chunks(file: UploadFile) -> AsyncIterator[bytes]:
    while chunk := await file.read(CHUNK_BYTES):
        yield chunk


async def digest_answer(chunks: AsyncIterator[bytes], name: str | None = None) -> Response:
    digest = hashlib.sha256()
    size = 0
    async for chunk in chunks:
        digest.update(chunk)
        size += len(chunk)
    answer: dict[str, str | int] = {"sha256": digest.hexdigest(), "size": size}
    return JSONResponse(answer if name is None else {"name": name, **answer})


async def slow(request: Request) -> Response:
    """Sleeps for `?seconds=` (1 unless told, 60 at most), then answers."""
    given = request.query_params.get("seconds", "1")
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= LONGEST_SLEEP_S:  # Not-a-number fails this too.
        raise HTTPException(400, f"seconds: a number from 0 to {LONGEST_SLEEP_S:g}, not {given!r}")
    await asyncio.sleep(seconds)
    return PlainTextResponse(f"slept for {seconds:g} s\n")


app = Starlette(
    routes=[
        Route("/", home),
        Mount("/static", StaticFiles(directory=HERE / "static"), name="static"),
        Route("/large", large),
        Route("/files/{megabytes:int}.bin", large),
        Route("/files/{megabytes:int}.bin.sha256", checksum),
        Route("/upload", upload, methods=["POST"]),
        Route("/events", events),
        Route("/slow", slow),
    ]
)
