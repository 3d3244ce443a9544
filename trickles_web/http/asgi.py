"""One call of an ASGI 3 application: scope, receive, send, and the response it produces.

    EXPECTED --http.response.start--> STARTED --last body, pathsend, or failure--> COMPLETE

The head is written with the first of the body, so until then an error can still become a 500. A run
lives while the application does; its response, once complete, is handed over as a smaller object.
"""

from __future__ import annotations

import asyncio
import logging
import os
from enum import IntEnum
from typing import TYPE_CHECKING

from trickles_web.http.checkpoints import FIRST_RUN, Checkpoint, Rerun, state_of
from trickles_web.http.files import FileResponse, file_progress
from trickles_web.http.framing import error_page, framing_of
from trickles_web.http.progress import Progress, ProgressError, encode
from trickles_web.http.responses import Finished, Growing
from trickles_web.state.backing import memory_bytes

if TYPE_CHECKING:
    from trickles_web.http.host import Host
    from trickles_web.http.request import Request
    from trickles_web.http.scope import ASGIApp, Message, Scope
    from trickles_web.state.prefixes import Prefix
    from trickles_web.state.store import Key

BODY_CHUNK = 65_536
"""Bytes of request body in one http.request message, and of a file read in one go."""

RUN_OVERHEAD = 4096
"""Bytes that a call costs beside its data: task, coroutine, context, scope, and the run itself."""

logger = logging.getLogger("trickles.error")


class Stage(IntEnum):
    """How far the application's response has come."""

    EXPECTED = 0
    STARTED = 1
    COMPLETE = 2


