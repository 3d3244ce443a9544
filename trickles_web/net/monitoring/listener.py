"""HTTP on a TCP port, for operators. It has a thread and an event loop of its own, and bounds for
all that a client can make it keep: whatever comes here, serving goes on.

    /          the status page
    /events    its numbers, once a second (text/event-stream)
    /metrics   the counts in Prometheus's text format
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import threading
from collections.abc import Callable
from http import HTTPStatus
from importlib import resources
from types import TracebackType
from typing import Final, Self

from trickles_web.net.monitoring.exposition import CONTENT_TYPE, exposition
from trickles_web.net.monitoring.status import numbers
from trickles_web.net.monitoring.tallies import Tally
from trickles_web.net.sockets import endpoint_name, listening_tcp

logger = logging.getLogger("trickles.error")

LONGEST_HEAD: Final = 8_192
PATIENCE_S: Final = 5.0
"""For a request's head to be whole, and for an answer to be taken."""
EVERY_S: Final = 1.0
"""Between two events."""
MOST_CLIENTS: Final = 64
MOST_WATCHERS: Final = 32
"""Of them with the status page open: the others are for metrics."""

_REQUEST: Final = re.compile(rb"([A-Z]{1,16}) (/[\x21-\x7e]*) HTTP/1\.[01]\r\n")
_CLOSED_PAGE: Final = (
    "default-src 'none'; connect-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
)
"""Nothing from elsewhere."""


class Listener:
    """Answers while its context is entered."""

    def __init__(
        self,
        host: str,
        port: int,
        tallies: Callable[[], list[Tally]],
        patience_s: float = PATIENCE_S,
    ) -> None:
        """tallies: called in another thread. Raises BindError."""
        self._patience_s = patience_s
        self._socket = listening_tcp("--metrics", host, port)
        self._tallies = tallies
        self._page = resources.files(__package__).joinpath("status.html").read_bytes()
        self._loop = asyncio.SelectorEventLoop()
        self._stop = asyncio.Event()
        self._clients: set[asyncio.Task[None]] = set()
        self._watchers = 0
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        logger.info("Metrics and status on http://%s/", endpoint_name(*self.address))
        return self

    @property
    def address(self) -> tuple[str, int]:
        host, port = self._socket.getsockname()[:2]
        return host, port

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._met, sock=self._socket, limit=LONGEST_HEAD)
        try:
            await self._stop.wait()
        finally:
            # Accept no more, but only close when those that are accepted have become clients, and
            # are gone: asyncio leaves their sockets open otherwise.
            self._loop.remove_reader(self._socket.fileno())
            for client in self._clients:
                client.cancel()
            while others := asyncio.all_tasks() - {asyncio.current_task()}:
                await asyncio.wait(others)
            await asyncio.sleep(0)  # what they have aborted is closed in the next turn
            server.close()

    # -- one client -----------------------------------------------------------------------------

    async def _met(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._clients) >= MOST_CLIENTS or self._stop.is_set():
            writer.transport.abort()
            return
        self._clients.add(task)
        try:
            async with asyncio.timeout(self._patience_s):
                head = await _head_of(reader)
            await self._answer(head, writer)
            async with asyncio.timeout(self._patience_s):
                writer.close()
                await writer.wait_closed()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client is gone, or as good as that; or the server ends
        finally:
            writer.transport.abort()
            self._clients.discard(task)

    async def _answer(self, head: bytes, writer: asyncio.StreamWriter) -> None:
        request = _REQUEST.match(head)
        if request is None:
            status = HTTPStatus.BAD_REQUEST if head else HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            writer.write(_plain(status))
            return
        method, target = request.groups()
        whole = method == b"GET"
        if method not in (b"GET", b"HEAD"):
            writer.write(_plain(HTTPStatus.METHOD_NOT_ALLOWED, "Allow: GET, HEAD\r\n"))
            return
        match target.partition(b"?")[0]:
            case b"/":
                policy = f"Content-Security-Policy: {_CLOSED_PAGE}\r\n"
                writer.write(_response("text/html; charset=utf-8", self._page, policy, whole=whole))
            case b"/metrics":
                writer.write(_response(CONTENT_TYPE, exposition(self._tallies()), whole=whole))
            case b"/events" if self._watchers >= MOST_WATCHERS:
                writer.write(_plain(HTTPStatus.SERVICE_UNAVAILABLE, whole=whole))
            case b"/events":
                writer.write(_head(HTTPStatus.OK, "text/event-stream"))
                if whole:
                    await self._watch(writer)
            case _:
                writer.write(_plain(HTTPStatus.NOT_FOUND, whole=whole))

    async def _watch(self, writer: asyncio.StreamWriter) -> None:
        """Until the client has gone: that shows when it is written to."""
        self._watchers += 1
        try:
            while True:
                writer.write(b"data: %b\n\n" % json.dumps(numbers(self._tallies())).encode())
                async with asyncio.timeout(self._patience_s):
                    await writer.drain()
                await asyncio.sleep(EVERY_S)
        finally:
            self._watchers -= 1


async def _head_of(reader: asyncio.StreamReader) -> bytes:
    """A request up to its empty line; b"" if that is too far away."""
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        return b""


def _head(status: HTTPStatus, content_type: str, more: str = "") -> bytes:
    return (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {content_type}\r\n{more}"
        "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
    ).encode()


def _response(
    content_type: str,
    body: bytes,
    more: str = "",
    status: HTTPStatus = HTTPStatus.OK,
    *,
    whole: bool,
) -> bytes:
    """whole: with the body, not as for HEAD."""
    length = f"Content-Length: {len(body)}\r\n"
    return _head(status, content_type, length + more) + (body if whole else b"")


def _plain(status: HTTPStatus, more: str = "", *, whole: bool = True) -> bytes:
    body = f"{status.value} {status.phrase}\n".encode()
    return _response("text/plain; charset=utf-8", body, more, status, whole=whole)
