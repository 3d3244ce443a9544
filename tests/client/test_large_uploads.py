"""Uploads larger than what a client keeps in memory, from programs and through the gateway."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import tempfile
from typing import Any

import pytest

from tests.client.application import pattern
from tests.client.conftest import Run
from tests.client.test_gateway import gateway_to, tcp_to
from tests.client.test_streams import HOST, answer, closed, get, post, transport_of
from trickles_web.client import open_connection
from trickles_web.client.spill import MEMORY_BYTES
from trickles_web.config import ClientConfig
from trickles_web.errors import FlowError, FlowRefused

pytestmark = pytest.mark.live

BODY = pattern(2 * MEMORY_BYTES)
ANSWER = (200, hashlib.sha256(BODY).hexdigest().encode())


def test_one_write_of_everything_lies_on_disk(run: Run[Any], server_port: int) -> None:
    async def main() -> None:
        reader, writer = await open_connection(HOST, server_port)
        kept = transport_of(writer)._driver._kept
        for _ in range(2):
            writer.write(post("/digest", BODY))
            assert kept.on_disk
            assert await answer(reader) == ANSWER
            # The answer may come a little before the word that the exchange is over.
            while not transport_of(writer).idle:
                await asyncio.sleep(0.01)
            assert not kept.on_disk
        writer.write(post("/digest", BODY))
        await closed(writer)
        assert not kept.on_disk

    run(main())


def test_no_room_on_disk_shows_on_draining_and_reading(
    run: Run[Any], server_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/no/such/directory")

    async def main() -> None:
        reader, writer = await open_connection(HOST, server_port)
        writer.write(post("/digest", BODY))
        with pytest.raises(FlowError, match="TMPDIR"):
            await writer.drain()
        with pytest.raises(FlowError, match="TMPDIR"):
            await reader.read()
        writer.close()
        with pytest.raises(FlowError, match="TMPDIR"):
            await writer.wait_closed()

    async def endless() -> None:
        _, writer = await open_connection(HOST, server_port)
        writer.write(b"POST /digest HTTP/1.1\r\nHost: test\r\nContent-Length: 9000000\r\n\r\n")
        while True:
            writer.write(BODY[:1000])
            await writer.drain()

    run(main())
    with pytest.raises(FlowError, match="TMPDIR"):
        run(endless())


def test_no_room_on_disk_resets_the_tcp_connection(
    run: Run[Any], server_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/no/such/directory")

    async def main() -> None:
        async with gateway_to(server_port) as gateway, tcp_to(gateway) as (reader, writer):
            writer.write(post("/digest", BODY))
            with pytest.raises(ConnectionResetError):
                await reader.read()

    run(main())


def test_a_refused_upload_stops_its_writer(run: Run[Any], server_port: int) -> None:
    async def main() -> None:
        reader, writer = await open_connection(HOST, server_port)
        writer.write(b"POST /digest HTTP/1.1\r\nHost: test\r\nContent-Length: 9000000000\r\n\r\n")

        async def write_on() -> None:
            while True:
                writer.write(BODY[:100_000])
                await writer.drain()

        writing = asyncio.ensure_future(write_on())
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 413 ")
        with pytest.raises(ConnectionResetError):
            await writing
        writer.close()
        with pytest.raises(FlowRefused):
            await writer.wait_closed()

    run(main())


def test_the_gateway_takes_no_more_than_the_flow(run: Run[Any], server_port: int) -> None:
    """Behind a response that is not read, too: a client may go on sending for ever."""

    size = 12_000_000

    async def main() -> None:
        client = ClientConfig(receive_buffer_bytes=MEMORY_BYTES)
        async with gateway_to(server_port, client=client) as gateway:
            # A bounded window, so that the kernels cannot swallow the whole response.
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 128 * 1024)
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, gateway.addresses[0])
            reader, writer = await asyncio.open_connection(sock=sock)
            writer.write(get(f"/bytes/{size}"))
            await reader.readuntil(b"\r\n\r\n")
            writer.write(post("/digest", BODY))
            [inbound] = gateway._relay.connections
            assert inbound.tcp is not None and inbound.flow is not None
            while inbound.tcp.is_reading():
                await asyncio.sleep(0.01)
            assert 0 < inbound.flow.flow.unacknowledged() < MEMORY_BYTES
            assert await reader.readexactly(size) == pattern(size)
            assert await answer(reader) == ANSWER
            await closed(writer)

    run(main())