class Run(Growing):
    """One application call. Also a Response while it is running (see the transport's contract)."""

    __slots__ = (
        "_body_at",
        "_closed",
        "_framing",
        "_head",
        "_headers",
        "_host",
        "_request",
        "_resumable",
        "_resumed",
        "_room",
        "_status",
        "_told",
        "allowed",
        "announced",
        "expected",
        "gone",
        "heard",
        "hopeless",
        "parked",
        "prefix",
        "scope",
        "stage",
        "stopping",
        "task",
    )

    def __init__(
        self,
        host: Host,
        key: Key,
        prefix: Prefix,
        request: Request,
        scope: Scope,
        p: Progress,
        now: int,
        again: Rerun = FIRST_RUN,
    ) -> None:
        """prefix: of its client. now: wall-clock ms."""
        super().__init__(key, p, now // 1000)
        p.closes = request.closes
        self._host = host
        self._request = request
        self._body_at = 0
        self._framing = framing_of(host.config, request, p.date)
        self._status = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._head = b""
        self._resumed = again.checkpoint
        self._resumable = False
        self._closed: asyncio.Event | None = None
        self._room: asyncio.Event | None = None
        self._told = False
        self.prefix = prefix
        self.scope = scope
        self.stage = Stage.EXPECTED
        self.allowed = host.config.response_buffer_bytes
        self.heard = now
        """Wall-clock ms of the client's last datagram about this run."""
        self.parked = -1
        """Stream offset beyond which a parked request wants bytes, -1 = nobody waits."""
        self.gone = False
        """The client has left: nothing is sent any more, the application runs on."""
        self.expected = again.expected
        """A re-run that must come out alike is held back until it is whole."""
        self.hopeless = False
        """It cannot come out alike any more."""
        self.announced = False
        """Other processes know of it."""
        self.stopping = False
        self.task: asyncio.Task[None] | None = None

    @property
    def size(self) -> int:
        body = memory_bytes(self._request.body)
        return RUN_OVERHEAD + self._request.size + super().size + body

    def leave_body(self) -> None:
        """Nobody reads what is left of the request's body."""
        self._request.drop_body()

    def trim(self, received: int) -> bool:
        """Note what the client has, and let the application go on."""
        trimmed = super().trim(received)
        if self._room is not None and self.waiting <= self.allowed:
            self._room.set()
        return trimmed

    def leave(self) -> None:
        """The client is gone."""
        self.gone = True
        self.data = b""
        self.part = None
        self._request.drop_body()
        self._host.grown(self)
        self._wake()

    def _wake(self) -> None:
        if self._closed is not None:
            self._closed.set()
        if self._room is not None:
            self._room.set()

    # The application's call

    async def call(self, app: ASGIApp) -> None:
        """Run the application to its end, whatever that is."""
        try:
            result = await app(self.scope, self.receive, self.send)
        except BaseException as error:
            if self.stopping or isinstance(error, KeyboardInterrupt):
                self.leave()  # silence: the client asks again, and another process answers
                raise
            logger.error("Exception in ASGI application\n", exc_info=error)
            self._fail()
            return
        if result is not None:
            logger.error("ASGI callable should return None, but returned '%s'.", result)
            self._fail()
        elif self.stage is not Stage.COMPLETE and not self.gone:
            what = "starting" if self.stage is Stage.EXPECTED else "completing"
            logger.error("ASGI callable returned without %s response.", what)
            self._fail()

    def _fail(self) -> None:
        """A 500 if nothing was sent yet, else a response that breaks off."""
        if self.stage is Stage.COMPLETE or self.gone:
            return
        if self.p.edition:
            self._complete(failed=True)
            return
        config = self._host.config
        if self.stage is Stage.EXPECTED:
            self._host.started(self, 500)
        self._framing = framing_of(config, self._request, self.p.date)
        self.p.closes = self._framing.closes
        self.data = error_page(
            500,
            head_only=self._framing.head_only,
            date=self.p.date if config.date_header else None,
            server=config.server_header,
            closes=self._framing.closes,
            text="Internal Server Error",
        )
        self.base = self.p.response_start
        self.part = None
        self._complete()

    async def receive(self) -> Message:
        """http.request until the body is through, then http.disconnect when it is due."""
        if self._body_at >= 0 and not self.gone and self.stage is not Stage.COMPLETE:
            at = self._body_at
            chunk = self._request.body[at : at + BODY_CHUNK]
            more = at + len(chunk) < len(self._request.body)
            self._body_at = at + len(chunk) if more else -1
            if not more:
                self._request.drop_body()
                self._host.grown(self)
            return {"type": "http.request", "body": chunk, "more_body": more}
        if not self.gone and self.stage is not Stage.COMPLETE:
            if self._closed is None:
                self._closed = asyncio.Event()
            await self._closed.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Take one message of the response. Raises RuntimeError on misuse."""
        if self.gone:
            return
        kind = message["type"]
        if self.stage is Stage.STARTED:
            if kind == "http.response.body":
                chunk = message.get("body", b"")
                if message.get("more_body", False):
                    state = state_of(message) if self._resumable else None
                    self._write(self._framing.body(chunk), state)
                    await self._wait_for_room()
                else:
                    self._write_last(chunk)
            elif kind == "http.response.pathsend":
                await self._send_file(message)
            else:
                raise RuntimeError(f"Expected ASGI message 'http.response.body', but got '{kind}'.")
        elif self.stage is Stage.EXPECTED:
            if kind != "http.response.start":
                raise RuntimeError(
                    f"Expected ASGI message 'http.response.start', but got '{kind}'."
                )
            self._start(message["status"], list(message.get("headers", ())))
        else:
            raise RuntimeError(
                f"Unexpected ASGI message '{kind}' sent, after response already completed."
            )

    def _start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self._head = self._framing.head(status, headers)
        self._status = status
        self._headers = headers
        encoded = any(name.lower() == b"content-encoding" for name, _ in headers)
        self._resumable = not (encoded or self.p.unsafe or self._framing.bodiless)
        if self._resumed is not None:
            self._go_on(self._resumed)
        self.stage = Stage.STARTED
        self._host.started(self, status)

    def _go_on(self, checkpoint: Checkpoint) -> None:
        """The head was sent by the call before."""
        framing = self._framing
        if not checkpoint.is_framed_as(framing, self._status) or not self._resumable:
            raise RuntimeError("The response is not framed as the one that it goes on with.")
        framing.written = checkpoint.written
        self._head = b""
        if framing.length is not None and not framing.chunked:
            self.end = self.joins + framing.length - framing.written

    def _mark(self, state: bytes | None) -> None:
        """The state after all that was written, or that there is none."""
        framing, length = self._framing, self._framing.length
        if state is not None:
            framed = (framing.chunked, framing.closes, -1 if length is None else length)
            at = (self.p.exchange, self._status, *framed, framing.written)
            self.mark(Checkpoint(*at, state).encode())
        elif self.checkpoints is not None and self.checkpoints.lapses(self.available):
            self.p.kind = self._kind

    def _head_is_out(self, head: bytes) -> None:
        """From here on the end may be known: by Content-Length, or because there is no body."""
        framing = self._framing
        self.p.closes = framing.closes
        if framing.bodiless:
            self.end = self.p.response_start + len(head)
        elif framing.length is not None and not framing.chunked:
            self.end = self.p.response_start + len(head) + framing.length
        self._head = b""

    def _write_last(self, chunk: bytes) -> None:
        framing = self._framing
        data = framing.body(chunk) + framing.end()
        if self._head:
            self.data = self._head + data
            self._head_is_out(self._head)
        else:
            self.data += data
        self._complete()

    def _write(self, data: bytes, state: bytes | None = None) -> None:
        if self._head:
            self.data = bytearray(self._head)
            self._head_is_out(self._head)
        self.data += data
        self._mark(state)
        self.allowed = self._host.grown(self)
        if self.parked >= 0 and not self._told:
            # Deferred: an application that is about to finish is answered as a whole.
            self._told = True
            asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        self._told = False
        if 0 <= self.parked < self.available and self.expected is None:
            self._host.ready(self)

    async def _wait_for_room(self) -> None:
        """Backpressure: return when the client has taken enough (or never will)."""
        while self.waiting > self.allowed and not self.gone:
            if self.expected is not None:
                self.hopeless = True
                self.leave()
                self._host.ready(self)
                return
            if self._room is None:
                self._room = asyncio.Event()
            self._room.clear()
            await self._room.wait()

    def _complete(self, failed: bool = False) -> None:
        self.failed = failed
        if not failed:
            self.end = self.available
        if not self.p.edition:
            self.name_by_content()
        self._finish(self.finished())

    def _finish(self, response: Finished | FileResponse) -> None:
        self.stage = Stage.COMPLETE
        self._request.drop_body()
        self._host.completed(self, response)
        self._wake()
        if self.parked >= 0:
            self._host.ready(self)

    # Files

    async def _send_file(self, message: Message) -> None:
        """`path`, and of it the `trickles.length` bytes from `trickles.offset` on, if given."""
        if not self._head:
            raise RuntimeError("http.response.pathsend after http.response.body.")
        path, files = os.fsencode(message["path"]), self._host.files
        await files.examined(path)
        if self.gone:
            return
        size, valid = files.look(path)
        if self._framing.bodiless:
            self._write_last(b"")
            return
        offset = message.get("trickles.offset", 0)
        part = range(offset, offset + message.get("trickles.length", size - offset))
        if not 0 <= part.start <= part.stop <= size:
            raise RuntimeError("http.response.pathsend outside of the file.")
        head, encoded = self._head, self._is_encoded()
        if not encoded:
            self._framing = framing_of(self._host.config, self._request, self.p.date)
            head = self._framing.head(self._status, self._headers, len(part))
        p = file_progress(self.p, path, valid, head, part, self._framing.closes)
        try:
            if encoded:
                raise ProgressError("the application chose its own framing")
            response = FileResponse(p, encode(p), files, self.authorised_at, self.heard)
        except ProgressError:
            self._head = head
            await self._stream_file(path, valid, part)
            return
        self.p = p
        self.end = p.response_end
        self._finish(response)

    def _is_encoded(self) -> bool:
        return any(name.lower() == b"transfer-encoding" for name, _ in self._headers)

    async def _stream_file(self, path: bytes, valid: bytes, part: range) -> None:
        """A file whose path and head are too long to seal goes through memory, in pieces."""
        files, at = self._host.files, part.start
        while at < part.stop and not self.gone:
            length = min(BODY_CHUNK, part.stop - at)
            await files.examined(path, valid)
            self._write(self._framing.body(files.read(path, valid, at, length, self._host.now())))
            at += length
            await self._wait_for_room()
        if not self.gone:
            self._write_last(b"")
