"""One HTTP request over a stream, with h11 as the parser: what trickles-get is made of.

No redirects, cookies, proxies, decoding. Errors of the flow and of h11 pass through as they are.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Protocol

import h11

from trickles_web.errors import FlowError

READ_BYTES = 256 * 1024
"""As much as a flow hands over at once."""
MAX_HEAD_BYTES = 256 * 1024
"""Servers are trusted with more than h11's 16 KiB: cookies and policies grow."""
RATE_BURST_S = 0.25
"""What a rate limit lets be caught up after a stall, in seconds of the rate."""
RATE_SLICE_S = 0.1
"""Slow rates read in slices of this long, so that progress is seen to move."""

Header = tuple[bytes, bytes]


class Body(Protocol):
    """What is sent behind a request's head, which says how it is framed."""

    @property
    def length(self) -> int | None:
        """Bytes; None: nobody knows."""

    def pieces(self) -> AsyncIterator[bytes]:
        """All of it, from its beginning at each call. Raises what reading it raises."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked."""

    method: str
    target: str
    headers: Sequence[Header]
    body: Body | None = None


@dataclass(frozen=True, slots=True)
class Head:
    """Status line and headers of a response, 1xx too; `length` is its body's, when it is told."""

    status: int
    reason: bytes
    version: bytes
    headers: Sequence[Header]
    length: int | None

    @property
    def final(self) -> bool:
        return self.status >= 200

    def get(self, name: bytes) -> bytes:
        """A header's first value; `name` in lower case. b"" if there is none."""
        return next((value for key, value in self.headers if key.lower() == name), b"")

    @property
    def etag(self) -> bytes:
        """The entity tag, if it is a strong one: then equal tags are equal bytes. Else b""."""
        tag = self.get(b"etag")
        return tag if tag[:1] == b'"' and tag[-1:] == b'"' and len(tag) > 1 else b""

    def lines(self) -> list[bytes]:
        """As it stood on the wire, spelling of names kept, without line ends."""
        status = b"HTTP/%s %d %s" % (self.version, self.status, self.reason)
        return [status.rstrip(), *(b"%s: %s" % header for header in self.headers)]


class EmptyReply(Exception):
    """The server ended the flow before the first byte of a response."""


class RateLimit:
    """A token bucket as a single number: the time up to which bytes are paid for."""

    def __init__(self, rate: float, now: float) -> None:
        """`rate` in bytes per second; 0 is no limit. `now` in seconds, as everywhere here."""
        self.rate = rate
        self._paid_until = now

    def read_bytes(self) -> int:
        """How much to read at once."""
        if not self.rate:
            return READ_BYTES
        return max(1, min(READ_BYTES, int(self.rate * RATE_SLICE_S)))

    def spend(self, size: int, now: float) -> float:
        """Account for `size` bytes read; returns the seconds to wait before reading on."""
        if not self.rate:
            return 0.0
        self._paid_until = max(self._paid_until, now - RATE_BURST_S) + size / self.rate
        return max(0.0, self._paid_until - now)


