"""One GET from several replicas at once: each sends stripes of the file, over flows of its own.

    download = Striped(request, [("10.0.0.1", 8000), ("10.0.0.2", 8000)])
    try:
        head = await download.head()
        async for data in download.body():
            ...
    finally:
        download.close()

The body comes in order, with at most `stripes.WINDOW_BYTES` in memory. The first replica that
answers decides what is fetched; all parts are of the version that it named, by strong entity tag
and length, or `VersionsDiffer` is raised. If a response says neither, or is small, or its server
does no ranges, the one flow that brought its head brings its body as well.

What a replica owes when it dies is fetched from the others; it is tried again meanwhile. The
download fails, with the last replica's error, when each of them has failed twice with nothing
arriving from any in between.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from time import monotonic

import h11

from trickles_web.client.fetch import READ_BYTES, EmptyReply, Fetch, Head, RateLimit, Request
from trickles_web.client.streams import open_connection
from trickles_web.client.stripes import Stripe, Stripes
from trickles_web.client.tokens import TokenStore
from trickles_web.client.url import join_authority
from trickles_web.config import ClientConfig
from trickles_web.errors import FlowError, ResponseTruncated, VersionsDiffer

SMALL_BYTES = 1 << 20
"""Bodies up to this come from one replica: sharing them would cost more than it gains."""
FLOWS_EACH = 2
"""To each replica: while one begins anew, which costs a round trip and a part of its congestion
window, the other one fills the link."""
STAGGER_S = 0.5
"""The next replica is asked for the head, too, when those before it are silent for this long."""
RETRY_S, LONGEST_RETRY_S = 0.25, 5.0
"""Pause before a failed replica is tried again, doubled with each failure in a row."""
MOST_FAILURES = 2
"""In a row, of every replica: the download has failed."""
LOOK_S = 0.1
"""An idle reader looks so often whether another one has become slow."""

Address = tuple[str, int]
_CONTENT_RANGE = re.compile(rb"bytes (\d+)-(\d+)/(\d+)")


def content_range(head: Head) -> tuple[int, int, int] | None:
    """(start, stop, whole length) of a 206; None if it does not say."""
    found = _CONTENT_RANGE.fullmatch(head.get(b"content-range").strip())
    if found is None:
        return None
    first, last, whole = map(int, found.groups())
    return (first, last + 1, whole) if first <= last < whole else None


def config_for_each(config: ClientConfig, host: str) -> ClientConfig:
    """For a flow to one of several replicas, which are all `host` to who verifies certificates."""
    private = config.private
    if private is not None and private.server_name is None:
        private = dataclasses.replace(private, server_name=host)
    return dataclasses.replace(config, private=private, replicas=(), follow_preferred=False)


@dataclasses.dataclass(slots=True)
class _Link:
    """A flow to one replica, and the response on it."""

    fetch: Fetch
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def close(self) -> None:
        self.fetch.stop()
        self.writer.transport.abort()


@dataclasses.dataclass(frozen=True, slots=True)
class _Version:
    """What every part has to be of, and who said so."""

    etag: bytes
    length: int
    teller: str

    def __str__(self) -> str:
        return f"{self.teller} has {self.etag.decode('latin-1')} of {self.length} bytes"


class Striped:
    """See the module. Used as a Fetch is: `head`, then `body`."""

    def __init__(
        self,
        request: Request,
        addresses: Sequence[Address],
        *,
        config: ClientConfig | None = None,
        tokens: TokenStore | None = None,
        limit: RateLimit | None = None,
    ) -> None:
        """`request`: a GET without a body, sent to each of `addresses` (host, port) as it is.

        Of `config`, what sends a flow elsewhere does not count: each is to stay with its replica.
        """
        self._request = request
        self._addresses = list(addresses)
        self._readers = range(len(self._addresses) * FLOWS_EACH)
        """Flows, numbered so that the first ones are to different replicas."""
        self._config = config_for_each(config or ClientConfig(), addresses[0][0])
        self._tokens = tokens
        self._limit = limit or RateLimit(0.0, monotonic())
        self._links: dict[int, _Link] = {}
        self._first = 0
        self._head: Head | None = None
        self._lacking: tuple[int, Head] | None = None
        """What a replica said that has no such file, or cannot serve it."""
        self._version: _Version | None = None
        self._stripes: Stripes
        self._ready: dict[int, bytes] = {}
        """Arrived, by offset."""
        self._changed = asyncio.Event()
        self._failures: dict[int, int] = {}
        """In a row, by replica,"""
        self._hopeless: dict[int, int] = {}
        """and since anything arrived from any of them."""
        self._error: Exception | None = None
        self.sent = b""
        self.received = 0
        self.uploaded = 0
        self.from_each: list[int] = [0] * len(self._addresses)
        """Bytes of the body, by replica."""
        self.flows = 0
        """Opened so far."""

    @property
    def missing(self) -> int | None:
        """Body bytes still to come, where the head told how many there are."""
        length = None if self._head is None else self._head.length
        return None if length is None else length - self.received

    def close(self) -> None:
        """Let go of all flows; servers at work are told."""
        while self._links:
            self._links.popitem()[1].close()

    # ---- the head

    async def head(self) -> Head:
        """The final head, of the replica that answers first, but for one that lacks the file.

        Raises what the first of them failed with, if all fail: as Fetch.head, or gaierror.
        """
        asking: dict[asyncio.Task[Head], int] = {}
        errors: list[Exception] = []
        try:
            for index in [*range(len(self._addresses)), None]:
                if index is not None:
                    asking[asyncio.create_task(self._ask(index))] = index
                while asking and self._head is None:
                    timeout = None if index is None else STAGGER_S
                    done, _ = await asyncio.wait(
                        asking, timeout=timeout, return_when=asyncio.FIRST_COMPLETED
                    )
                    if not done:
                        break
                    for task in done:
                        self._answered(task, asking.pop(task), errors)
                if self._head is not None:
                    return self._head
            if self._lacking is None:
                raise errors[0]
            self._first, self._head = self._lacking
            return self._head
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
            for index in [index for index in self._links if index != self._first or not self._head]:
                self._links.pop(index).close()

    def _answered(self, task: asyncio.Task[Head], index: int, errors: list[Exception]) -> None:
        error = task.exception()
        if isinstance(error, Exception):
            errors.append(error)
        elif error is not None:
            raise error
        elif task.result().status == 404 or task.result().status >= 500:
            self._lacking = self._lacking or (index, task.result())
        elif self._head is None:
            self._first, self._head = index, task.result()

    async def _ask(self, index: int) -> Head:
        return await self._send(index, self._request)

    async def _send(self, index: int, request: Request) -> Head:
        """Over the replica's flow, which is opened if there is none; its final head."""
        link = self._links.get(index)
        if link is None:
            host, port = self._address(index)
            self.flows += 1
            reader, writer = await open_connection(
                host, port, config=self._config, limit=READ_BYTES, tokens=self._tokens
            )
        else:
            reader, writer = link.reader, link.writer
        link = _Link(Fetch(reader, writer, limit=self._limit), reader, writer)
        self._links[index] = link
        link.fetch.request(request)
        self.sent = self.sent or link.fetch.sent
        while not (head := await link.fetch.head()).final:
            pass
        return head

    # ---- the body

    async def body(self) -> AsyncIterator[bytes]:
        """In order. Raises as Fetch.body does, and VersionsDiffer."""
        assert self._head is not None
        part = self._part(self._head)
        if part is None:
            async for data in self._links[self._first].fetch.body():
                self.received += len(data)
                self.from_each[self._first] += len(data)
                yield data
            return
        start, stop = part
        self._stripes = Stripes(start, stop, len(self._readers))
        # The response that is here already begins in front.
        stripe = self._stripes.take(self._first, monotonic())
        tasks = [
            asyncio.create_task(self._work(index, stripe if index == self._first else None))
            for index in self._readers
        ]
        try:
            while self._stripes.floor < stop:
                if self._error is not None:
                    raise self._error
                data = self._ready.pop(self._stripes.floor, b"")
                if data:
                    self._stripes.floor += len(data)
                    self.received += len(data)
                    yield data
                else:
                    self._changed.clear()
                    await self._changed.wait()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _part(self, head: Head) -> tuple[int, int] | None:
        """The bytes of the file that the response is of; None if they cannot be shared out."""
        length, teller = head.length, self._name(self._first)
        if not head.etag or length is None or length <= SMALL_BYTES or len(self._addresses) < 2:
            return None
        if head.status == 200 and b"bytes" in head.get(b"accept-ranges").lower():
            self._version = _Version(head.etag, length, teller)
            return 0, length
        told = content_range(head) if head.status == 206 else None
        if told is None or told[1] - told[0] != length:
            return None
        self._version = _Version(head.etag, told[2], teller)
        return told[0], told[1]

    def _name(self, index: int) -> str:
        return join_authority(*self._address(index))

    def _address(self, index: int) -> Address:
        return self._addresses[index % len(self._addresses)]

    async def _work(self, index: int, begun: Stripe | None) -> None:
        """One replica's part of the download, until it is cancelled.

        begun: the stripe of the response that is here already.
        """
        try:
            if begun is not None:
                with self._held(index):
                    await self._read(index, begun)
            while True:
                stripe = self._stripes.take(index, monotonic())
                if stripe is None:
                    await asyncio.sleep(LOOK_S)
                    continue
                with self._held(index):
                    await self._fetch(index, stripe)
                failures = self._failures.get(index, 0)
                if failures:
                    await asyncio.sleep(min(LONGEST_RETRY_S, RETRY_S * 2.0 ** (failures - 1)))
        except Exception as error:
            self._end(error)

    @contextlib.contextmanager
    def _held(self, index: int) -> Iterator[None]:
        """While a stripe is fetched; errors of this replica alone end here."""
        try:
            yield
        except VersionsDiffer:
            raise
        except (OSError, EmptyReply, h11.RemoteProtocolError) as error:
            self._failed(index, error)
        finally:
            self._stripes.release(index)

    def _failed(self, index: int, error: Exception) -> None:
        link = self._links.pop(index, None)
        if link is not None:
            link.close()
        for counts in (self._failures, self._hopeless):
            counts[index] = counts.get(index, 0) + 1
        if all(self._hopeless.get(each, 0) >= MOST_FAILURES for each in self._readers):
            self._end(error)

    def _end(self, error: Exception) -> None:
        self._error = self._error or error
        self._changed.set()

    async def _fetch(self, index: int, stripe: Stripe) -> None:
        """Ask for a stripe, and read it."""
        version = self._version
        assert version is not None
        mine = {b"range", b"if-range"}
        headers = [header for header in self._request.headers if header[0].lower() not in mine]
        headers += [
            (b"Range", b"bytes=%d-%d" % (stripe.at, stripe.stop - 1)),
            (b"If-Range", version.etag),
        ]
        head = await self._send(index, dataclasses.replace(self._request, headers=headers))
        self._check(index, head, stripe.at)
        await self._read(index, stripe)

    def _check(self, index: int, head: Head, start: int) -> None:
        """Raises VersionsDiffer, or ResponseTruncated for what this replica cannot do."""
        version, name = self._version, self._name(index)
        assert version is not None
        told = content_range(head)
        length = told[2] if told is not None else head.length
        if head.status in (200, 206) and (head.etag, length) != (version.etag, version.length):
            theirs = _Version(head.etag or b"no strong ETag", length or 0, name)
            raise VersionsDiffer(
                f"replicas hold different versions of {self._request.target}: {version}, {theirs}"
            )
        if head.status != 206 or told is None or told[0] != start:
            raise ResponseTruncated(
                f"{name} does not send its part of {self._request.target}: status {head.status}"
            )

    async def _read(self, index: int, stripe: Stripe) -> None:
        """The response, until the stripe's end; its flow is kept if both end at one place."""
        fetch = self._links[index].fetch
        async for data in fetch.body():
            at = stripe.at
            counted = self._stripes.arrived(index, len(data), monotonic())
            if counted:
                self._ready[at] = data if counted == len(data) else data[:counted]
                self.from_each[index % len(self._addresses)] += counted
                self._failures.pop(index, None)
                self._hopeless.clear()
                self._changed.set()
            if counted < len(data) or (not stripe.left and fetch.missing):
                break
        if stripe.left:
            raise FlowError(f"{self._name(index)} sent less than it was asked for")
        if not fetch.reusable:
            self._links.pop(index).close()
