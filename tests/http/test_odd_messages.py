"""What applications send that is right but unusual, and what is wrong: the types of all of it."""

from __future__ import annotations

import array
import asyncio
import inspect
from collections import ChainMap
from collections.abc import Awaitable, Callable, Generator, Iterable
from enum import IntEnum, StrEnum
from functools import partial
from http import HTTPStatus
from typing import Any

import anyio
import pytest

from tests.http.apps import get
from tests.http.peer import Peer, Site, body_of
from tests.http.talking import ACCEPTED, Talk
from trickles_web.http.scope import ASGIApp, Message, Receive, Scope, Send

START = "http.response.start"
BODY = "http.response.body"


class Kind(StrEnum):
    START = START
    BODY = BODY


class Status(IntEnum):
    TEAPOT = 418


class Code(IntEnum):
    BYE = 4000


class Number:
    """An integer, as numpy's are: not an int."""

    def __index__(self) -> int:
        return 200


class Bytes(bytes):
    pass


class Text(str):
    __slots__ = ()


def answer_of(app: ASGIApp, path: str = "/") -> bytes:
    """What `app` answers to a GET."""
    answers: list[bytes] = []

    async def main() -> None:
        site = Site(app)
        answers.append(await Peer(lambda: site).exchange(get(path)))
        await site.service.shutdown()

    asyncio.run(main())
    return answers[0]


def sends(*messages: Message) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    return app


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (HTTPStatus.CREATED, b"201 Created"),
        (Status.TEAPOT, b"418 I'm a Teapot"),
        (Number(), b"200 OK"),
        (599, b"599 "),
    ],
)
def test_a_status_may_be_any_integer(status: Any, line: bytes) -> None:
    answer = answer_of(sends({"type": START, "status": status}, {"type": BODY}))
    assert answer.startswith(b"HTTP/1.1 " + line + b"\r\n")


@pytest.mark.parametrize(
    "make",
    [
        tuple,
        iter,
        lambda pairs: [list(pair) for pair in pairs],
        lambda pairs: (pair for pair in pairs),
        lambda pairs: dict(pairs).items(),
        lambda pairs: [map(bytearray, pair) for pair in pairs],
        lambda pairs: [[memoryview(part) for part in pair] for pair in pairs],
        lambda pairs: [map(Bytes, pair) for pair in pairs],
    ],
    ids=["tuple", "iterator", "lists", "generator", "items", "bytearray", "memoryview", "subclass"],
)
def test_headers_may_be_pairs_of_any_kind(
    make: Callable[[list[tuple[bytes, bytes]]], Iterable[Any]],
) -> None:
    headers = [(b"Content-Length", b"2"), (b"x-a", b"b")]
    start = {"type": START, "status": 200, "headers": make(headers)}
    answer = answer_of(sends(start, {"type": BODY, "body": b"ok"}))
    assert b"\r\nContent-Length: 2\r\nx-a: b\r\n" in answer
    assert answer.endswith(b"\r\n\r\nok")


@pytest.mark.parametrize("headers", [[], [(b"content-length", b"8")]], ids=["chunks", "length"])
@pytest.mark.parametrize("make", [Bytes, bytearray, memoryview, partial(array.array, "H")])
def test_a_body_may_be_any_buffer(
    make: Callable[[bytes], Any], headers: list[tuple[bytes, bytes]]
) -> None:
    start = {"type": START, "status": 200, "headers": headers}
    more = {"type": BODY, "body": make(b"abcd"), "more_body": True}
    assert body_of(answer_of(sends(start, more, {"type": BODY, "body": make(b"efgh")}))) == (
        b"abcdefgh"
    )


def test_a_message_may_be_any_mapping() -> None:
    start: Message = ChainMap({"type": Kind.START}, {"status": 200, "headers": ()})
    more: Message = ChainMap({"type": Text(BODY), "body": b"a", "more_body": 1})
    last: Message = ChainMap({"type": Kind.BODY, "body": b"b", "more_body": ""})
    assert body_of(answer_of(sends(start, more, last))) == b"ab"


WRONG_STARTS: list[dict[str, Any]] = [
    *({"status": status} for status in ("200", 200.0, None, b"200")),
    *({"headers": headers} for headers in (None, 7, [("a", "b")], [(b"a", "b")], [(b"a", 3)])),
    *({"headers": headers} for headers in ([b"ab", b"cd"], [None], [(b"a", None)])),
]
WRONG_PAIRS: list[dict[str, Any]] = [
    {"headers": headers} for headers in ([(b"a", b"b", b"c")], [(b"a",)], {b"abc": b""})
]
WRONG_BODIES: list[dict[str, Any]] = [{"body": body} for body in ("text", 5, [b"a"])]


@pytest.mark.parametrize(
    ("messages", "error"),
    [
        *(([{"type": START, "status": 200, **wrong}], TypeError) for wrong in WRONG_STARTS),
        *(([{"type": START, "status": 200, **wrong}], ValueError) for wrong in WRONG_PAIRS),
        *(
            ([{"type": START, "status": 200}, {"type": BODY, **wrong}], TypeError)
            for wrong in WRONG_BODIES
        ),
        ([{}], KeyError),
        ([{"type": START}], KeyError),
        ([{"type": START, "status": 10**30}], RuntimeError),
        ([{"type": None}], RuntimeError),
    ],
)
def test_what_is_wrong_raises_in_the_application(
    messages: list[Message], error: type[Exception]
) -> None:
    raised: list[Exception] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        *before, last = messages
        for message in before:
            await send(message)
        try:
            await send(last)
        except Exception as caught:
            raised.append(caught)
            raise

    assert answer_of(app).startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    (caught,) = raised
    assert isinstance(caught, error)


