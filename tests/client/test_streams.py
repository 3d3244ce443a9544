"""open_connection against a real server: it should feel like asyncio's own."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from tests.client import application
from tests.client.application import pattern
from tests.client.conftest import PATIENCE_S, Run, wait_until
from trickles_web.client import open_connection, open_transport
from trickles_web.client.remote import Remote
from trickles_web.client.tokens import TokenStore
from trickles_web.client.transport import FlowTransport, connect
from trickles_web.config import ClientConfig
from trickles_web.errors import ConnectError, FlowError, ResponseTruncated

HOST = "127.0.0.1"


def get(target: str) -> bytes:
    return f"GET {target} HTTP/1.1\r\nHost: test\r\n\r\n".encode()


def post(target: str, body: bytes) -> bytes:
    head = f"POST {target} HTTP/1.1\r\nHost: test\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """One response with a Content-Length: status and body."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0])
    return int(head.split()[1]), await reader.readexactly(length)


async def closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    await writer.wait_closed()


def transport_of(writer: asyncio.StreamWriter) -> FlowTransport:
    return cast(FlowTransport, writer.transport)


@pytest.mark.live
@pytest.mark.parametrize("size", [0, 1, 1_000, 100_000, 3_000_000])
def test_responses_of_all_sizes(run: Run[Any], server_port: int, size: int) -> None:
    async def main() -> None:
        reader, writer = await open_connection(HOST, server_port)
        writer.write(get(f"/bytes/{size}"))
        assert await answer(reader) == (200, pattern(size))
        await closed(writer)

    run(main())


@pytest.mark.live
def test_many_exchanges_in_one_flow(run: Run[Any], server_port: int) -> None:
    async def main() -> None:
        reader, writer = await open_connection(HOST, server_port)
        for size in (10, 50_000, 0, 7, 400_000, 1):
            writer.write(get(f"/bytes/{size}"))
            assert await answer(reader) == (200, pattern(size))
        assert writer.get_extra_info("peername") == (HOST, server_port)
        assert writer.get_extra_info("sockname")[0] == HOST
        await closed(writer)
        assert writer.is_closing()

    run(main())


@pytest.mark.live
def test_pipelined_requests(run: Run[Any], server_port: int) -> None:
    async def main() -> None:
        reader, writer = await open_connection(HOST, server_port)
        writer.writelines([get("/bytes/10"), get("/bytes/20000"), get("/none"), get("/bytes/3")])
        assert await answer(reader) == (200, pattern(10))
        assert await answer(reader) == (200, pattern(20_000))
        assert await answer(reader) == (404, b"not here.\n")
        assert await answer(reader) == (200, pattern(3))
        await closed(writer)

    run(main())


@pytest.mark.live
def test_a_reader_that_does_not_read_stops_the_server(run: Run[Any], server_port: int) -> None:
    size, buffer = 8_000_000, 1_000_000

    async def main() -> None:
        config = ClientConfig(receive_buffer_bytes=buffer)
        reader, writer = await open_connection(HOST, server_port, config=config)
        transport = transport_of(writer)
        writer.write(get(f"/bytes/{size}"))
        await reader.readuntil(b"\r\n\r\n")
        # It fills its buffers, and then no byte moves.
        before = -1
        while transport.flow.stats.bytes_in != before or transport.is_reading():
            before = transport.flow.stats.bytes_in
            await asyncio.sleep(0.2)
        assert before < size
        assert transport.flow.readable() <= 2 * buffer
        assert await reader.readexactly(size) == pattern(size)
        await closed(writer)

    run(main())


@pytest.mark.live
def test_a_reader_may_rest_longer_than_servers_may_be_silent(
    run: Run[Any], server_port: int
) -> None:
    size = 6_000_000

    async def main() -> None:
        config = ClientConfig(receive_buffer_bytes=1_000_000, silence_timeout_s=0.5)
        reader, writer = await open_connection(HOST, server_port, config=config)
        writer.write(get(f"/bytes/{size}"))
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(1.5)
        assert await reader.readexactly(size) == pattern(size)
        await closed(writer)

    run(main())


@pytest.mark.live
def test_a_large_upload_with_drain(run: Run[Any], server_port: int) -> None:
    body = pattern(3_000_000)

    async def main() -> None:
        reader, writer = await open_connection(HOST, server_port)
        request = post("/digest", body)
        for at in range(0, len(request), 50_000):
            writer.write(request[at : at + 50_000])
            await writer.drain()
        assert await answer(reader) == (200, hashlib.sha256(body).hexdigest().encode())
        await closed(writer)

    run(main())


