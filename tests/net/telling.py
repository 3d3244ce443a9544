"""An application that shows all it can find of its process: arguments, environment, a traceback."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from typing import Any

import trickles_web.net.options

logger = logging.getLogger("telling")


async def app(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    if scope["path"] == "/raises":
        raise LookupError(repr(scope))
    print_environment = "import os; print(dict(os.environ))"
    child = subprocess.run([sys.executable, "-c", print_environment], capture_output=True)
    shown = [sys.argv, sys.orig_argv, dict(os.environ), child.stdout, scope]
    shown.append(trickles_web.net.options.Config(app="a:b", secret_file="/path"))
    body = repr(shown).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
