"""Git's own server (git http-backend, a CGI program) as a WSGI application.

Repositories are those in $REPOSITORIES; anybody may push.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterable
from typing import Any

PASSED_ON = ("PATH_INFO", "QUERY_STRING", "REQUEST_METHOD", "CONTENT_TYPE", "CONTENT_LENGTH")


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    variables = {name: str(environ[name]) for name in PASSED_ON if environ.get(name)}
    variables |= {
        "PATH": os.environ["PATH"],
        "GIT_PROJECT_ROOT": os.environ["REPOSITORIES"],
        "GIT_HTTP_EXPORT_ALL": "1",
        "GIT_PROTOCOL": environ.get("HTTP_GIT_PROTOCOL", ""),
        "HTTP_CONTENT_ENCODING": environ.get("HTTP_CONTENT_ENCODING", ""),
        "REMOTE_USER": "anybody",
    }
    body = environ["wsgi.input"].read()
    variables["CONTENT_LENGTH"] = str(len(body))
    done = subprocess.run(
        ["git", "http-backend"], input=body, env=variables, capture_output=True, check=True
    )
    head, _, answer = done.stdout.partition(b"\r\n\r\n")
    fields = [tuple(line.split(": ", 1)) for line in head.decode("latin-1").split("\r\n")]
    status = dict(fields).get("Status", "200 OK")
    start_response(status, [field for field in fields if field[0] != "Status"])
    return [answer]