@pytest.mark.live
def test_an_end_of_writing_leaves_the_response_to_come(run: Run[Any], server_port: int) -> None:
    async def main() -> None:
        reader, writer = await open_connection(HOST, server_port)
        writer.write(get("/bytes/400000"))
        assert writer.can_write_eof()
        writer.write_eof()
        assert await answer(reader) == (200, pattern(400_000))
        assert await reader.read() == b""
        assert writer.is_closing()

    run(main())


@pytest.mark.live
def test_nothing_is_written_behind_the_end(run: Run[Any], server_port: int) -> None:
    async def main() -> None:
        _, writer = await open_connection(HOST, server_port)
        writer.write_eof()
        with pytest.raises(RuntimeError, match="after write_eof"):
            writer.write(get("/bytes/1"))
        await closed(writer)

    run(main())


@pytest.mark.live
def test_the_server_ends_the_flow(run: Run[Any], server_port: int) -> None:
    async def main() -> None:
        reader, writer = await open_connection(HOST, server_port)
        writer.write(get("/last/70000"))
        assert await answer(reader) == (200, pattern(70_000))
        assert await reader.read() == b""
        assert reader.at_eof()
        writer.write(get("/bytes/1"))
        with pytest.raises(ConnectionResetError):
            await writer.drain()
            await writer.wait_closed()

    run(main())


@pytest.mark.live
def test_a_response_that_breaks_off(run: Run[Any], server_port: int) -> None:
    async def main() -> None:
        reader, writer = await open_connection(HOST, server_port)
        writer.write(get("/broken"))
        with pytest.raises(ResponseTruncated) as caught:
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(10_000_000)
        assert isinstance(caught.value, OSError)
        writer.close()
        with pytest.raises(FlowError):
            await writer.wait_closed()

    run(main())


@pytest.mark.live
def test_closing_cancels_the_response(run: Run[Any], server_port: int) -> None:
    application.disconnected.clear()

    async def main() -> None:
        reader, writer = await open_connection(HOST, server_port)
        writer.write(get("/endless"))
        await reader.readuntil(b"data: 1\n\n")
        await closed(writer)

    run(main())
    assert application.disconnected.wait(PATIENCE_S)


@pytest.mark.live
def test_what_was_written_before_close_arrives(run: Run[Any], server_port: int) -> None:
    body = b"last words " + pattern(100_000)
    application.posted.clear()

    async def main() -> None:
        _, writer = await open_connection(HOST, server_port)
        writer.write(post("/post", body))
        await closed(writer)

    run(main())
    wait_until(lambda: application.posted)
    assert application.posted == [body]


@pytest.mark.live
def test_of_several_addresses_the_one_that_answers_is_taken(
    run: Run[Any], server_port: int
) -> None:
    """As `localhost` has ::1 first, where a server on 127.0.0.1 does not listen."""
    deaf, there = ("127.0.0.3", server_port), (HOST, server_port)
    remote = Remote("name.test", server_port, ((socket.AF_INET, deaf), (socket.AF_INET, there)))

    async def main() -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        # With this patience, only trying the next address at once can succeed.
        config = ClientConfig(refused_patience_s=0.0)
        transport = connect(remote, protocol, config=config, tokens=TokenStore())
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        writer.write(get("/bytes/100000"))
        assert await answer(reader) == (200, pattern(100_000))
        assert writer.get_extra_info("peername") == there
        await closed(writer)

    run(main())


@pytest.mark.live
def test_tokens_go_from_flow_to_flow(run: Run[Any], server_port: int, tmp_path: Path) -> None:
    async def main() -> None:
        for _ in range(2):
            reader, writer = await open_connection(
                HOST, server_port, tokens=TokenStore(tmp_path / "tokens")
            )
            writer.write(get("/bytes/5"))
            assert await answer(reader) == (200, pattern(5))
            await closed(writer)
            assert TokenStore(tmp_path / "tokens").get(HOST, server_port)

    run(main())