# How an application is called, and how it calls


class Later:
    """Awaitable, and no coroutine."""

    def __init__(self, call: Awaitable[None]) -> None:
        self.call = call

    def __await__(self) -> Generator[Any, None, None]:
        return self.call.__await__()


async def hello(scope: Scope, receive: Receive, send: Send, word: bytes = b"hello") -> None:
    await send({"type": START, "status": 200})
    await send({"type": BODY, "body": word})


class Asynchronous:
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await hello(scope, receive, send)


@pytest.mark.parametrize(
    "app",
    [
        Asynchronous(),
        partial(hello, word=b"hello"),
        lambda scope, receive, send: Later(hello(scope, receive, send)),
        lambda scope, receive, send: asyncio.ensure_future(hello(scope, receive, send)),
    ],
    ids=["object", "partial", "awaitable", "future"],
)
def test_an_application_may_return_anything_that_can_be_awaited(app: ASGIApp) -> None:
    assert body_of(answer_of(app)) == b"hello"


@pytest.mark.parametrize("result", [None, 7, "text"])
def test_an_application_that_is_not_asynchronous_is_a_500(result: Any) -> None:
    answer = answer_of(lambda scope, receive, send: result)
    assert answer.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")


async def by_tasks(receive: Receive, send: Send) -> None:
    request = await asyncio.wait_for(receive(), 10)
    assert request == {"type": "http.request", "body": b"", "more_body": False}
    gone = asyncio.create_task(receive())  # type: ignore[arg-type, var-annotated]
    await asyncio.gather(send({"type": START, "status": 200}))
    await asyncio.wait_for(asyncio.ensure_future(send({"type": BODY, "body": b"done"})), 10)
    assert await gone == {"type": "http.disconnect"}


async def by_task_groups(receive: Any, send: Any) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(receive)
        await anyio.sleep(0)
        group.start_soon(send, {"type": START, "status": 200})
        await anyio.sleep(0)
        group.start_soon(partial(send, {"type": BODY, "body": b"done"}))


async def with_a_deadline(receive: Receive, send: Send) -> None:
    await receive()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await receive()
    with anyio.move_on_after(0.01) as scope:
        await receive()
    assert scope.cancelled_caught
    await send(message={"type": START, "status": 200})  # type: ignore[call-arg]
    await send({"type": BODY, "body": b"done"})


async def by_hand(receive: Receive, send: Send) -> None:
    for function in (receive, send):
        assert inspect.iscoroutinefunction(function)
    calls = (receive(), send({"type": START, "status": 200}), send({"type": BODY, "body": b"done"}))
    for call in calls:
        assert asyncio.iscoroutine(call)
        assert inspect.isawaitable(call)
        await call


@pytest.mark.parametrize("use", [by_tasks, by_task_groups, with_a_deadline, by_hand])
def test_receive_and_send_are_coroutine_functions(
    use: Callable[[Receive, Send], Awaitable[None]],
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await use(receive, send)

    assert body_of(answer_of(app)) == b"done"


# WebSockets


def heard_of(app: ASGIApp, *lines: Any) -> Talk:
    """What a WebSocket client hears."""
    talks: list[Talk] = []

    async def main() -> None:
        site = Site(app)
        talks.append(Talk(Peer(lambda: site), lines))
        await talks[0].to_the_end()
        talks[0].between()
        await site.service.shutdown()

    asyncio.run(main())
    return talks[0]


def test_a_conversation_of_odd_messages() -> None:
    talk = heard_of(
        sends(
            {"type": Text("websocket.accept"), "headers": iter([[bytearray(b"x-a"), b"b"]])},
            {"type": "websocket.send", "text": Text("text")},
            {"type": "websocket.send", "bytes": Bytes(b"bytes")},
            {"type": "websocket.close", "code": Code.BYE, "reason": Text("why")},
        )
    )
    assert talk.heard == [ACCEPTED, ("text", "text"), ("bytes", b"bytes"), ("close", 4000, "why")]
    assert (b"x-a", b"b") in talk.headers


def test_a_close_without_code_is_a_normal_one() -> None:
    talk = heard_of(sends({"type": "websocket.accept"}, {"type": "websocket.close", "code": None}))
    assert talk.heard == [ACCEPTED, ("close", 1000, "")]


def test_a_denial_of_odd_messages() -> None:
    start = {"type": "websocket.http.response.start", "status": HTTPStatus.GONE}
    headers = ([memoryview(b"x-a"), bytearray(b"b")] for _ in range(1))
    body = {"type": "websocket.http.response.body", "body": bytearray(b"no")}
    talk = heard_of(sends({**start, "headers": headers}, body))
    assert talk.heard == [("rejected", 410), ("body", b"no")]
    assert (b"x-a", b"b") in talk.headers
