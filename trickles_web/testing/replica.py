"""A replica as the simulation sees it: an ASGI application that is called in another process.

Its messages are passed on one by one, so that the application waits where the server would let it
wait, and sees the errors that the server would raise.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import socket
from typing import Any, Protocol

from trickles_web.errors import TricklesError
from trickles_web.http.scope import Receive, Scope, Send
from trickles_web.testing.frames import Frame, Frames, connect

Ended = tuple[str, Any]


class ApplicationFailed(TricklesError):
    """The application raised; str(error) says where, and is its traceback."""


class Host(Protocol):
    """The simulation, as a replica needs it."""

    def spawn(self) -> tuple[socket.socket, int]:
        """A new process for a replica: the socket to it, and its id."""

    def called(self, scope: Scope, number: int) -> bool:
        """The application is called there. True: the process dies before the answer is out."""

    def dies(self, number: int) -> None:
        """Kill that replica, soon; another process takes its place."""

    def crashed(self, number: int) -> None:
        """The process of that replica has ended by itself."""

    def woken(self) -> None:
        """The application has something to do, from now on."""

    def problem(self, text: str) -> None:
        """For the report: a traceback or a warning."""


class _Call:
    def __init__(self, number: int, receive: Receive, *, lifespan: bool, doomed: bool) -> None:
        self.number = number
        self.lifespan = lifespan
        self.receive = receive
        self.doomed = doomed
        self.inbox: asyncio.Queue[Ended] = asyncio.Queue()
        self.receiving: asyncio.Task[None] | None = None


class Replica:
    """See the module. It may be killed, and begin again with a new process."""

    def __init__(self, host: Host, number: int) -> None:
        self._host = host
        self._number = number
        self._calls: dict[int, _Call] = {}
        self._numbers = itertools.count(1)
        self._frames: Frames | None = None
        self._pid = 0
        self._lives = 0
        self._resting: set[int] = set()
        """Numbers of lifespan calls that wait for the end."""

    async def begin(self) -> None:
        sock, self._pid = self._host.spawn()
        self._calls.clear()
        self._resting.clear()
        self._lives += 1
        life = self._lives
        self._frames = await connect(sock, self._take, lambda: self._lost(life))

    def kill(self) -> None:
        """As SIGKILL does."""
        if self._pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            self._pid = 0
        if self._frames is not None:
            self._frames.close()
            self._frames = None

    @property
    def works(self) -> bool:
        """Is anything called that may answer by itself?"""
        return self._frames is not None and len(self._calls) > len(self._resting)

    def _lost(self, life: int) -> None:
        """The process of that life has ended. By itself, if it is the present one."""
        if self._frames is None or life != self._lives:
            return
        self._frames, self._pid = None, 0
        self._host.problem(f"replica {self._number}: its process has ended by itself\n")
        for call in self._calls.values():
            if call.lifespan and call.number not in self._resting:
                call.inbox.put_nowait(("raised", "its process has ended by itself\n"))
        self._host.crashed(self._number)

    # What the server calls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> object:
        if self._frames is None:
            raise ApplicationFailed("the process of this replica is not there")
        lifespan = scope["type"] == "lifespan"
        doomed = not lifespan and self._host.called(scope, self._number)
        call = _Call(next(self._numbers), receive, lifespan=lifespan, doomed=doomed)
        self._calls[call.number] = call
        self._host.woken()
        self._write("call", call.number, {k: v for k, v in scope.items() if k != "state"})
        try:
            return await self._follow(call, send)
        except asyncio.CancelledError:
            self._write("cancel", call.number)
            raise
        finally:
            self._calls.pop(call.number, None)
            self._resting.discard(call.number)
            if call.receiving is not None:
                call.receiving.cancel()

    async def _follow(self, call: _Call, send: Send) -> object:
        """What the application does, until it returns."""
        while True:
            kind, content = await call.inbox.get()
            if call.doomed and (kind != "send" or _is_last(content)):
                self._host.dies(self._number)
                await asyncio.Future()  # cancelled by that
            if kind == "returned":
                return content
            if kind == "raised":
                raise ApplicationFailed(f"replica {self._number}: {content}")
            if content["type"] == "lifespan.startup.complete":
                self._resting.add(call.number)
            await self._pass_on(call, content, send)

    async def _pass_on(self, call: _Call, message: dict[str, Any], send: Send) -> None:
        error = None
        try:
            await send(message)
        except Exception as raised:
            error = raised
        self._write("sent", call.number, error)

    # What the process says

    def _take(self, frame: Frame) -> None:
        kind, number, *rest = frame
        if kind == "logged":
            self._host.problem(f"replica {self._number}: {rest[0]}")
            return
        call = self._calls.get(number)
        if call is None:
            return  # it was cancelled
        if kind == "receive":
            call.receiving = asyncio.ensure_future(self._receive(call))
            return
        call.inbox.put_nowait((kind, rest[0]))

    async def _receive(self, call: _Call) -> None:
        message = await call.receive()
        self._resting.discard(call.number)
        self._host.woken()
        self._write("message", call.number, message)

    def _write(self, *frame: Any) -> None:
        if self._frames is not None:
            self._frames.write(*frame)


def _is_last(message: dict[str, Any]) -> bool:
    kind = message["type"]
    last = kind == "http.response.body" and not message.get("more_body", False)
    return last or kind == "http.response.pathsend"
