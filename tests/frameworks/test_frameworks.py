"""What the frameworks' users do, unchanged: a real server process, and the client over real UDP."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.frameworks.browser import PATIENCE_S, Browser, Page
from tests.net.processes import Running

pytestmark = [pytest.mark.live, pytest.mark.xdist_group("frameworks")]

Serve = Callable[..., Running]

STARLETTE = "tests.frameworks.starlette_app:app"
FASTAPI = "tests.frameworks.fastapi_app:app"
DJANGO_ASGI = "tests.frameworks.django_app:asgi"
DJANGO_WSGI = "tests.frameworks.django_app:wsgi"
FLASK = "tests.frameworks.flask_app:app"
ALL = [STARLETTE, FASTAPI, DJANGO_ASGI, DJANGO_WSGI, FLASK]
WSGI = [DJANGO_WSGI, FLASK]
WITH_BACKGROUND = [STARLETTE, FASTAPI, FLASK]

FORM = ("Content-Type", "application/x-www-form-urlencoded")
NUMBERS = b"".join(b"%d\n" % number for number in range(300))


def of(*apps: str) -> pytest.MarkDecorator:
    names = [app.rpartition(".")[2].replace("_app", "") for app in apps]
    return pytest.mark.parametrize("app", apps, ids=names)


def get(server: Running, target: str, *headers: tuple[str, str], **options: object) -> Page:
    async def main() -> Page:
        async with Browser(server.port()) as browser:
            return await browser.fetch(target, *headers, **options)  # type: ignore[arg-type]

    return asyncio.run(main())


@of(*ALL)
def test_several_pages_on_one_flow(served: Serve, app: str) -> None:
    async def main(port: int) -> None:
        async with Browser(port) as browser:
            for _ in range(3):
                page = await browser.fetch("/")
                assert (page.status, page.body) == (200, b"hello")
                assert page.headers["content-type"].startswith("text/plain")
                assert page.headers["x-passed"] == "yes"
                page = await browser.fetch("/sync")
                assert (page.status, page.body) == (200, b"from a thread")

    asyncio.run(main(served(app).port()))


@of(*ALL)
@pytest.mark.parametrize("size", [10, 300_000])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_form(served: Serve, app: str, size: int, framing: str) -> None:
    body = b"name=G%C3%BCn&text=" + b"x" * size
    length = ("Content-Length", str(len(body)))
    announced = length if framing == "length" else ("Transfer-Encoding", "chunked")
    page = get(served(app), "/form", FORM, announced, method="POST", body=body)
    assert (page.status, page.body.decode()) == (200, f"Gün sent {size}")
    assert page.headers["x-passed"] == "yes"


@of(*ALL)
def test_a_file_sent_by_a_form(served: Serve, app: str) -> None:
    """multipart/form-data, whose parsers read lines."""
    lines = [
        *("--edge", 'Content-Disposition: form-data; name="name"', "", "Shieh"),
        *("--edge", 'Content-Disposition: form-data; name="text"', "", "y" * 100_000),
        *("--edge--", ""),
    ]
    body = "\r\n".join(lines).encode()
    headers = [("Content-Type", "multipart/form-data; boundary=edge")]
    headers.append(("Content-Length", str(len(body))))
    page = get(served(app), "/form", *headers, method="POST", body=body)
    assert (page.status, page.body) == (200, b"Shieh sent 100000")


@of(*WITH_BACKGROUND)
def test_a_background_task(served: Serve, app: str, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    server = served(app)
    assert get(server, f"/background?mark={mark}").body == b"later"
    server.until(mark.exists)


@of(*ALL)
def test_a_time_limit_of_the_application(served: Serve, app: str) -> None:
    page = get(served(app), "/slow")
    assert (page.status, page.body) == (504, b"too slow")


@of(*ALL)
def test_a_stream(served: Serve, app: str) -> None:
    page = get(served(app), "/stream")
    assert (page.status, page.body) == (200, NUMBERS)
    assert page.headers["transfer-encoding"] == "chunked"


@of(*ALL)
def test_an_error(served: Serve, app: str) -> None:
    """Of the application: a 500. Then it goes on."""
    server = served(app)
    assert get(server, "/broken").status == 500
    assert get(server, "/nothing").status == 404
    assert get(server, "/", method="HEAD").body == b""
    assert get(server, "/").body == b"hello"


@of(*WSGI)
def test_a_file_larger_than_what_is_buffered(served: Serve, app: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(os.urandom(6_000_000))
    page = get(served(app), f"/file?path={file}")
    assert page.status == 200
    assert hashlib.sha256(page.body).digest() == hashlib.sha256(file.read_bytes()).digest()


def test_a_stream_ends_when_its_client_leaves(served: Serve, tmp_path: Path) -> None:
    server = served(FLASK)
    mark = tmp_path / "mark"

    async def main() -> None:
        async with Browser(server.port()) as browser:
            await browser.begin(f"/endless?mark={mark}")
            assert not mark.exists()

    asyncio.run(asyncio.wait_for(main(), PATIENCE_S))
    server.until(mark.exists)


def test_neither_a_stream_nor_a_call_that_hangs_keeps_the_server(
    served: Serve, tmp_path: Path
) -> None:
    server = served(FLASK, "--threads", "3")
    mark = tmp_path / "mark"

    async def main() -> None:
        async with Browser(server.port()) as stream, Browser(server.port()) as hang:
            await stream.begin(f"/endless?mark={tmp_path / 'ended'}")
            waiting = asyncio.create_task(hang.fetch(f"/hang?mark={mark}"))
            await asyncio.to_thread(server.until, mark.exists)
            assert await asyncio.to_thread(server.end) == 0
            waiting.cancel()

    asyncio.run(asyncio.wait_for(main(), 2 * PATIENCE_S))
    assert server.stderr.rstrip().endswith(f"Finished server process [{server.process.pid}]")


def test_more_slow_requests_than_threads(served: Serve) -> None:
    server = served(FLASK, "--threads", "2")

    async def slow(port: int) -> int:
        async with Browser(port) as browser:
            return (await browser.fetch("/slow")).status

    async def main() -> list[int]:
        return await asyncio.gather(*(slow(server.port()) for _ in range(10)))

    assert asyncio.run(main()) == [504] * 10


def test_the_validator_and_several_workers(served: Serve, tmp_path: Path) -> None:
    """Each worker must be told of the factory and the interface, which the validator hides."""
    factory = "tests.frameworks.flask_app:create_validated"
    options = ("--factory", "--interface", "wsgi", "--threads", "3", "--workers", "2")
    server = served(factory, *options)
    for _ in range(2):
        assert get(server, "/").body == b"hello"
        assert get(server, "/stream").body == NUMBERS
        assert get(server, "/slow", method="HEAD").status == 504
    body = b"name=Sirer&text=xy"
    page = get(server, "/form", FORM, ("Transfer-Encoding", "chunked"), method="POST", body=body)
    assert page.body == b"Sirer sent 2"
    file = tmp_path / "file"
    file.write_bytes(os.urandom(500_000))
    assert get(server, f"/file?path={file}").body == file.read_bytes()


@pytest.mark.parametrize("option", ["--factory", "--no-access-log"])
def test_a_factory(served: Serve, option: str) -> None:
    server = served("tests.frameworks.flask_app:create_app", option)
    assert get(server, "/").body == b"hello"
    assert ("please consider setting the --factory flag" in server.stderr) == (
        option != "--factory"
    )
