"""Who has seen a client's continuations sends them from another address: nothing is lost by that.

An off-path attacker has old captures; what is bound to the client's address must stay the client's.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.net.test_endpoint import App, raw_socket, run, served, waiting
from trickles_web.config import ClientConfig
from trickles_web.net.endpoint import Endpoint
from trickles_web.transport import continuation as sealing
from trickles_web.transport import wire
from trickles_web.transport.flow import Flow
from trickles_web.transport.wire import Kind, kind_of

ELSEWHERE = "127.0.0.9"
BODY = os.urandom(3_000_000)
GET = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\nhi"


class Large:
    """Answers BODY at once."""

    def __init__(self) -> None:
        self.called = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.called += 1
        headers = [(b"content-length", b"%d" % len(BODY))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": BODY})


class Victim:
    """A client driven by hand, and an attacker with a socket at another address."""

    def __init__(self, endpoint: Endpoint, address: tuple[str, int]) -> None:
        self.endpoint = endpoint
        self.flow = Flow(os.urandom(8), ClientConfig(), time.monotonic())
        self.sock = raw_socket(address)
        self.thief = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.thief.bind((ELSEWHERE, 0))
        self.thief.connect(address)
        self.thief.setblocking(False)
        self.sent: list[bytes] = []
        self.carried: list[wire.Data] = []
        """DATA with continuations, as they came."""
        self.read = b""

    def close(self) -> None:
        self.sock.close()
        self.thief.close()

    async def go_on(self, condition: Callable[[], object]) -> None:
        """As a client does, until this holds."""
        async with asyncio.timeout(20):
            while not condition():
                for datagram in self.flow.transmit(time.monotonic()):
                    self.sent.append(datagram)
                    self.sock.send(datagram)
                await asyncio.sleep(0.001)
                for reply in waiting(self.sock):
                    if kind_of(reply) == Kind.DATA:
                        data = wire.decode_data(reply)
                        self.carried += [data] if data.continuation else []
                    self.flow.receive(reply, time.monotonic())
                self.read += self.flow.read()
                assert self.flow.error is None, self.flow.error

    async def steal(self, datagram: bytes) -> None:
        """The thief sends it, until it is not too soon for that."""
        name = Kind(kind_of(datagram)).name
        before = self.endpoint.counters()[name]
        async with asyncio.timeout(20):
            while self.endpoint.counters()[name] == before:
                self.thief.send(datagram)
                await asyncio.sleep(0.005)

    def request(self, *, received: int, request: bytes = b"") -> bytes:
        """An opening by attempt from what the victim has been given last."""
        data = self.carried[-1]
        c = sealing.parse(data.continuation)
        message = wire.Request(
            self.flow.id,
            opens=True,
            handed_on=False,
            repeated=False,
            attempt=1,
            size=0,
            proof=0,
            edition=data.edition,
            lost=-1,
            start=c.stop,
            received=received,
            continuation=data.continuation,
            wants=((received, wire.OPEN_END),),
            request_offset=c.request_wanted if request else 0,
            request=request,
        )
        return wire.encode_request(message, 1_200)


@asynccontextmanager
async def victim(app: Any, directory: Path, request: bytes) -> AsyncIterator[Victim]:
    async with served(app, directory) as (endpoint, address):
        found = Victim(endpoint, address)
        found.flow.write(request)
        try:
            yield found
        finally:
            found.close()


def test_a_cancel_from_elsewhere_ends_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        app = App()
        app.go_on.clear()
        async with victim(app, tmp_path, GET) as client:
            await client.go_on(lambda: client.endpoint.counters()["WAIT"])
            last = [wire.decode_request(d) for d in client.sent if kind_of(d) == Kind.REQUEST][-1]
            await client.steal(wire.encode_cancel(wire.Cancel(client.flow.id, last.continuation)))
            assert client.endpoint.parked == 1
            app.go_on.set()
            await client.go_on(lambda: client.flow.idle)
            assert (app.called, app.disconnected) == (1, 0)

    run(main())


def test_a_request_from_elsewhere_does_not_take_the_place_of_one_that_waits(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        app = App()
        app.go_on.clear()
        async with victim(app, tmp_path, GET) as client:
            await client.go_on(lambda: client.endpoint.counters()["WAIT"])
            waiting(client.sock)
            await client.steal(client.sent[-1])
            app.go_on.set()
            replies: list[bytes] = []
            async with asyncio.timeout(20):
                while not replies:  # without being asked again
                    await asyncio.sleep(0.001)
                    replies = waiting(client.sock)
            assert kind_of(replies[0]) == Kind.DATA
            # Who has really moved there can go on: with a continuation for that address.
            assert [kind_of(reply) for reply in waiting(client.thief)] == [Kind.ACK]

    run(main())


def test_a_request_from_elsewhere_does_not_say_what_a_client_has(tmp_path: Path) -> None:
    async def main() -> None:
        app = Large()
        async with victim(app, tmp_path, POST) as client:
            await client.go_on(lambda: len(client.read) > 100_000)
            await client.steal(client.request(received=len(BODY) - 10_000))
            await client.go_on(lambda: client.flow.idle)
            assert client.read.endswith(BODY)
            assert app.called == 1

    run(main())


def test_a_request_from_elsewhere_does_not_end_an_exchange(tmp_path: Path) -> None:
    async def main() -> None:
        app = Large()
        async with victim(app, tmp_path, POST) as client:
            await client.go_on(lambda: len(client.read) > 100_000)
            await client.steal(client.request(received=len(BODY) + 10_000, request=GET))
            await client.go_on(lambda: client.flow.idle)
            assert client.read.endswith(BODY)
            assert app.called == 1

    run(main())
