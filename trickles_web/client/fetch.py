"""One HTTP request over a stream, with h11 as the parser: what trickles-get is made of.

No redirects, cookies, proxies, decoding. Errors of the flow and of h11 pass through as they are.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from time import monotonic

import h11

READ_BYTES = 256 * 1024
"""As much as a flow hands over at once."""
MAX_HEAD_BYTES = 256 * 1024
"""Servers are trusted with more than h11's 16 KiB: cookies and policies grow."""
RATE_BURST_S = 0.25
"""What a rate limit lets be caught up after a stall, in seconds of the rate."""
RATE_SLICE_S = 0.1
"""Slow rates read in slices of this long, so that progress is seen to move."""

Header = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked."""

    method: str
    target: str
    headers: Sequence[Header]


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

    `received` counts body bytes, and `sent` holds the request head as it went out.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        limit: float = 0.0,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._clock = clock
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._limit = RateLimit(limit, clock())
        self._length: int | None = None
        self._method = ""
        self._counted = False
        """Is the body those bytes that the head counts?"""
        self._any = False
        self.sent = b""
        self.received = 0

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
        self._writer.write(self.sent + (http.send(h11.EndOfMessage()) or b""))

    async def head(self) -> Head:
        """The next response head. Raises EmptyReply, h11.RemoteProtocolError, FlowError."""
        event = await self._event()
        if isinstance(event, (h11.InformationalResponse, h11.Response)):
            if isinstance(event, h11.Response):
                self._length = _content_length(event)
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


def _content_length(response: h11.Response) -> int | None:
    for name, value in response.headers:
        if name == b"content-length":
            return int(value)
    return None
