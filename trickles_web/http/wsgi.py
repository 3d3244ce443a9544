"""WSGI applications (PEP 3333) as ASGI 3. a2wsgi carries calls into threads, and answers back.

    event loop: Hosted -- request, its body read ahead --> WSGIResponder <-- messages -- Call.send
    thread:                     the application <-- Call.answer -- chunks --^

What a2wsgi leaves open of PEP 3333 is done here: the length of a chunked body, an input that reads
as a file does, paths byte by byte, a head that waits for the first of the body, files, and an
iterable that is closed when its client is gone. Each call has a thread to itself until it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar
from urllib.parse import unquote_to_bytes
from wsgiref.util import FileWrapper

from a2wsgi.wsgi import WSGIResponder

if TYPE_CHECKING:
    from trickles_web.http.scope import Message, Receive, Scope, Send

P = ParamSpec("P")
T = TypeVar("T")
Write = Callable[[bytes], object]
StartResponse = Callable[..., Write]
WSGIApp = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]
ExceptionInfo = tuple[type[BaseException], BaseException, TracebackType | None]

THREADS = 10
"""Calls at a time; a2wsgi's own default."""

READ_AHEAD = 16 << 20
"""Bytes of request body taken into memory before a call. The call reads what is beyond by itself,
and if that is chunked, its length is not known to it."""

MESSAGES_AHEAD = 10
"""Messages that a thread may be ahead of its client, beside what the response may hold."""

FILE_CHUNK = 65_536
"""Bytes of a file in one message."""


class Gone(ConnectionResetError):
    """What a call meets in its thread when its client is gone, or the server ends."""


class Hosted:
    """A WSGI application, to be called as an ASGI one. It has no lifespan of its own."""

    def __init__(
        self, app: WSGIApp, threads: int = THREADS, *, read_ahead: int = READ_AHEAD
    ) -> None:
        self._app = app
        self._threads = Threads(threads)
        self._read_ahead = read_ahead

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        call = Call(self._app, scope, receive, send)
        if not await call.read_ahead(self._read_ahead):
            return
        responder = WSGIResponder(call.answer, self._threads, MESSAGES_AHEAD)  # type: ignore[arg-type]
        watch = asyncio.get_running_loop().create_task(call.watch())
        try:
            with contextlib.suppress(Gone):
                await responder(call.request(), receive, call.send)  # type: ignore[arg-type]
            await call.finish()
        finally:
            call.end()
            watch.cancel()

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self._threads.end()
        await send({"type": "lifespan.shutdown.complete"})


