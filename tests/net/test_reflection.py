"""What comes to an address that proved nothing, by what was sent in its name: 3 times at most."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.net.test_endpoint import App, new_flow, run, served, until, waiting
from tests.net.test_stolen import ELSEWHERE, GET, Large, Victim
from trickles_web.net.endpoint import Endpoint, wall_clock_ms
from trickles_web.net.options import Config
from trickles_web.net.server import Server
from trickles_web.net.udp import UdpSocket
from trickles_web.transport import wire
from trickles_web.transport.wire import Kind, kind_of

MINUTE = 60_000
PREFERRED = "192.0.2.77:9"


async def brought(sock: socket.socket, endpoint: Endpoint, datagram: bytes) -> list[bytes]:
    """All that comes for one datagram, up to the answers of a later one."""
    received = endpoint.counters()["received"]
    sock.send(datagram)
    await until(lambda: endpoint.counters()["received"] > received)
    return waiting(sock)


def spoofed(address: tuple[str, int], host: str = ELSEWHERE) -> socket.socket:
    """A socket at another address. What comes to it would have come to a third party."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((host, 0))
    sock.connect(address)
    sock.setblocking(False)
    return sock


def size(datagrams: list[bytes]) -> int:
    return sum(map(len, datagrams))


@asynccontextmanager
async def preferring(
    app: Any, directory: Path, **more: Any
) -> AsyncIterator[tuple[Endpoint, tuple[str, int]]]:
    """A server that would rather be asked elsewhere: it sends one kind more than others."""
    secret = directory / "secret"
    if not secret.exists():
        secret.write_bytes(os.urandom(32))
        secret.chmod(0o600)
    config = Config(
        app=app,
        port=0,
        secret_file=str(secret),
        lifespan="off",
        preferred_address=PREFERRED,
        **more,
    )
    server = Server(config)
    task = asyncio.create_task(server.serve())
    try:
        await until(lambda: server.started or task.done())
        assert server.endpoint is not None
        yield server.endpoint, server.address
    finally:
        server.should_exit = True
        await task


@asynccontextmanager
async def robbed(directory: Path) -> AsyncIterator[tuple[Victim, socket.socket]]:
    """A client in the middle of a large answer, and a socket elsewhere."""
    async with served(Large(), directory) as (endpoint, address):
        client = Victim(endpoint, address)
        client.flow.write(GET)
        try:
            await client.go_on(lambda: len(client.read) > 100_000)
            yield client, client.thief
        finally:
            client.close()


def hello(token: bytes = b"", length: int = 1_200) -> bytes:
    message = wire.Hello(os.urandom(8), 0, 1_200, token, GET)
    return wire.encode_hello(message, length)


@pytest.mark.parametrize("padded", [0, 400, 1_200, 9_000])
def test_datagrams_of_any_kind_from_elsewhere(tmp_path: Path, padded: int) -> None:
    async def main() -> None:
        async with robbed(tmp_path) as (client, thief):
            blob = client.carried[-1].continuation
            opening = client.request(received=0)
            asked = wire.decode_request(opening)
            upload = wire.Upload(client.flow.id, 0, 10_000, None, blob, bytes(max(8, padded - 400)))
            kinds = {
                "HELLO": hello(length=max(1_200, padded)),
                "HELLO with another's token": hello(blob, max(1_200, padded)),
                "opening": wire.encode_request(asked, padded),
                "UPLOAD": wire.encode_upload(upload),
                "CANCEL": wire.encode_cancel(wire.Cancel(client.flow.id, blob)),
                "another version": b"\xf1" + bytes(max(1_200, padded)),
                "what servers send": b"\x18" + bytes(max(1_200, padded)),
                "as it was sent": client.sent[-1],
            }
            for kind, datagram in kinds.items():
                came = await brought(thief, client.endpoint, datagram)
                assert size(came) <= 3 * len(datagram), kind
                assert (kind == "what servers send") <= (not came)

    run(main())


@pytest.mark.parametrize("host", [ELSEWHERE, "127.0.0.1"])
def test_an_old_continuation_from_anywhere(tmp_path: Path, host: str) -> None:
    async def main() -> None:
        async with robbed(tmp_path) as (client, _):
            client.endpoint._clock = lambda: wall_clock_ms() + 2 * MINUTE
            opening = client.request(received=0)
            with spoofed(client.sock.getpeername(), host) as sock:
                came = await brought(sock, client.endpoint, opening)
            assert 0 < size(came) <= 3 * len(opening)

    run(main())


