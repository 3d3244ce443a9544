"""WSGI applications on the real service: PEP 3333 from both sides."""

from __future__ import annotations

import asyncio
import gc
import io
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.validate import validator

import pytest
from flask import Flask, Response, request, send_file

from tests.http.apps import get
from tests.http.peer import Peer, RefusedByServer, Site, body_of
from trickles_web.config import HttpConfig
from trickles_web.http.progress import Body, decode
from trickles_web.http.scope import Message, Scope
from trickles_web.http.wsgi import Hosted, Threads

Environ = dict[str, Any]
Start = Callable[..., Callable[[bytes], object]]
App = Callable[[Environ, Start], Iterable[bytes]]

PLAIN = [("Content-Type", "text/plain")]
FORM = "Content-Type: application/x-www-form-urlencoded"


def exchange(app: App, *requests: bytes, site: Callable[[Hosted], Site] = Site) -> list[bytes]:
    """Responses to requests on one flow. The service is shut down before it returns."""

    async def main() -> list[bytes]:
        served = site(Hosted(app))
        peer = Peer(lambda: served)
        answers = []
        for data in requests:
            cuts = [(at, at + 1200) for at in range(0, len(data), 1200)]
            answers.append(await peer.exchange(data, cuts=cuts if len(cuts) > 1 else None))
        await served.service.drain(5.0)
        await served.service.shutdown()
        return answers

    return asyncio.run(main())


def post(body: bytes, *extra: str, path: str = "/") -> bytes:
    return get(path, f"Content-Length: {len(body)}", *extra, method="POST") + body


def chunked(body: bytes, *extra: str, path: str = "/", size: int = 1000) -> bytes:
    head = get(path, "Transfer-Encoding: chunked", *extra, method="POST")
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return head + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def environ_of(data: bytes, site: Callable[[Hosted], Site] = Site) -> Environ:
    """What an application is called with for a request."""
    seen: list[Environ] = []

    def app(environ: Environ, start: Start) -> Iterable[bytes]:
        seen.append(environ)
        start("200 OK", PLAIN)
        return [b"ok"]

    assert body_of(exchange(app, data, site=site)[0]) == b"ok"
    return seen[0]


# The environ


def test_the_environ() -> None:
    environ = environ_of(get("/a%20path?q=%41&r", "X-Name: one", "X-Name: two", "Cookie: c=1"))
    expected = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/a path",
        "QUERY_STRING": "q=%41&r",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": "192.0.2.1",
        "SERVER_PORT": "8000",
        "REMOTE_ADDR": "192.0.2.7",
        "REMOTE_PORT": "40000",
        "HTTP_HOST": "test",
        "HTTP_X_NAME": "one,two",
        "HTTP_COOKIE": "c=1",
        "wsgi.url_scheme": "http",
        "wsgi.multithread": True,
        "wsgi.run_once": False,
    }
    assert {name: environ.get(name) for name in expected} == expected
    assert "CONTENT_LENGTH" not in environ and "CONTENT_TYPE" not in environ


@pytest.mark.parametrize(
    ("path", "info"),
    [
        ("/%C3%BC", b"/\xc3\xbc"),
        ("/%FF%fe", b"/\xff\xfe"),
        ("/a%2Fb%25%3F", b"/a/b%?"),
        ("/100%", b"/100%"),
    ],
)
def test_the_path_is_its_bytes_as_latin_1(path: str, info: bytes) -> None:
    assert environ_of(get(path))["PATH_INFO"].encode("latin-1") == info


@pytest.mark.parametrize("root", ["/app", "/app/"])
def test_below_a_root_path(monkeypatch: pytest.MonkeyPatch, root: str) -> None:
    monkeypatch.setenv("SCRIPT_NAME", "/of/another")
    config = HttpConfig(lifespan="off", access_log=False, root_path=root)
    environ = environ_of(get("/app/x"), site=lambda app: Site(app, config))
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("/app", "/app/x")


def test_names_that_a_proxy_would_not_know_are_left_out() -> None:
    environ = environ_of(get("/", "X_Forwarded_For: 192.0.2.66", "Content_Length: 7"))
    assert [name for name in environ if "FORWARDED" in name or "LENGTH" in name] == []


# The request's body


def reading(how: Callable[[Any], object], seen: list[Any]) -> App:
    def app(environ: Environ, start: Start) -> Iterable[bytes]:
        seen.append((how(environ["wsgi.input"]), environ.get("CONTENT_LENGTH")))
        start("200 OK", PLAIN)
        return []

    return app


def lines(stream: Any) -> list[bytes]:
    first = [stream.readline(3), stream.readline(), stream.read(2)]
    return [*first, *stream.readlines(), stream.read(), stream.readline()]


BODY = b"first line\nsecond\n\nlast"
LARGE = bytes(range(256)) * 1000


