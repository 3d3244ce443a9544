"""Pages that never come out twice alike, each with a checksum of itself at its end."""

from __future__ import annotations

import hashlib
import os
import secrets
import time

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

DIGEST_LENGTH = 64
"""Hexadecimal digits, the last of each page."""


async def page(request: Request) -> Response:
    """`size` bytes before the checksum, and the token of the page in a cookie too."""
    size = int(request.path_params["size"])
    token = secrets.token_hex(32)
    request.session["token"] = token
    lines = [f"<title>{request.url}</title>", f"token {token}", f"at {time.time_ns()}"]
    filling = secrets.token_hex(size // 2)
    lines += [f"<p>{token} {filling[at : at + 100]}" for at in range(0, size, 100)]
    content = "\n".join(lines)[:size]
    digest = hashlib.sha256(content.encode()).hexdigest()
    response = HTMLResponse(content + digest, headers={"X-Process": str(os.getpid())})
    response.set_cookie("csrftoken", token)
    return response


app = Starlette(
    routes=[Route("/{size:int}/{name}", page, methods=["GET", "POST"])],
    middleware=[
        Middleware(SessionMiddleware, secret_key="of a test"),
        Middleware(GZipMiddleware, minimum_size=500),
    ],
)
