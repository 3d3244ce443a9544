"""What both halves of the demonstration serve: a large file and a stream of events.

    trickles-serve apps.demo.app:app
    uvicorn apps.demo.app:app

The page is of another origin, so any origin may read; there is nothing here that is not public.
"""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route

from apps.site import large
from apps.stream import events

app = Starlette(
    routes=[Route("/files/{megabytes:int}.bin", large), Route("/events", events)],
    middleware=[Middleware(CORSMiddleware, allow_origins=["*"])],
)