@pytest.mark.parametrize("make", [post, chunked])
@pytest.mark.parametrize(
    ("how", "body"),
    [(lines, BODY), (list, BODY), (lambda s: s.read(), LARGE), (lambda s: s.read(150_000), LARGE)],
)
def test_the_input_reads_as_a_file_does(
    make: Callable[[bytes], bytes], how: Callable[[Any], object], body: bytes
) -> None:
    seen: list[Any] = []
    exchange(reading(how, seen), make(body))
    assert seen == [(how(io.BytesIO(body)), str(len(body)))]


def test_a_body_that_is_not_read_is_not_part_of_the_next_request() -> None:
    def app(environ: Environ, start: Start) -> Iterable[bytes]:
        start("200 OK", PLAIN)
        return [environ["PATH_INFO"].encode()]

    answers = exchange(app, post(LARGE, path="/1"), chunked(LARGE, path="/2"), get("/3"))
    assert [body_of(answer) for answer in answers] == [b"/1", b"/2", b"/3"]


def form(name: str) -> Flask:
    app = Flask(name)

    @app.post("/")
    def index() -> str:
        return f"{request.form.get('name')} {request.content_length}"

    return app


@pytest.mark.parametrize("make", [post, chunked])
def test_flask_gets_its_form(make: Callable[..., bytes]) -> None:
    (answer,) = exchange(form("form"), make(b"name=Emin", FORM))
    assert body_of(answer) == b"Emin 9"


async def asgi(app: App, messages: list[Message], read_ahead: int) -> list[Message]:
    """One call as a server that streams request bodies would make it."""
    sent: list[Message] = []

    async def receive() -> Message:
        if not messages:
            await asyncio.Event().wait()
        await asyncio.sleep(0)
        return messages.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": "/",
        "raw_path": b"/",
        "root_path": "",
        "query_string": b"",
        "headers": [(b"transfer-encoding", b"chunked"), (b"content-type", FORM[14:].encode())],
    }
    await asyncio.wait_for(Hosted(app, read_ahead=read_ahead)(scope, receive, send), 30)
    return sent


@pytest.mark.parametrize("read_ahead", [0, 5, 100])
def test_a_body_longer_than_what_is_read_ahead(read_ahead: int) -> None:
    parts = [b"name=", b"", b"Andrew", b" Myers"]
    messages: list[Message] = [
        {"type": "http.request", "body": part, "more_body": part != parts[-1]} for part in parts
    ]
    sent = asyncio.run(asgi(form("streamed"), messages, read_ahead))
    length = b"17" if read_ahead == 100 else b"None"
    assert b"".join(message.get("body", b"") for message in sent) == b"Andrew Myers " + length


def test_a_client_that_goes_in_the_middle_of_its_body() -> None:
    caught: list[BaseException] = []

    def app(environ: Environ, start: Start) -> Iterable[bytes]:
        try:
            environ["wsgi.input"].read()
        except ConnectionResetError as error:
            caught.append(error)
        start("200 OK", PLAIN)
        return []

    part: Message = {"type": "http.request", "body": b"a", "more_body": True}
    asyncio.run(asgi(app, [part, {"type": "http.disconnect"}], 0))
    assert len(caught) == 1
    asyncio.run(asgi(app, [part, {"type": "http.disconnect"}], 100))
    assert len(caught) == 1  # it was not called


# The response


def validated(environ: Environ, start: Start) -> Iterable[bytes]:
    length = int(environ.get("CONTENT_LENGTH") or 0)
    body = environ["wsgi.input"].read(length)
    environ["wsgi.errors"].write("")
    environ["wsgi.errors"].flush()
    if environ["PATH_INFO"] == "/empty":
        start("204 No Content", [])
        return []
    write = start("200 OK", [*PLAIN, ("X-Length", str(len(body)))])
    if environ["PATH_INFO"] == "/write":
        write(b"written ")
    return iter([b"and ", b"", b"returned"])


