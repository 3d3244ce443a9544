"""Flask, as its documentation shows it, and a middleware around it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.validate import validator

from flask import Flask, Response, request, send_file, stream_with_context

app = Flask(__name__)


class Passing:
    def __init__(self, application: Callable[..., Iterable[bytes]]) -> None:
        self.application = application

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            return start_response(status, [*headers, ("X-Passed", "yes")], *more)

        return self.application(environ, start)


app.wsgi_app = Passing(app.wsgi_app)  # type: ignore[method-assign]


@app.get("/")
def hello() -> Response:
    return Response("hello", mimetype="text/plain")


@app.post("/form")
def form() -> str:
    return f"{request.form['name']} sent {len(request.form['text'])}"


@app.get("/background")
def background() -> Response:
    response = Response("later")
    response.call_on_close(Path(request.args["mark"]).touch)
    return response


@app.get("/slow")
def slow() -> tuple[str, int]:
    time.sleep(0.01)
    return "too slow", 504


@app.get("/stream")
def stream() -> Response:
    def numbers() -> Iterator[str]:
        for number in range(300):
            yield f"{number}\n"

    return Response(stream_with_context(numbers()), mimetype="text/plain")


@app.get("/endless")
def endless() -> Response:
    """Until its client leaves, which makes a file."""
    mark = Path(request.args["mark"])

    def zeros() -> Iterator[bytes]:
        while True:
            yield bytes(10_000)

    response = Response(zeros())
    response.call_on_close(mark.touch)
    return response


@app.get("/hang")
def hang() -> str:
    Path(request.args["mark"]).touch()
    threading.Event().wait()
    return "never"


@app.get("/sync")
def sync() -> str:
    return "from a thread"


@app.get("/file")
def file() -> Response:
    return send_file(request.args["path"])


@app.get("/broken")
def broken() -> str:
    raise LookupError("a broken view")


def create_app() -> Flask:
    return app


def create_validated() -> object:
    """The same, with the standard library's validator between server and application."""
    return validator(app)
