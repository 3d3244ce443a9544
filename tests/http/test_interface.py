"""Telling what interface an application has, and what is a factory of one."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Iterable
from typing import Any

import django
import pytest
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from fastapi import FastAPI
from flask import Flask
from starlette.applications import Starlette
from starlette.middleware.gzip import GZipMiddleware

from tests.http.apps import Effects, get, hello
from tests.http.peer import Peer, Site, body_of
from trickles_web.errors import AppImportError
from trickles_web.http.importer import from_asgi2, interface_of, made_by_factory
from trickles_web.http.scope import Receive, Scope, Send

StartResponse = Callable[..., object]


def wsgi(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [])
    return [b"hello"]


def with_an_option(
    environ: dict[str, Any], start_response: StartResponse, *, loud: bool = False
) -> Iterable[bytes]:
    return wsgi(environ, start_response)


class OfPep3333:
    """The class that PEP 3333 shows as an application."""

    def __init__(self, environ: dict[str, Any], start_response: StartResponse) -> None:
        self.start = start_response

    def __iter__(self) -> Iterable[bytes]:
        yield b""


class Callable2:
    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        return wsgi(environ, start_response)

    def method(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        return wsgi(environ, start_response)


class Awaitable:
    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None: ...

    def __await__(self) -> Any: ...


class Asgi2:
    def __init__(self, scope: Scope) -> None: ...

    async def __call__(self, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})


def asgi2(scope: Scope) -> Callable[[Receive, Send], object]:
    return Asgi2(scope)


def passed_on(scope: Scope, receive: Receive, send: Send) -> object:
    return hello(scope, receive, send)


@functools.wraps(wsgi)
def wrapped(*arguments: Any) -> Iterable[bytes]:
    return wsgi(*arguments)


def anything(*arguments: Any) -> None: ...


def django_handler(kind: type) -> object:
    if not settings.configured:
        settings.configure(LOGGING_CONFIG=None)
        django.setup()
    return kind()


@pytest.mark.parametrize(
    ("app", "interface"),
    [
        (hello, "asgi3"),
        (Effects(), "asgi3"),
        (Effects().__call__, "asgi3"),
        (functools.partial(hello), "asgi3"),
        (passed_on, "asgi3"),
        (Awaitable, "asgi3"),
        (Starlette(), "asgi3"),
        (GZipMiddleware(Starlette()), "asgi3"),
        (FastAPI(), "asgi3"),
        (django_handler(ASGIHandler), "asgi3"),
        (anything, "asgi3"),
        (dict, "asgi3"),
        (Asgi2, "asgi2"),
        (asgi2, "asgi2"),
        (wsgi, "wsgi"),
        (with_an_option, "wsgi"),
        (wrapped, "wsgi"),
        (functools.partial(with_an_option, loud=True), "wsgi"),
        (OfPep3333, "wsgi"),
        (Callable2(), "wsgi"),
        (Callable2().method, "wsgi"),
        (Flask("it"), "wsgi"),
        (Flask("it").wsgi_app, "wsgi"),
        (django_handler(WSGIHandler), "wsgi"),
    ],
)
def test_interfaces(app: Any, interface: str) -> None:
    assert interface_of(app) == interface


@pytest.mark.parametrize("app", [hello, Effects(), wsgi, Flask("it"), anything, OfPep3333])
def test_applications_are_not_called(app: Any) -> None:
    assert made_by_factory(app, factory=False) is app


def make(name: str = "it", **options: Any) -> Flask:
    return Flask(name)


@pytest.mark.parametrize("factory", [make, lambda: hello, Effects, Starlette])
def test_a_factory_is_called_whether_it_is_said_to_be_one_or_not(
    factory: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    said = made_by_factory(factory, factory=True)
    assert caplog.text == ""
    assert type(made_by_factory(factory, factory=False)) is type(said)
    assert "setting the --factory flag" in caplog.text


def test_a_factory_that_makes_nothing() -> None:
    with pytest.raises(AppImportError, match="not callable"):
        made_by_factory(lambda: None, factory=True)


def test_asgi_2() -> None:
    async def main() -> bytes:
        site = Site(from_asgi2(Asgi2))
        return await Peer(lambda: site).exchange(get())

    assert body_of(asyncio.run(main())) == b"hello"