@pytest.mark.filterwarnings("error")
def test_the_validator_of_the_standard_library(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    app: App = validator(validated)
    requests = [
        *(get(), get("/write?a=b"), get("/empty"), get(method="HEAD"), get("/%FF", version="1.0")),
        *(get("/", method="OPTIONS"), post(LARGE), chunked(LARGE)),
    ]
    config = HttpConfig(lifespan="off", access_log=False, root_path="/root")
    for data in requests:
        (answer,) = exchange(app, data, site=lambda app: Site(app, config))
        assert answer.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 204 "))
    gc.collect()  # its iterators complain when they were not closed
    assert capfd.readouterr().err == ""
    assert caplog.text == ""


def test_what_is_written_comes_before_what_is_returned() -> None:
    (answer,) = exchange(validated, get("/write"))
    assert body_of(answer) == b"written and returned"


def test_a_head_may_be_replaced_until_it_is_sent() -> None:
    def app(environ: Environ, start: Start) -> Iterable[bytes]:
        start("200 OK", PLAIN)
        yield b""
        try:
            raise ValueError("too late for 200")
        except ValueError as error:
            start("503 Busy", [("X-Second", "yes")], (ValueError, error, error.__traceback__))
        yield b"busy"

    (answer,) = exchange(app, get())
    assert answer.startswith(b"HTTP/1.1 503 ") and b"X-Second" in answer.replace(b"x-s", b"X-S")
    assert b"text/plain" not in answer and body_of(answer) == b"busy"


def failing(stage: str) -> App:
    def raises(environ: Environ, start: Start) -> Iterable[bytes]:
        raise LookupError("a broken application")

    def stops(environ: Environ, start: Start) -> Iterable[bytes]:
        raise StopIteration

    def never_starts(environ: Environ, start: Start) -> Iterable[bytes]:
        return [b"body"]

    def starts_twice(environ: Environ, start: Start) -> Iterable[bytes]:
        start("200 OK", PLAIN)
        start("200 OK", PLAIN)
        return [b"body"]

    def splits(environ: Environ, start: Start) -> Iterable[bytes]:
        start("200 OK", [("X-Name", "a\r\nX-Other: b")])
        return [b"body"] * 50

    def no_bytes(environ: Environ, start: Start) -> Iterable[bytes]:
        start("200 OK", PLAIN)
        return ["text"] * 50  # type: ignore[list-item]

    apps: dict[str, App] = {
        app.__name__: app for app in (raises, stops, never_starts, starts_twice, splits, no_bytes)
    }
    return apps[stage]


@pytest.mark.parametrize(
    "stage", ["raises", "stops", "never_starts", "starts_twice", "splits", "no_bytes"]
)
def test_an_error_before_the_head_is_a_500(stage: str, caplog: pytest.LogCaptureFixture) -> None:
    (answer,) = exchange(failing(stage), get())
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert "Exception in ASGI application" in caplog.text
    assert caplog.records[0].exc_info


@pytest.mark.parametrize("how", ["raises", "exc_info", "too_long", "too_short"])
def test_an_error_after_the_head_breaks_the_response_off(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """And the iterable is closed all the same, and its thread is free again."""
    read = threading.Event()
    closed: list[str] = []

    def app(environ: Environ, start: Start) -> Iterator[bytes]:
        length = {"too_long": 10_005, "too_short": 20_000}.get(how)
        start("200 OK", [("Content-Length", str(length))] if length else PLAIN)
        try:
            yield bytes(10_000)
            assert read.wait(30)
            if how == "raises":
                raise LookupError("half-way")
            if how == "exc_info":
                error = LookupError("half-way")
                start("500 Oh", PLAIN, (LookupError, error, None))
            yield from [b"more"] * (50 if how == "too_long" else 1)
        finally:
            closed.append(threading.current_thread().name)

    async def main() -> None:
        site = Site(Hosted(app, threads=1))
        with pytest.raises(RefusedByServer, match="FAILED"):
            await Peer(lambda: site).exchange(get(), between=read.set)
        read.clear()
        with pytest.raises(RefusedByServer, match="FAILED"):
            await Peer(lambda: site, incarnation=8).exchange(get(), between=read.set)
        await site.service.drain(5.0)
        await site.service.shutdown()

    asyncio.run(main())
    assert closed == ["WSGI 1", "WSGI 1"]
    assert caplog.text.count("Exception in ASGI application") == 2


def test_an_endless_response_ends_with_its_client() -> None:
    """Sent to nobody, nothing would hold it back, and its thread would be lost for ever."""
    closed = threading.Event()

    def app(environ: Environ, start: Start) -> Iterator[bytes]:
        start("200 OK", PLAIN)
        try:
            while True:
                yield bytes(1000)
        finally:
            closed.set()

    async def main() -> None:
        site = Site(Hosted(app))
        peer = Peer(lambda: site)
        peer.begin(get())
        peer.take(site, await site.ask(peer.redeemed(data=get(), whole=True)))  # type: ignore[arg-type]
        assert not closed.is_set()
        (run,) = site.service.runner.calls.runs
        run.leave()
        assert await asyncio.to_thread(closed.wait, 30)
        await site.service.drain(5.0)
        await site.service.shutdown()
        assert not site.service.runner.calls.runs

    asyncio.run(main())


def test_a_call_that_hangs_does_not_hold_up_the_end() -> None:
    hangs, go_on = threading.Event(), threading.Event()

    def app(environ: Environ, start: Start) -> Iterable[bytes]:
        hangs.set()
        assert go_on.wait(60)
        start("200 OK", PLAIN)
        return [b"late"]

    async def main() -> None:
        site = Site(Hosted(app))
        peer = Peer(lambda: site)
        peer.begin(get())
        site.service.answer(peer.redeemed(data=get(), whole=True), site.clock())
        assert await asyncio.to_thread(hangs.wait, 30)
        assert all(t.daemon for t in threading.enumerate() if t.name.startswith("WSGI"))
        await site.service.shutdown()

    asyncio.run(main())
    go_on.set()


# Threads and lifespan


def test_calls_share_threads_and_no_more_than_allowed() -> None:
    threads = Threads(3)
    barrier = threading.Barrier(3)
    together = [threads.submit(lambda: barrier.wait(30)) for _ in range(6)]
    assert sorted(future.result(30) for future in together) == [0, 0, 1, 1, 2, 2]
    names = {threads.submit(lambda: threading.current_thread().name).result(30) for _ in range(9)}
    assert names <= {"WSGI 1", "WSGI 2", "WSGI 3"}
    threads.end()


def test_a_call_that_was_cancelled_before_its_turn_is_left_out() -> None:
    threads, go_on = Threads(1), threading.Event()
    first = threads.submit(go_on.wait, 30)
    second = threads.submit(list[int])
    assert second.cancel()
    go_on.set()
    assert first.result(30)
    assert threads.submit(list[int]).result(30) == []
    threads.end()


def test_one_call_after_the_other_takes_one_thread() -> None:
    threads = Threads(3)
    for _ in range(20):
        name = threads.submit(lambda: threading.current_thread().name).result(30)
        assert name == "WSGI 1"
    threads.end()


@pytest.mark.parametrize("mode", ["auto", "on"])
def test_a_lifespan_ends_the_threads_and_logs_no_error(
    mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    before = set(threading.enumerate())

    async def main() -> None:
        site = Site(Hosted(validated), HttpConfig(lifespan=mode, access_log=False))
        await site.service.startup()
        assert body_of(await Peer(lambda: site).exchange(get())) == b"and returned"
        await site.service.drain(5.0)
        await site.service.shutdown()

    asyncio.run(main())
    for thread in set(threading.enumerate()) - before:
        thread.join(30)
        assert not thread.is_alive()
    assert {record.levelname for record in caplog.records if "trickles" in record.name} == {"INFO"}


# Files


def serving(file: Path) -> Flask:
    app = Flask("files")

    @app.get("/")
    def index() -> Response:
        return send_file(file)

    @app.get("/opened")
    def opened() -> Response:
        return send_file(file.open("rb"), download_name="file")

    @app.get("/rest")
    def rest() -> Response:
        stream = file.open("rb")
        stream.seek(1000)
        return send_file(stream, download_name="file")

    return app


def test_a_file_is_sent_by_its_path(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(LARGE)

    async def main() -> None:
        site = Site(Hosted(serving(file)))
        peer = Peer(lambda: site, piece=lambda: 50_000)
        for path, kind, content in (
            ("/", Body.FILE, LARGE),
            ("/opened", Body.FILE, LARGE),
            ("/rest", Body.MEMORY, LARGE[1000:]),
        ):
            assert body_of(await peer.exchange(get(path))) == content
            assert decode(peer.progress).kind is kind
        part = await peer.exchange(get("/", "Range: bytes=5-9"))
        assert part.startswith(b"HTTP/1.1 206 ") and body_of(part) == LARGE[5:10]
        head = await peer.exchange(get("/", method="HEAD"))
        assert b"content-length: 256000\r\n" in head.lower() and head.endswith(b"\r\n\r\n")
        await site.service.drain(5.0)
        await site.service.shutdown()

    asyncio.run(main())
    gc.collect()  # a file that is still open complains


@pytest.mark.parametrize("length", [len(LARGE), None])
def test_a_file_with_and_without_its_length(tmp_path: Path, length: int | None) -> None:
    file = tmp_path / "file"
    file.write_bytes(LARGE)

    def app(environ: Environ, start: Start) -> Iterable[bytes]:
        start("200 OK", [("Content-Length", str(length))] if length else PLAIN)
        wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](file.open("rb"), 5)
        return wrapped

    (answer,) = exchange(app, get())
    assert b"content-length: 256000\r\n" in answer.lower()
    assert body_of(answer) == LARGE


def test_a_file_that_is_deleted_after_the_call_is_sent_all_the_same(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(LARGE)

    def app(environ: Environ, start: Start) -> Iterable[bytes]:
        stream = file.open("rb")

        def close() -> None:
            file.unlink()
            type(stream).close(stream)

        stream.close = close  # type: ignore[method-assign]
        start("200 OK", [("Content-Length", str(len(LARGE)))])
        wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](stream)
        return wrapped

    (answer,) = exchange(app, get())
    assert body_of(answer) == LARGE
    assert not file.exists()
    gc.collect()