async def token(address: tuple[str, int], host: str) -> bytes:
    """What proves that this host was here before."""
    with spoofed(address, host) as sock:
        flow = new_flow()
        async with asyncio.timeout(20):
            while not flow.token:
                for datagram in flow.transmit(time.monotonic()):
                    sock.send(datagram)
                await asyncio.sleep(0.001)
                for reply in waiting(sock):
                    flow.receive(reply, time.monotonic())
        return flow.token


def test_a_parked_hello_and_its_late_answer_count_together(tmp_path: Path) -> None:
    async def main() -> None:
        app = App()
        async with preferring(app, tmp_path) as (endpoint, address):
            shown = await token(address, ELSEWHERE)
            app.go_on.clear()
            with spoofed(address) as sock:
                asked = hello(shown)
                came = await brought(sock, endpoint, asked)
                await until(lambda: endpoint.counters()["WAIT"])
                app.go_on.set()
                async with asyncio.timeout(20):
                    while not any(kind_of(reply) == Kind.DATA for reply in came):
                        await asyncio.sleep(0.001)
                        came += waiting(sock)
            assert {kind_of(reply) for reply in came} == {Kind.PREFERRED, Kind.ACK, Kind.DATA}
            assert size(came) <= 3 * len(asked)

    run(main())


def test_a_hello_that_is_passed_on_is_answered_by_one(tmp_path: Path) -> None:
    """Who passes it on says nothing: to the other nothing of the allowance is used."""

    async def main() -> None:
        store = f"dir:{tmp_path / 'run'}"
        async with (
            preferring(Large(), tmp_path, store=store) as (one, address),
            preferring(Large(), tmp_path, store=store),
        ):
            shown = await token(address, ELSEWHERE)
            one._service.runner.draining = True
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.bind((ELSEWHERE, 0))
                sock.setblocking(False)
                asked = hello(shown, 1_208)  # for three packets, and one PREFERRED
                sock.sendto(asked, address)
                came: list[bytes] = []
                async with asyncio.timeout(20):
                    while sum(kind_of(reply) == Kind.DATA for reply in came) < 3:
                        await asyncio.sleep(0.001)
                        came += waiting(sock)
            assert one.counters()["forwarded"] == 1
            assert size(came) <= 3 * len(asked)

    run(main())


def is_done(endpoint: Endpoint, received: int) -> bool:
    """Has it had so many datagrams, and sent all its answers?"""
    udp = endpoint._udp
    assert isinstance(udp, UdpSocket)
    return endpoint.counters()["received"] >= received and not udp._pacer.bytes


def test_two_servers_do_not_talk_to_each_other(tmp_path: Path) -> None:
    """What comes to one in the name of the other is answered, and nothing more follows."""

    async def main() -> None:
        async with (
            preferring(Large(), tmp_path) as (one, one_address),
            preferring(Large(), tmp_path) as (two, two_address),
        ):
            client = Victim(one, one_address)
            client.flow.write(GET)
            await client.go_on(lambda: len(client.read) > 100_000)
            blob, flow = client.carried[-1].continuation, client.flow.id
            datagrams = [
                hello(),
                hello(blob),
                client.request(received=0),
                client.sent[-1],
                wire.encode_upload(wire.Upload(flow, 0, 10_000, None, blob, bytes(800))),
                wire.encode_cancel(wire.Cancel(flow, blob)),
                *(bytes([first]) + os.urandom(1_300) for first in range(256)),
            ]
            client.close()
            for asked, named, address in ((one, two, one_address), (two, one, two_address)):
                before, other = asked.counters(), named.counters()
                udp = named._udp
                assert isinstance(udp, UdpSocket)
                for datagram in datagrams:
                    udp._socket.sendto(datagram, address)
                count = before["received"] + len(datagrams)
                await until(partial(is_done, asked, count))
                replies = asked.counters()["sent"] - before["sent"]
                assert replies > 100
                await until(partial(is_done, named, other["received"] + replies))
                assert named.counters()["sent"] == other["sent"]
                assert asked.counters()["received"] == count

    run(main())
