"""The control server: the page, what it shows, and the buttons that kill and start processes.

Whoever may press them is on this machine and looks at this page. A page of another site can send
requests here as well, but not with this page's Origin, and a name that was made to point here
arrives as a foreign Host: both are refused.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from apps.demo.halves import Half
from apps.demo.processes import Process
from apps.demo.sprayer import Count

PAGE = Path(__file__).parent / "page"
EVERY_S = 0.25
"""Between two looks: a column of the chart."""


@dataclass(frozen=True, slots=True)
class File:
    """The download."""

    path: str
    bytes: int
    sha256: str


class Guard:
    """Refuses requests to other names than ours, and of other pages than ours."""

    def __init__(self, app: ASGIApp, port: int, bases: list[str]) -> None:
        """bases: what the page may ask beside this server."""
        self._app = app
        self._hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost")}
        self._policy = f"default-src 'self'; connect-src 'self' {' '.join(bases)}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        complaint = self._complaint(scope["method"], Headers(scope=scope))
        if complaint:
            await PlainTextResponse(complaint, 403)(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["content-security-policy"] = self._policy
                headers["cache-control"] = "no-store"
            await send(message)

        await self._app(scope, receive, guarded)

    def _complaint(self, method: str, headers: Headers) -> str:
        """ "": none."""
        host, origin = headers.get("host", ""), headers.get("origin")
        if host not in self._hosts:
            return f"Host {host!r} is not this server.\n"
        if origin is None and method in ("GET", "HEAD"):  # browsers send none for a page
            return ""
        if origin != f"http://{host}":
            return f"Origin {origin!r} is not the page of this server.\n"
        return ""


class Control:
    """The endpoints."""

    def __init__(
        self,
        halves: Mapping[str, Half],
        counts: list[Count],
        file: File,
        ending: Callable[[], bool],
    ) -> None:
        """counts: of the replicas of `trickles`, in order. ending: is the server about to end?"""
        self._halves = halves
        self._counts = counts
        self._file = file
        self._ending = ending

    def application(self, port: int) -> Starlette:
        bases = [half.base for half in self._halves.values()]
        return Starlette(
            routes=[
                Route("/setting", self.setting),
                Route("/live", self.live),
                Route("/{half}/{which}/{action}", self.act, methods=["POST"]),
                Mount("/", StaticFiles(directory=PAGE, html=True)),
            ],
            middleware=[Middleware(Guard, port=port, bases=bases)],
        )

    async def setting(self, request: Request) -> Response:
        """What does not change."""
        halves = {
            name: {"base": half.base, "upstreams": half.upstreams}
            for name, half in self._halves.items()
        }
        return JSONResponse({"halves": halves, "file": asdict(self._file)})

    async def live(self, request: Request) -> Response:
        """Server-sent events: what there is now, every quarter of a second."""
        return StreamingResponse(self._looks(), media_type="text/event-stream")

    async def _looks(self) -> AsyncIterator[str]:
        while not self._ending():
            yield f"data: {json.dumps(self.look())}\n\n"
            await asyncio.sleep(EVERY_S)

    def look(self) -> dict[str, Any]:
        """`at`: monotonic milliseconds. Counts are those since the beginning."""
        return {
            "at": time.monotonic_ns() // 1_000_000,
            "replicas": {
                name: [{"pid": one.pid, "state": one.state} for one in half.replicas]
                for name, half in self._halves.items()
            },
            "asked": [count.asked for count in self._counts],
            "answered": [count.answered for count in self._counts],
        }

    async def act(self, request: Request) -> Response:
        """`kill` or `start`, replica `1`, `2`, `3` or `all`."""
        act = {"kill": Process.kill, "start": Process.start}.get(request.path_params["action"])
        half = self._halves.get(request.path_params["half"])
        which = request.path_params["which"]
        numbered = {str(k): [one] for k, one in enumerate(half.replicas, 1)} if half else {}
        chosen = half.replicas if half and which == "all" else numbered.get(which)
        if act is None or chosen is None:
            raise HTTPException(404, "There is no such replica, or nothing of the kind to do.")
        for process in chosen:
            act(process)
        return JSONResponse(self.look())
