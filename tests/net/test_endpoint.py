"""The endpoint between real sockets, the real transport and a real application."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from trickles_web.client import open_connection
from trickles_web.client.tokens import TokenStore
from trickles_web.config import ClientConfig
from trickles_web.net.endpoint import LOADED_AFTER, Endpoint
from trickles_web.net.options import Config
from trickles_web.net.parking import Parking
from trickles_web.net.server import Server
from trickles_web.net.udp import DRAIN_DATAGRAMS
from trickles_web.trains import SOL_UDP, UDP_SEGMENT
from trickles_web.transport.flow import Flow
from trickles_web.transport.origin import pack_origin
from trickles_web.transport.wire import (
    Code,
    Kind,
    decode_ack,
    decode_refused,
    decode_upload,
    flow_of,
    kind_of,
)

REQUEST = b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"


class App:
    """Answers the SHA-256 of the body, when it may."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.called = self.disconnected = 0
        self.clients: list[tuple[str, int]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        self.called += 1
        self.clients.append(scope["client"])
        digest, more = hashlib.sha256(), True
        while more:
            message = await receive()
            digest.update(message["body"])
            more = message["more_body"]
        waiting = asyncio.ensure_future(self.go_on.wait())
        gone = asyncio.ensure_future(receive())
        await asyncio.wait((waiting, gone), return_when=asyncio.FIRST_COMPLETED)
        self.disconnected += not waiting.done()
        waiting.cancel()
        gone.cancel()
        body = digest.hexdigest().encode()
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


@asynccontextmanager
async def served(app: Any, directory: Path) -> AsyncIterator[tuple[Endpoint, tuple[str, int]]]:
    secret = directory / "secret"
    secret.write_bytes(os.urandom(32))
    secret.chmod(0o600)
    server = Server(Config(app=app, port=0, secret_file=str(secret), lifespan="off"))
    task = asyncio.create_task(server.serve())
    try:
        await until(lambda: server.started or task.done())
        assert server.endpoint is not None
        yield server.endpoint, server.address
        assert server.endpoint.counters()["internal error"] == 0
    finally:
        server.should_exit = True
        await task


async def exchange(address: tuple[str, int], request: bytes = REQUEST) -> bytes:
    reader, writer = await open_connection(*address, tokens=TokenStore(None))
    writer.write(request)
    async with asyncio.timeout(20):
        answer = await reader.read()
    writer.close()
    return answer


EMPTY = hashlib.sha256().hexdigest().encode()


def test_a_slow_answer_is_waited_for_and_comes_when_it_is_ready(tmp_path: Path) -> None:
    async def main() -> None:
        app = App()
        app.go_on.clear()
        async with served(app, tmp_path) as (endpoint, address):
            client = asyncio.create_task(exchange(address))
            await until(lambda: endpoint.counters()["WAIT"])
            assert endpoint.parked == 1 and app.called == 1
            app.go_on.set()
            assert (await client).endswith(EMPTY)
            assert endpoint.parked == 0 and app.called == 1

    run(main())


def test_a_quick_answer_needs_no_wait(tmp_path: Path) -> None:
    async def main() -> None:
        app = App()
        async with served(app, tmp_path) as (endpoint, address):
            for _ in range(20):
                assert (await exchange(address)).endswith(EMPTY)
            assert endpoint.parked == 0
            assert endpoint.counters()["internal error"] == 0
            assert app.called == 20

    run(main())


@pytest.mark.parametrize("size", [10, 2_000, 1_000_000])
def test_a_request_of_many_datagrams_is_answered_when_it_is_whole(
    tmp_path: Path, size: int
) -> None:
    async def main() -> None:
        app = App()
        body = os.urandom(size)
        head = (
            b"POST / HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % size
        )
        async with served(app, tmp_path) as (endpoint, address):
            answer = await exchange(address, head + body)
            assert answer.endswith(hashlib.sha256(body).hexdigest().encode())
            assert app.called == 1
            assert endpoint.parked == 0

    run(main())


def test_a_client_that_leaves_frees_its_place(tmp_path: Path) -> None:
    async def main() -> None:
        app = App()
        app.go_on.clear()
        async with served(app, tmp_path) as (endpoint, address):
            reader, writer = await open_connection(*address, tokens=TokenStore(None))
            writer.write(REQUEST)
            await until(lambda: endpoint.parked)
            writer.transport.abort()
            await until(lambda: app.disconnected)
            assert endpoint.parked == 0
            assert await reader.read() == b""

    run(main())


def test_an_exception_stays_with_its_datagram_and_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        app = App()
        async with served(app, tmp_path) as (endpoint, address):
            endpoint._clock = broken
            with raw_socket(address) as client:
                for _ in range(3):
                    client.send(hello())
                await until(lambda: endpoint.counters()["internal error"] == 3)
            endpoint._clock = lambda: time.time_ns() // 1_000_000
            assert (await exchange(address)).endswith(EMPTY)
            endpoint.handled.clear()

    def broken() -> int:
        raise ValueError("a broken clock")

    run(main())
    assert caplog.text.count("Traceback") == 1


# -- datagram by datagram


def raw_socket(address: tuple[str, int]) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    sock.connect(address)
    sock.setblocking(False)
    return sock


def new_flow(origin: bytes = b"", token: bytes = b"") -> Flow:
    flow = Flow(os.urandom(8), ClientConfig(), time.monotonic(), token=token, origin=origin)
    flow.write(REQUEST)
    return flow


def hello() -> bytes:
    [datagram] = new_flow().transmit(time.monotonic())
    assert kind_of(datagram) == Kind.HELLO
    return datagram


def waiting(sock: socket.socket) -> list[bytes]:
    found = []
    while True:
        try:
            found.append(sock.recv(65_535))
        except BlockingIOError:
            return found


def test_strangers_are_served_after_all_others(tmp_path: Path) -> None:
    async def main() -> None:
        async with served(App(), tmp_path) as (_, address):
            with raw_socket(address) as client:
                flow = new_flow()
                client.send(flow.transmit(time.monotonic())[0])
                replies: list[bytes] = []
                while not replies:
                    await asyncio.sleep(0.001)
                    replies = waiting(client)
                flow.receive(replies[0], time.monotonic())
                [request] = flow.transmit(time.monotonic())
                assert kind_of(request) == Kind.REQUEST
                for _ in range(20):  # all in the socket's buffer before the server's next turn
                    client.send(hello())
                client.send(request[:60] + b"altered" + request[67:])  # answered without waiting
                while len(replies) < 1 + 21:
                    await asyncio.sleep(0.001)
                    replies += waiting(client)
                assert [kind_of(reply) for reply in replies[1:]] == [Kind.REFUSED] + 20 * [Kind.ACK]

    run(main())


def test_under_load_strangers_get_the_short_reply(tmp_path: Path) -> None:
    async def main() -> None:
        app = App()
        async with served(app, tmp_path) as (endpoint, address):
            with raw_socket(address) as client:
                count = DRAIN_DATAGRAMS * (LOADED_AFTER + 3)
                sent = [hello() for _ in range(count)]
                for datagram in sent:
                    client.send(datagram)
                replies: list[bytes] = []
                while len(replies) < count:
                    await asyncio.sleep(0.001)
                    replies += waiting(client)
                assert endpoint.counters()["short reply under load"] > 0
                assert {kind_of(reply) for reply in replies} == {Kind.ACK}
                assert max(map(len, replies)) <= 1200
                assert app.called == 0  # no code runs for who has proved nothing
            assert (await exchange(address)).endswith(EMPTY)

    run(main())


def test_under_load_who_has_a_token_is_answered(tmp_path: Path) -> None:
    async def main() -> None:
        app = App()
        async with served(app, tmp_path) as (endpoint, address):
            with raw_socket(address) as client:
                first = new_flow()
                client.send(first.transmit(time.monotonic())[0])
                while not first.token:
                    await asyncio.sleep(0.001)
                    for reply in waiting(client):
                        first.receive(reply, time.monotonic())
                count = DRAIN_DATAGRAMS * (LOADED_AFTER + 3)
                for _ in range(count):
                    client.send(new_flow(token=first.token).transmit(time.monotonic())[0])
                replies: list[bytes] = []
                while len(replies) < count:
                    await asyncio.sleep(0.001)
                    replies += waiting(client)
                assert endpoint.counters()["short reply under load"] == 0
                await until(lambda: app.called == count)  # a slow one is told to wait first

    run(main())


def test_the_short_reply_knows_for_whom_a_gateway_speaks(tmp_path: Path) -> None:
    async def main() -> None:
        app = App()
        async with served(app, tmp_path) as (endpoint, address):
            with raw_socket(address) as client:
                clients = [
                    ("192.0.2.9", port) for port in range(DRAIN_DATAGRAMS * (LOADED_AFTER + 3))
                ]
                flows = {flow.id: flow for flow in (new_flow(pack_origin(*c)) for c in clients)}
                for flow in flows.values():
                    client.send(flow.transmit(time.monotonic())[0])
                while not all(flow.eof for flow in flows.values()):
                    await asyncio.sleep(0.001)
                    now = time.monotonic()
                    for reply in waiting(client):
                        flows[flow_of(reply)].receive(reply, now)
                    for flow in flows.values():
                        assert flow.error is None
                        for datagram in flow.transmit(now):
                            client.send(datagram)
                assert endpoint.counters()["short reply under load"] > 0
                assert set(app.clients) == set(clients)

    run(main())


def test_without_room_to_park_a_request_waits_at_the_client(tmp_path: Path) -> None:
    async def main() -> None:
        app = App()
        app.go_on.clear()
        async with served(app, tmp_path) as (endpoint, address):
            endpoint._parking = Parking(most=0)
            client = asyncio.create_task(exchange(address))
            await until(lambda: endpoint.counters()["no room to park"] >= 2)
            assert endpoint.parked == 0 and app.called == 1
            app.go_on.set()
            assert (await client).endswith(EMPTY)
            assert app.called == 1

    run(main())


async def uploading(client: socket.socket, body: bytes) -> list[bytes]:
    """The first UPLOADs of a flow that sends `body`."""
    flow = Flow(os.urandom(8), ClientConfig(), time.monotonic())
    head = b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n" % len(body)
    flow.write(head + body)
    while True:
        datagrams = flow.transmit(time.monotonic())
        uploads = [datagram for datagram in datagrams if kind_of(datagram) == Kind.UPLOAD]
        if uploads:
            return uploads
        for datagram in datagrams:
            client.send(datagram)
        await asyncio.sleep(0.001)
        for reply in waiting(client):
            flow.receive(reply, time.monotonic())


async def replies_to(client: socket.socket, uploads: list[bytes], count: int) -> list[bytes]:
    """`uploads` all at once, as the kernel takes a train, and so many answers that are not WAIT."""
    size = max(map(len, uploads)).to_bytes(2, sys.byteorder)
    client.sendmsg([b"".join(uploads)], [(SOL_UDP, UDP_SEGMENT, size)])
    replies: list[bytes] = []
    async with asyncio.timeout(20):
        while len(replies) < count:
            await asyncio.sleep(0.001)
            replies += [reply for reply in waiting(client) if kind_of(reply) != Kind.WAIT]
    return replies


def test_a_train_of_uploads_is_acknowledged_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with served(App(), tmp_path) as (endpoint, address):
            with raw_socket(address) as client:
                uploads = await uploading(client, os.urandom(1_000_000))
                sent = [decode_upload(upload) for upload in uploads]
                assert len(sent) > 4
                [reply] = await replies_to(client, uploads, 1)
                ack = decode_ack(reply)
                assert ack.numbers == tuple(upload.number for upload in sent)
                assert ack.held == sent[-1].offset + len(sent[-1].request)
                assert ack.continuation
                assert endpoint.counters()["UPLOAD"] == len(sent)

    run(main())


def test_of_a_train_that_contradicts_itself_the_liar_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with served(App(), tmp_path) as (_, address):
            with raw_socket(address) as client:
                uploads = await uploading(client, os.urandom(1_000_000))
                [before, altered, after] = uploads[1:4]
                [reply] = await replies_to(client, [altered], 1)
                assert decode_ack(reply).numbers == (decode_upload(altered).number,)
                lie = altered[:-1] + bytes([altered[-1] ^ 1])
                replies = await replies_to(client, [before, lie, after], 3)
                kinds = [kind_of(reply) for reply in replies]
                assert kinds == [Kind.ACK, Kind.REFUSED, Kind.ACK]
                refused = decode_refused(replies[1])
                echo = hashlib.blake2b(lie, digest_size=8).digest()
                assert (refused.code, refused.echo) == (Code.CONFLICT, echo)

    run(main())


def test_counters_name_reasons(tmp_path: Path) -> None:
    async def main() -> None:
        async with served(App(), tmp_path) as (endpoint, address):
            with raw_socket(address) as client:
                for datagram in (b"", b"\x11", b"\x18" + bytes(50), b"\x12" + bytes(200)):
                    client.send(datagram)
                await until(lambda: endpoint.counters()["received"] == 4)
            counters = endpoint.counters()
            assert counters["truncated"] >= 1 and counters["kind"] == 1
            assert sum(counters.values()) >= 8

    run(main())
