"""From a name, an object or a factory to what the server calls."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.http.apps import get, hello
from tests.http.peer import Peer, Site, body_of
from tests.net.processes import serving
from trickles_web.errors import AppImportError
from trickles_web.net.application import hosted, import_application
from trickles_web.net.options import Config


def wsgi(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    start_response("200 OK", [])
    return [b"hello"]


def anything(*arguments: Any) -> Iterable[bytes]:
    return wsgi(*arguments)


class Asgi2:
    def __init__(self, scope: object) -> None: ...

    async def __call__(self, receive: object, send: Callable[..., Any]) -> None:
        await hello({}, receive, send)  # type: ignore[arg-type]


def answer(app: Any) -> bytes:
    async def main() -> bytes:
        site = Site(app)
        return body_of(await Peer(lambda: site).exchange(get()))

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("app", "interface"),
    [
        *((hello, "auto"), (hello, "asgi3")),
        *((wsgi, "auto"), (wsgi, "wsgi"), (anything, "wsgi")),
        *((Asgi2, "auto"), (Asgi2, "asgi2")),
        *((lambda: hello, "auto"), (lambda: wsgi, "auto"), (lambda: anything, "wsgi")),
    ],
)
def test_every_interface_is_served_alike(app: Any, interface: str) -> None:
    assert answer(Config(app=app, interface=interface).load_application()) == b"hello"


def test_an_asgi_3_application_is_left_as_it_is() -> None:
    assert hosted(hello, "auto", 10) is hello


FACTORIES = """
from tests.http.apps import hello
def make(): return hello
def needs(name): return hello
def broken():
    raise KeyError("no such setting")
"""


@pytest.fixture
def factories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "some_factories.py").write_text(FACTORIES)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return str(tmp_path)


def test_a_factory_by_name(factories: str) -> None:
    assert import_application("some_factories:make", factories, factory=True) is hello
    assert import_application("some_factories:make", factories) is hello


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("needs", "TypeError: needs() missing 1 required positional argument: 'name'"),
        ("broken", "KeyError: 'no such setting' ("),
    ],
)
def test_a_factory_that_fails_is_one_line(factories: str, name: str, words: str) -> None:
    with pytest.raises(AppImportError) as caught:
        import_application(f"some_factories:{name}", factories, factory=True)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.live
def test_without_a2wsgi_it_says_what_to_install(tmp_path: Path) -> None:
    absent = "import sys; sys.modules['a2wsgi'] = None\n"
    (tmp_path / "bare.py").write_text(absent + "def app(environ, start_response): ...\n")
    with serving(tmp_path, "bare:app", "--port", "0") as process:
        assert process.process.wait(30) == 2
        assert process.stderr == (
            "Error: a WSGI application needs a2wsgi: pip install 'trickles-web[wsgi]'\n"
        )
