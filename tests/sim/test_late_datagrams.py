"""What comes late, or twice, or for somebody else: whole flows in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path as Directory

import pytest

from trickles_web.http.intake import WINDOW
from trickles_web.http.scope import ASGIApp, Receive, Scope, Send
from trickles_web.resumable import resumable_stream
from trickles_web.testing.cluster import OPEN, Client, Cluster, Process
from trickles_web.testing.network import Path
from trickles_web.transport.private.cover import DOWN, is_private
from trickles_web.transport.private.flow import PrivateFlow
from trickles_web.transport.wire import START_BYTES, Kind, decode_ack

pytestmark = pytest.mark.usefixtures("each_kind")

BUFFERED = replace(OPEN, request_buffering=True)


def counting(calls: list[str]) -> ASGIApp:
    """Answers with how many bytes of body there were."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        calls.append(scope["path"])
        size = 0
        while True:
            message = await receive()
            size += len(message.get("body", b""))
            if not message.get("more_body"):
                break
        length = [(b"content-length", b"100")]
        await send({"type": "http.response.start", "status": 200, "headers": length})
        await send({"type": "http.response.body", "body": b"%0100d" % size})

    return app


class Sender(Client):
    """Sends one request after the other, each when the one before is answered."""

    def __init__(self, cluster: Cluster, *requests: bytes) -> None:
        super().__init__(cluster)
        self.got = [b"" for _ in requests]
        self._requests = requests

    async def play(self) -> None:
        for number, request in enumerate(self._requests):
            self.write(request)
            await self.answered(number)

    async def answered(self, number: int) -> None:
        while not (self.flow.idle or self.flow.error or self.flow.eof):
            self.got[number] += self.read()
            await self.wait()
        self.got[number] += self.read()


class Delayed(Sender):
    """Whatever `hold` says comes (again) after so many seconds."""

    hold: Callable[[bytes], float | None] = staticmethod(lambda datagram: None)
    again = False

    def opened(self, datagram: bytes) -> bytes:
        """What it says."""
        if isinstance(self.flow, PrivateFlow) and is_private(datagram):
            return self.flow._secret_keys.unseal(DOWN, datagram, START_BYTES)
        return datagram

    def receive(self, datagram: bytes) -> None:
        delay = self.hold(datagram)
        if delay is not None:
            self.cluster.clock.after(delay, lambda: Client.receive(self, datagram))
        if delay is None or self.again:
            super().receive(datagram)


def post(size: int, *lines: str) -> bytes:
    head = ["POST /upload HTTP/1.1", "Host: t", f"Content-Length: {size}", *lines, "", ""]
    return "\r\n".join(head).encode() + b"x" * size


GET = b"GET /page HTTP/1.1\r\nHost: t\r\n\r\n"


@pytest.mark.parametrize("after", [0.02, 0.06, 0.1, 0.3])
def test_an_acknowledgement_of_the_exchange_before(after: float, tmp_path: Directory) -> None:
    """It would have replaced the opener by one that every server calls closed."""
    calls: list[str] = []
    cluster = Cluster(1, counting(calls), tmp_path, Path(delay=0.02), config=BUFFERED)
    client = Delayed(cluster, post(30_000), GET)
    client.again = True

    def held(datagram: bytes) -> float | None:
        if datagram[0] & 15 == Kind.ACK and decode_ack(client.opened(datagram)).held:
            return after
        return None

    client.hold = held
    cluster.run(60)
    assert [got[-3:] for got in client.got] == [b"000", b"000"]
    assert calls == ["/upload", "/page"]


def test_a_100_that_comes_late(tmp_path: Directory) -> None:
    """The client has begun to upload without it, and goes on for longer than a minute."""
    calls: list[str] = []
    path = Path(delay=0.02, rate=30_000, queue=60_000)
    cluster = Cluster(1, counting(calls), tmp_path, path, config=BUFFERED)

    class Impatient(Delayed):
        async def play(self) -> None:
            head, _, body = post(2_000_000, "Expect: 100-continue").partition(b"\r\n\r\n")
            self.write(head + b"\r\n\r\n")
            await asyncio.sleep(1)
            self.write(body)
            await self.answered(0)

    client = Impatient(cluster, b"")

    def late(datagram: bytes) -> float | None:
        now = cluster.clock.now
        return 2.55 - now if datagram[0] & 15 == Kind.DATA and now < 2.5 else None

    client.hold = late
    cluster.run(600)
    rest = client.got[0].removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert rest.startswith(b"HTTP/1.1 200 OK\r\n")
    assert rest.endswith(b"%0100d" % 2_000_000)
    assert calls == ["/upload"]


@pytest.mark.parametrize("inner", [b"GET /admin HTTP/1.1\r\nHost: t\r\n\r\n", b""])
def test_the_rest_of_an_open_request_is_no_request(inner: bytes, tmp_path: Directory) -> None:
    """Its answer was there before it was whole, to the last byte of its Content-Length."""
    calls: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        calls.append(scope["path"])
        length = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": length})
        await send({"type": "http.response.body", "body": b"ok", "more_body": True})
        await asyncio.sleep(3)
        await send({"type": "http.response.body", "body": b""})

    cluster = Cluster(1, app, tmp_path, Path(delay=0.05, rate=8e6))
    body = b"x" * WINDOW + inner + b"x" * 300_000
    head = b"POST /upload HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n" % len(body)
    client = Sender(cluster, head + body)
    cluster.run(100)
    assert calls == ["/upload"]
    assert client.got[0].endswith(b"ok")
    assert (client.flow.eof, client.flow.error) == (True, None)


def test_a_resumable_stream_whose_process_dies_before_its_first_event(tmp_path: Directory) -> None:
    """Its head was sent already."""

    @resumable_stream("text/event-stream")
    async def app(scope: Scope, state: bytes | None):  # type: ignore[no-untyped-def]
        for number in range(int(state or 0), 5):
            await asyncio.sleep(1)
            yield f"data: {number}\n\n", str(number + 1)

    cluster = Cluster(1, app, tmp_path, Path(delay=0.02), 2, config=BUFFERED)

    def kill() -> None:
        owner = cluster.owner()
        owner.kill()
        cluster.processes.remove(owner)

    cluster.clock.after(0.6, kill)
    client = Sender(cluster, b"GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n")
    cluster.run(200)
    assert client.flow.error is None
    assert [client.got[0].count(b"data: %d\n" % number) for number in range(5)] == [1] * 5


def test_an_opener_that_is_old_to_a_server_started_meanwhile(tmp_path: Directory) -> None:
    """Its one answer is lost; acknowledgements of the upload have brought younger continuations."""
    calls: list[str] = []
    cluster = Cluster(1, counting(calls), tmp_path, Path(delay=0.02, rate=2e5), config=BUFFERED)
    client = Delayed(cluster, post(3_000_000))
    lost: list[bytes] = []

    def first_answer(datagram: bytes) -> float | None:
        if datagram[0] & 15 != Kind.DATA or len(lost) >= 3:
            return None
        lost.append(datagram)
        return 1000.0

    client.hold = first_answer

    def restart() -> None:
        [process] = cluster.processes
        process.kill()
        cluster.processes[:] = [Process(cluster)]

    cluster.clock.after(6, restart)
    cluster.run(600)
    assert client.flow.error is None
    assert client.got[0].endswith(b"%0100d" % 3_000_000)
    assert len(lost) == 3
    assert calls == ["/upload"]