class Fetch:
    """One request and its response. `head()` until a final one, then `body()`, in this order.

    `received` counts body bytes, `uploaded` those of the request, and `sent` holds the request head
    as it went out. Whoever made the flow closes it; before that, `stop` ends what is sent still.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        limit: RateLimit | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """Several may share one `limit`, and are then together no faster."""
        self._reader = reader
        self._writer = writer
        self._clock = clock
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._limit = limit or RateLimit(0.0, clock())
        self._length: int | None = None
        self._method = ""
        self._counted = False
        """Is the body those bytes that the head counts?"""
        self._closes = False
        self._any = False
        self._whole = False
        self._upload: asyncio.Task[None] | None = None
        self.sent = b""
        self.received = 0
        self.uploaded = 0

    @property
    def missing(self) -> int | None:
        """Body bytes still to come, where the head told how many there are."""
        return None if self._length is None else self._length - self.received

    def request(self, request: Request) -> None:
        """Send it. Raises h11.LocalProtocolError for headers or a target that HTTP forbids."""
        http, self._method = self._http, request.method
        head = h11.Request(
            method=request.method, target=request.target, headers=list(request.headers)
        )
        self.sent = http.send(head) or b""
        if request.body is None:
            self._writer.write(self.sent + (http.send(h11.EndOfMessage()) or b""))
        else:
            self._writer.write(self.sent)
            self._upload = asyncio.get_running_loop().create_task(self._send(request.body))

    async def _send(self, body: Body) -> None:
        """Beside the reading: an answer may come before the request is whole."""
        http, writer = self._http, self._writer
        try:
            async for piece in body.pieces():
                writer.write(http.send(h11.Data(data=piece)) or b"")
                self.uploaded += len(piece)
                await writer.drain()
            writer.write(http.send(h11.EndOfMessage()) or b"")
        except (FlowError, h11.LocalProtocolError):
            pass  # the flow has ended, or the response has: who reads hears of it
        except Exception as error:
            self._reader.set_exception(error)

    def stop(self) -> None:
        """Send no more of the request."""
        if self._upload is not None:
            self._upload.cancel()

    @property
    def reusable(self) -> bool:
        """May the flow carry another request? When the response was read to its end."""
        sent = self._upload is None or (self._upload.done() and not self._upload.cancelled())
        return self._whole and sent and not self._reader.at_eof()

    async def head(self) -> Head:
        """The next response head. Raises EmptyReply, h11.RemoteProtocolError, FlowError."""
        event = await self._event()
        if isinstance(event, (h11.InformationalResponse, h11.Response)):
            if isinstance(event, h11.Response):
                self._length = _content_length(event)
                self._closes = _closes(event)
                bodiless = self._method == "HEAD" or event.status_code in (204, 304)
                coded = any(name == b"transfer-encoding" for name, _ in event.headers)
                self._counted = self._length is not None and not (bodiless or coded)
            return Head(
                event.status_code,
                bytes(event.reason),
                bytes(event.http_version),
                [(bytes(name), bytes(value)) for name, value in event.headers.raw_items()],
                self._length,
            )
        raise EmptyReply("the server ended the flow without a response")

    async def body(self) -> AsyncIterator[bytes]:
        """The body in pieces, none faster than the limit allows. Raises as `head` does."""
        async for data in self._counted_pieces() if self._counted else self._parsed_pieces():
            self.received += len(data)
            yield data
        self._whole = self._whole or self._http.their_state is h11.DONE

    async def _counted_pieces(self) -> AsyncIterator[bytes]:
        """Past h11, which has nothing to take apart here, and copies what it sees three times."""
        data = self._http.trailing_data[0]
        while self.missing:
            if data:
                yield data[: self.missing]
            if self.missing and not (data := await self._read()):
                raise h11.RemoteProtocolError(
                    "peer closed connection without sending complete message body "
                    f"(received {self.received} bytes, expected {self._length})"
                )
        self._whole = self._http.their_state is h11.SEND_BODY and not self._closes

    async def _parsed_pieces(self) -> AsyncIterator[bytes]:
        while isinstance(event := await self._event(), h11.Data):
            yield bytes(event.data)

    async def _event(self) -> object:
        while True:
            event = self._http.next_event()
            if event is not h11.NEED_DATA:
                return event
            data = await self._read()
            if not data and not self._any:
                raise EmptyReply("the server ended the flow without a response")
            self._any = True
            self._http.receive_data(data)

    async def _read(self) -> bytes:
        """Bytes of the flow, b"" at its end, once the limit allows the next."""
        data = await self._reader.read(self._limit.read_bytes())
        wait = self._limit.spend(len(data), self._clock())
        if wait:
            # Not reading is the limit: the flow's buffer fills, and it stops asking.
            await asyncio.sleep(wait)
        return data


def _closes(response: h11.Response) -> bool:
    """Does the flow end behind it?"""
    tokens = b",".join(value for name, value in response.headers if name == b"connection")
    return response.http_version < b"1.1" or b"close" in tokens.lower().replace(b" ", b"").split(
        b","
    )


def _content_length(response: h11.Response) -> int | None:
    for name, value in response.headers:
        if name == b"content-length":
            return int(value)
    return None