def test_nobody_there_shows_on_reading(run: Run[Any], absent_port: int) -> None:
    async def main() -> None:
        config = ClientConfig(refused_patience_s=0.2)
        reader, writer = await open_connection(HOST, absent_port, config=config)
        writer.write(get("/"))
        with pytest.raises(ConnectError) as caught:
            await reader.read()
        assert str(caught.value) == (
            f"no answer from UDP {HOST}:{absent_port} (connection refused); "
            "is trickles-serve running there?"
        )
        assert isinstance(caught.value, ConnectionRefusedError)
        with pytest.raises(ConnectError):
            await writer.drain()
        writer.close()
        with pytest.raises(ConnectError):
            await writer.wait_closed()

    run(main())


def test_nobody_there_shows_on_draining(run: Run[Any], absent_port: int) -> None:
    async def main() -> None:
        config = ClientConfig(refused_patience_s=0.2)
        _, writer = await open_connection(HOST, absent_port, config=config)
        writer.write(bytes(1_000_000))
        with pytest.raises(ConnectError):
            await writer.drain()

    run(main())


def test_silence_is_told_from_refusal(run: Run[Any], mute: socket.socket) -> None:
    async def main() -> None:
        config = ClientConfig(connect_timeout_s=0.5)
        reader, writer = await open_connection(HOST, mute.getsockname()[1], config=config)
        writer.write(get("/"))
        with pytest.raises(ConnectError, match=r"\(silence for 0\.5 s\)"):
            await reader.read()
        writer.close()

    run(main())


def test_a_flow_that_never_wrote_closes_silently(run: Run[Any], mute: socket.socket) -> None:
    async def main() -> None:
        _, writer = await open_connection(HOST, mute.getsockname()[1])
        await closed(writer)

    run(main())
    mute.setblocking(False)
    with pytest.raises(BlockingIOError):
        mute.recv(1)


def test_rubbish_from_the_server_is_survived(run: Run[Any], mute: socket.socket) -> None:
    async def main() -> None:
        config = ClientConfig(connect_timeout_s=1.0, silence_timeout_s=1.0)
        reader, writer = await open_connection(HOST, mute.getsockname()[1], config=config)
        writer.write(get("/"))
        loop = asyncio.get_running_loop()
        hello, client = await loop.run_in_executor(None, mute.recvfrom, 65_535)
        for rubbish in (b"", b"\x00", hello, hello[::-1], bytes(65_000), b"\xff" * 20_000):
            mute.sendto(rubbish, client)
        for kind in range(256):
            mute.sendto(bytes([kind]) + hello[1:], client)
        with pytest.raises(FlowError):
            await reader.read()
        writer.close()

    run(main())


class Clumsy(asyncio.Protocol):
    """Fails in data_received."""

    def __init__(self) -> None:
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        raise LookupError("clumsy")

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


@pytest.mark.live
def test_a_protocol_that_fails_is_reported_and_cut_off(server_port: int) -> None:
    complaints: list[dict[str, Any]] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(context))
        transport, protocol = await open_transport(Clumsy, HOST, server_port)
        transport.write(get("/bytes/10"))
        assert isinstance(await protocol.lost, LookupError)

    asyncio.run(asyncio.wait_for(main(), PATIENCE_S))
    [complaint] = complaints
    assert "data_received" in complaint["message"]


def test_unknown_names_are_resolver_errors(run: Run[Any]) -> None:
    async def main() -> None:
        for host in ("x" * 64 + ".test", "..", "no-such-host.invalid"):
            with pytest.raises(socket.gaierror):
                await open_connection(host, 1)

    run(main())


class FullDisk:
    """A recorder that cannot write any more after some datagrams."""

    def __init__(self, room: int) -> None:
        self.room = room

    def sent(self, datagrams: Sequence[bytes], *_: object) -> None:
        self.room -= len(datagrams)
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def received(self, *_: object) -> None:
        pass


@pytest.mark.live
@pytest.mark.parametrize("room", [0, 3])
def test_a_recorder_that_fails_ends_its_flow(server_port: int, room: int) -> None:
    reported: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reported.append(context["message"]))
        config = ClientConfig(recorder=FullDisk(room))
        reader, writer = await open_connection(HOST, server_port, config=config)
        writer.write(get("/bytes/3000000"))
        with pytest.raises(OSError, match="No space left"):
            await asyncio.wait_for(reader.read(-1), PATIENCE_S)

    asyncio.run(main())
    assert reported[0] == "Fatal error on a flow."