class Call:
    """One request. `answer`, and what the application gets of it, run in a thread."""

    def __init__(self, app: WSGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        self._app = app
        self._scope = scope
        self._receive = receive
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._body = io.BytesIO()
        self._whole = asyncio.Event()
        self._head: tuple[str, list[tuple[str, str]]] | None = None
        self._begin: StartResponse | None = None
        self._write: Write | None = None
        self._file: SentFile | None = None
        self._error: Exception | None = None
        """What the server said to a message that it did not take."""
        self.over = False
        """Nobody wants what is still to come of the response."""

    # In the event loop

    async def read_ahead(self, most: int) -> bool:
        """Take the body, or `most` bytes of it and a little more. False: the client is gone."""
        while not self._whole.is_set() and self._body.tell() < most:
            part = await self.receive_part()
            if part is None:
                return False
            self._body.write(part)
            if not self._whole.is_set():
                await asyncio.sleep(0)  # a large body is no reason for others to wait
        return True

    async def receive_part(self) -> bytes | None:
        """The next part of the body, b"" after the last. None: the client is gone."""
        if self._whole.is_set():
            return b""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.over = True
            return None
        if not message.get("more_body", False):
            self._whole.set()
        part: bytes = message.get("body", b"")
        return part

    async def watch(self) -> None:
        """See the client go, which `receive` tells who has read the whole body."""
        await self._whole.wait()
        await self._receive()
        self.over = True

    def request(self) -> Scope:
        """The scope that a2wsgi makes the environ of."""
        # X_Name and X-Name would be one variable, and a proxy knows of the second only.
        headers = [(name, value) for name, value in self._scope["headers"] if b"_" not in name]
        kept = [(name, value) for name, value in headers if name != b"transfer-encoding"]
        if self._whole.is_set() and len(kept) < len(headers):
            # RFC 9112 §7.1.3: decoded, a body has a length, and is not chunked any more.
            kept.append((b"content-length", b"%d" % self._body.tell()))
            headers = kept
        return {**self._scope, "headers": headers}

    async def send(self, message: Message) -> None:
        """Pass a message of the response on. What the server raises is kept for `finish`.

        For a2wsgi's sender must live on: a thread that nobody listens to waits for ever.
        """
        if self._error is not None or (self._file and message["type"] == "http.response.body"):
            return
        try:
            await self._send(message)
        except Exception as error:
            self._error = error
            self.over = True

    async def finish(self) -> None:
        """The thread is done with the call. Raises what the server said to a message."""
        if self._error is not None:
            raise self._error
        if self._file is None:
            return
        if self._file.is_in_place():
            await self._send({"type": "http.response.pathsend", "path": self._file.path})
            return
        while chunk := self._file.read(FILE_CHUNK):
            await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
        await self._send({"type": "http.response.body", "body": b""})

    def end(self) -> None:
        """Nothing more is sent. A thread that outlives a cancellation meets Gone."""
        self.over = True
        if self._file is not None:
            self._file.close()

    # In the thread

    def answer(self, environ: dict[str, Any], begin: StartResponse) -> Answer:
        """The WSGI application that a2wsgi is given; `begin` is its start_response."""
        self._begin = begin
        self._body.seek(0)
        root = self._scope["root_path"]
        path = unquote_to_bytes(self._scope["raw_path"][len(root) :])
        environ |= {
            "SCRIPT_NAME": root.rstrip("/"),
            "PATH_INFO": path.decode("latin-1"),
            "wsgi.input": io.BufferedReader(Input(self)),
            "wsgi.errors": sys.stderr,
            "wsgi.file_wrapper": FileWrapper,
        }
        if not self._whole.is_set():
            environ["wsgi.input_terminated"] = True  # for those who know it: read to the end
        return Answer(self, self._app(environ, self._start))

    def body_part(self, buffer: bytearray | memoryview) -> int:
        """Read into `buffer`; the number of bytes, 0 at the end. Raises Gone."""
        count = self._body.readinto(buffer)
        while not count and not self._whole.is_set():
            coming = asyncio.run_coroutine_threadsafe(self.receive_part(), self._loop)
            part = coming.result()
            if part is None:
                raise Gone
            self._body = io.BytesIO(part)
            count = self._body.readinto(buffer)
        return count

    def _start(
        self,
        status: str,
        headers: list[tuple[str, str]],
        exc_info: ExceptionInfo | None = None,
    ) -> Write:
        """PEP 3333, "The start_response() Callable": a head may be replaced until it is sent."""
        if exc_info:
            try:
                if self._write is not None:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # it refers to this very frame
        elif self._head is not None:
            raise RuntimeError("start_response was called a second time, and without exc_info.")
        self._head = (status, list(headers))
        return self._write_directly

    def _write_directly(self, chunk: bytes) -> None:
        if self.over:
            raise Gone
        if chunk:
            self.open()(chunk)

    def open(self) -> Write:
        """Send the head unless it was sent. Returns what sends a chunk."""
        if self._write is None:
            if self._head is None or self._begin is None:
                raise RuntimeError("start_response was not called before the body began.")
            self._write = self._begin(*self._head)
        return self._write

    def send_file(self, wrapper: FileWrapper) -> bool:
        """Let the server send the file by its path, if it is one and all of it is meant."""
        if self._head is None or self._write is not None:
            return False
        if "http.response.pathsend" not in self._scope.get("extensions", ()):
            return False
        lengths = [value for name, value in self._head[1] if name.lower() == "content-length"]
        file = SentFile.opened(wrapper.filelike)
        if file is None:
            return False
        if lengths and lengths != [str(file.size)]:
            file.close()
            return False
        self.open()
        self._file = file
        return True


class Answer:
    """The iterable that a2wsgi walks through. It raises Gone where nobody wants the rest."""

    def __init__(self, call: Call, chunks: Iterable[bytes]) -> None:
        self._call = call
        self._chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        call = self._call
        if isinstance(self._chunks, FileWrapper) and call.send_file(self._chunks):
            return
        for chunk in self._chunks:
            if call.over:
                raise Gone
            if chunk:
                call.open()
                yield chunk
        call.open()  # an empty response has a head too

    def close(self) -> None:
        """PEP 3333: whatever happened, and once."""
        close = getattr(self._chunks, "close", None)
        if close is not None:
            close()


class Input(io.RawIOBase):
    """The request's body, under an io.BufferedReader."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._call.body_part(buffer)


class SentFile(io.FileIO):
    """A file of the application's, opened anew, for it may be closed and deleted by and by."""

    def __init__(self, descriptor: int, path: str) -> None:
        super().__init__(descriptor)
        self.path = path
        self._status = os.fstat(descriptor)
        self.size = self._status.st_size

    @classmethod
    def opened(cls, file: object) -> SentFile | None:
        """Its whole, if it is a plain file at its beginning, and has a name that leads to it."""
        if type(file) not in (io.BufferedReader, io.FileIO):
            return None
        assert isinstance(file, io.BufferedReader | io.FileIO)
        name = getattr(file, "name", None)
        try:
            if not isinstance(name, str) or file.tell():
                return None
            found = cls(os.dup(file.fileno()), os.path.abspath(name))
        except (OSError, ValueError):  # a pipe; a closed file
            return None
        if found.is_in_place():
            return found
        found.close()
        return None

    def is_in_place(self) -> bool:
        """Whether `path` still is this file."""
        try:
            return os.path.samestat(os.stat(self.path), self._status)
        except OSError:
            return False


class Threads(Executor):
    """Up to `most` daemon threads: a call that hangs must not keep the process from ending."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._started = 0
        self._idle = threading.Semaphore(0)
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()

    def submit(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """To be called in the event loop's thread only."""
        future: Future[T] = Future()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                self._idle.release()
                return
            try:
                result = call(*args, **kwargs)
            except BaseException as error:
                self._idle.release()
                if isinstance(error, StopIteration):  # no future takes that one
                    error = RuntimeError(f"application raised {error!r}")
                future.set_exception(error)
            else:
                self._idle.release()  # first, so that whoever gets the result finds a thread free
                future.set_result(result)

        self._work.put(work)
        if not self._idle.acquire(blocking=False) and self._started < self._most:
            self._started += 1
            name = f"WSGI {self._started}"
            threading.Thread(target=self._run, name=name, daemon=True).start()
        return future

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()
            del work

    def end(self) -> None:
        """No more calls: threads end when they are through with theirs."""
        for _ in range(self._started):
            self._work.put(None)
