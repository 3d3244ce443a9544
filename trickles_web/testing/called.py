"""The process of one replica: it calls the application, and does nothing else.

from the simulation   ("call", number, scope)      ("message", number, message)
                      ("sent", number, error)      ("cancel", number)
to the simulation     ("receive", number)          ("send", number, message)
                      ("returned", number, result) ("raised", number, traceback)
                      ("logged", 0, text)
"""

from __future__ import annotations

import asyncio
import logging
import socket
import traceback
from collections import deque
from collections.abc import Callable
from typing import Any

from trickles_web.http.scope import ASGIApp, Message, Scope
from trickles_web.net.application import hosted
from trickles_web.testing.frames import Frame, Frames, connect

WSGI_THREADS = 10
"""As trickles-serve has them."""

Write = Callable[..., None]


def run(app: Any, sock: socket.socket) -> None:
    """Call `app` as `sock` says, until it is closed."""
    asyncio.run(_Process(hosted(app, "auto", WSGI_THREADS)).serve(sock))


class _Process:
    """The calls in progress, and what the lifespan left for them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._calls: dict[int, _Call] = {}
        self._state: dict[str, Any] = {}
        self._frames: Frames | None = None
        self._ended = asyncio.Event()

    async def serve(self, sock: socket.socket) -> None:
        self._frames = await connect(sock, self._take, self._ended.set)
        logging.getLogger().addHandler(_Telling(self._frames.write))
        await self._ended.wait()

    def _take(self, frame: Frame) -> None:
        kind, number, *rest = frame
        if kind == "call":
            assert self._frames is not None
            call = self._calls[number] = _Call(number, self._frames.write)
            call.task = asyncio.create_task(self._call(call, *rest))
        elif (found := self._calls.get(number)) is not None:
            found.take(kind, *rest)

    async def _call(self, call: _Call, scope: Scope) -> None:
        # Each replica has a state of its own, as its lifespan left it.
        scope["state"] = self._state if scope["type"] == "lifespan" else self._state.copy()
        try:
            result = await self._app(scope, call.receive, call.send)
        except BaseException as error:
            call.write("raised", call.number, _traceback(error))
            if not isinstance(error, Exception):
                raise
        else:
            call.write("returned", call.number, None if result is None else repr(result))
        finally:
            del self._calls[call.number]


class _Call:
    """One call. `receive` and `send` are the application's."""

    def __init__(self, number: int, write: Write) -> None:
        self.number = number
        self.write = write
        self.task: asyncio.Task[None] | None = None
        self._coming: asyncio.Future[Message] | None = None
        self._sent: deque[asyncio.Future[None]] = deque()

    async def receive(self) -> Message:
        if self._coming is None:
            self._coming = asyncio.get_running_loop().create_future()
            self.write("receive", self.number)
        # Shielded, because a receive that is cancelled leaves its message to the next one.
        coming = self._coming
        message = await asyncio.shield(coming)
        if self._coming is coming:
            self._coming = None
        return message

    async def send(self, message: Message) -> None:
        """Returns when the server has taken it, and raises what that raises."""
        self.write("send", self.number, _portable(message))
        sent: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sent.append(sent)
        await sent

    def take(self, kind: str, content: Any = None) -> None:
        """What the simulation says of this call."""
        if kind == "message" and self._coming is not None:
            self._coming.set_result(content)
        elif kind == "sent":
            sent = self._sent.popleft()
            if sent.done():
                pass  # the sender was cancelled
            elif content is None:
                sent.set_result(None)
            else:
                sent.set_exception(content)
        elif kind == "cancel" and self.task is not None:
            self.task.cancel()


def _traceback(error: BaseException) -> str:
    """From the application on."""
    trace = error.__traceback__
    within = trace and trace.tb_next
    return "".join(traceback.format_exception(type(error), error, within))


def _portable(message: Message) -> dict[str, Any]:
    """As it can be pickled: iterables are read, views copied."""
    copied = dict(message)
    if "headers" in copied:
        copied["headers"] = [tuple(pair) for pair in copied["headers"]]
    if isinstance(copied.get("body"), memoryview):
        copied["body"] = bytes(copied["body"])
    return copied


class _Telling(logging.Handler):
    """Warnings and errors of the application, for the report of the test."""

    def __init__(self, write: Write) -> None:
        super().__init__(logging.WARNING)
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
        self._loop = asyncio.get_running_loop()
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        """From any thread."""
        if not self._loop.is_closed():
            text = self.format(record) + "\n"
            self._loop.call_soon_threadsafe(self._write, "logged", 0, text)
