"""One call of an ASGI 3 application for an HTTP request.

    expected --http.response.start--> started --last body, pathsend, or failure--> complete

The head is written with the first of the body, so until then an error can still become a 500. If
that does not come for a while, the head goes first: its client may wait for it before it goes on.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from operator import index
from typing import TYPE_CHECKING, Final

from trickles_web.http.checkpoints import FIRST_RUN, Checkpoint, Rerun, state_of
from trickles_web.http.files import FileResponse, file_progress
from trickles_web.http.framing import framing_of, plain, plain_headers
from trickles_web.http.pieces import LARGE, Pieces
from trickles_web.http.progress import Progress, ProgressError, encode
from trickles_web.http.responses import CONTINUE
from trickles_web.http.run import Run

if TYPE_CHECKING:
    from trickles_web.http.host import Host
    from trickles_web.http.request import Request
    from trickles_web.http.scope import Message, Scope
    from trickles_web.state.prefixes import Prefix
    from trickles_web.state.store import Key

TOO_EARLY: Final = 425
"""RFC 8470 §5.2: the application wants nothing of a request that anybody may repeat."""
BODY_CHUNK: Final = 65_536
"""Bytes of request body in one http.request message, and of a file read in one go."""

HEAD_AFTER_S: Final = 0.050
"""Longer than what brings a body takes to pass through middleware, even on a busy machine."""

logger = logging.getLogger("trickles.error")


class HttpRun(Run):
    """One call for an HTTP request."""

    __slots__ = (
        "_body_at",
        "_framing",
        "_head",
        "_headers",
        "_logged",
        "_resumable",
        "_resumed",
        "_slow",
        "_started",
        "_status",
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
        super().__init__(host, key, prefix, request, scope, p, now, again)
        self._body_at = 0
        self._framing = framing_of(host.config, request, p.date)
        self._status = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._head = b""
        self._resumed = again.checkpoint
        self._resumable = False
        self._slow = self._started = self._logged = False

    # The application's messages

    async def receive(self) -> Message:
        """http.request until the body is through, then http.disconnect when it is due."""
        while self._body_at >= 0 and not self.gone and not self.complete:
            chunk, more = self._next_piece() if self.intake is None else self._next_taken()
            if chunk or not more:
                if not more:
                    self._body_at = -1
                    self._request.drop_body()
                self._host.grown(self)
                return {"type": "http.request", "body": chunk, "more_body": more}
            await self._arrived()
        while not self.gone and not self.complete:
            await self._arrived()
        return {"type": "http.disconnect"}

    def _next_piece(self) -> tuple[bytes, bool]:
        """Of a request that was whole before the call: bytes, and whether there are more."""
        at, body = self._body_at, self._request.body
        chunk = body[at : at + BODY_CHUNK]
        self._body_at = at + len(chunk)
        return chunk, self._body_at < len(body)

    def _next_taken(self) -> tuple[bytes, bool]:
        """The same of an open one; no bytes, if none are here."""
        intake = self.intake
        assert intake is not None
        if self._request.expects_continue and not (
            intake.held > intake.start or self._head or self.data
        ):
            self.preface = len(CONTINUE)  # RFC 9110 §10.1.1: the application wants the body
            self._append(CONTINUE)
        self._request.expects_continue = False
        chunk = intake.read(BODY_CHUNK)
        if chunk:
            self._offer_room()
        return chunk, not intake.ended

    def _fail(self, status: int = 500) -> None:
        """A page if nothing was sent yet, else a response that breaks off."""
        if self.complete or self.gone:
            return
        if self.p.edition and self.available > self.p.response_start + self.preface:
            self._complete(failed=True)
            return
        self._log(status)
        self._page(status)

    def _log(self, status: int) -> None:
        """Once, as soon as it is certain what the client gets."""
        if not self._logged:
            self._logged = True
            self._host.started(self, status)

    def settle(self, token: Callable[[], bytes]) -> None:
        """Fix the edition: something is answered now."""
        super().settle(token)
        if self._started:
            self._log(self._status)

    def _complete(self, failed: bool = False) -> None:
        self._log(self._status)
        super()._complete(failed)

    def is_slow(self) -> None:
        self._slow = True
        if self._head:
            self._send_head_later()

    def _send_head_later(self) -> None:
        asyncio.get_running_loop().call_later(HEAD_AFTER_S, self._send_head)

    def _send_head(self) -> None:
        if self._head and not (self.complete or self.gone):
            self._write(b"")

    def _returned(self) -> None:
        what = "completing" if self._started else "starting"
        logger.error("ASGI callable returned without %s response.", what)
        self._fail()

    async def send(self, message: Message) -> None:
        """Take one message of the response. Raises RuntimeError on misuse."""
        if self.gone:
            return
        kind = message["type"]
        if self.complete:
            raise RuntimeError(
                f"Unexpected ASGI message '{kind}' sent, after response already completed."
            )
        if self._started:
            if kind == "http.response.body":
                chunk = plain(message.get("body") or b"")
                if message.get("more_body", False):
                    state = state_of(message) if self._resumable else None
                    self._write(self._framing.body(chunk))
                    self._mark(state)
                    await self._wait_for_room()
                else:
                    self._write_last(chunk)
            elif kind == "http.response.pathsend":
                await self._send_file(message)
            else:
                raise RuntimeError(f"Expected ASGI message 'http.response.body', but got '{kind}'.")
        else:
            if kind != "http.response.start":
                raise RuntimeError(
                    f"Expected ASGI message 'http.response.start', but got '{kind}'."
                )
            self._start(index(message["status"]), plain_headers(message.get("headers", ())))
            if self._slow:
                self._send_head_later()

    def _start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        if status == TOO_EARLY and self.early is not None:
            self.put_off()
            return
        self._head = self._framing.head(status, headers)
        self._status = status
        self._headers = headers
        encoded = any(name.lower() == b"content-encoding" for name, _ in headers)
        self._resumable = not (encoded or self.p.unsafe or self._framing.bodiless)
        if self._resumed is not None:
            self._go_on(self._resumed)
        self._started = True

    def _go_on(self, checkpoint: Checkpoint) -> None:
        """The head was sent by the call before."""
        framing = self._framing
        if not checkpoint.is_framed_as(framing, self._status) or not self._resumable:
            raise RuntimeError("The response is not framed as the one that it goes on with.")
        framing.written = checkpoint.written
        self._head = b""
        if framing.length is not None and not framing.chunked:
            self.known_end = self.joins + framing.length - framing.written

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
            self.known_end = self.available + len(head)
        elif framing.length is not None and not framing.chunked:
            self.known_end = self.available + len(head) + framing.length
        self._head = b""

    def _write_last(self, chunk: bytes) -> None:
        framing = self._framing
        data = self._headed(framing.body(chunk))
        end = framing.end()
        if self.data:
            self.data.append(data)
            self.data.append(end)
        else:
            self.data = Pieces(self.available, data + end)
        self._complete()

    def _write(self, data: bytes) -> None:
        """`data`, behind the head if that is still to be written."""
        self._append(self._headed(data))

    def _headed(self, data: bytes) -> bytes:
        """`data`, behind the head if that is still to be written; a long one stays as it is."""
        if not self._head:
            return data
        head = self._head
        self._head_is_out(head)
        if len(data) < LARGE:
            return head + data
        self.data.append(head)
        return data

    # Files

    async def _send_file(self, message: Message) -> None:
        """`path`, and of it the `trickles.length` bytes from `trickles.offset` on, if given."""
        if self._framing.written:
            raise RuntimeError("http.response.pathsend after http.response.body.")
        path, files = os.fsencode(message["path"]), self._host.files
        head, self._head = self._head, b""  # which is not to leave before the file is known
        await files.examined(path)
        if self.gone:
            return
        size, valid = files.look(path)
        if self._framing.bodiless:
            self._head = head
            self._write_last(b"")
            return
        offset = message.get("trickles.offset", 0)
        part = range(offset, offset + message.get("trickles.length", size - offset))
        if not 0 <= part.start <= part.stop <= size:
            raise RuntimeError("http.response.pathsend outside of the file.")
        if not head or self.preface or self._is_encoded():
            self._head = head
            await self._stream_file(path, valid, part)
            return
        self._framing = framing_of(self._host.config, self._request, self.p.date)
        head = self._framing.head(self._status, self._headers, len(part))
        self._end_request()
        closes = self._framing.closes or self.p.closes
        p = file_progress(self.p, path, valid, head, part, closes)
        try:
            response = FileResponse(p, encode(p), files, self.authorised_at, self.heard)
        except ProgressError:
            self._head = head
            await self._stream_file(path, valid, part)
            return
        self.p = p
        self.known_end = p.response_end
        self._log(self._status)
        self._finish(response)

    def _is_encoded(self) -> bool:
        return any(name.lower() == b"transfer-encoding" for name, _ in self._headers)

    async def _stream_file(self, path: bytes, valid: bytes, part: range) -> None:
        """A file whose path and head are too long to seal goes through memory, in pieces."""
        files, at = self._host.files, part.start
        while at < part.stop and not self.gone:
            length = min(BODY_CHUNK, part.stop - at)
            await files.examined(path, valid)
            piece = bytes(files.read(path, valid, at, length, self._host.now()))
            self._write(self._framing.body(piece))
            at += length
            await self._wait_for_room()
        if not self.gone:
            self._write_last(b"")
