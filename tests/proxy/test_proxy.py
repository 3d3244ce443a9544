"""The proxy between real clients and a real Trickles server."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest

from tests.client import application
from tests.client.application import pattern
from tests.client.conftest import PATIENCE_S, Run
from tests.proxy.clients import HOST, PASS, a_proxy, client_of, until_alone
from trickles_web.client import transport
from trickles_web.config import ClientConfig
from trickles_web.proxy.proxy import Proxy
from trickles_web.proxy.stream import Stream

pytestmark = pytest.mark.live

UPGRADE = (
    b"Connection: Upgrade",
    b"Upgrade: websocket",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
)
WORD = b"\x81\x83\0\0\0\0bye"
"""A text message, masked with zeros."""
ECHO = b"\x81\x03bye"


@pytest.fixture
def base(server_port: int) -> str:
    return f"http://{HOST}:{server_port}"


def test_requests_of_one_connection(run: Run[Any], base: str, absent_port: int) -> None:
    """To the same server, to another, and back."""
    body = pattern(2_000_000)

    async def main() -> None:
        client_config = ClientConfig(refused_patience_s=0.1)
        async with a_proxy(client=client_config) as proxy, client_of(proxy) as client:
            for size in (10, 3_000_000, 0):
                client.asks(f"{base}/bytes/{size}")
                assert await client.hears() == (200, pattern(size))
            client.asks(f"http://{HOST}:{absent_port}/")
            status, text = await client.hears()
            assert status == 502
            assert b"is trickles-serve running there?" in text
            client.asks(f"{base}/digest", method="POST", body=body)
            assert await client.hears() == (200, hashlib.sha256(body).hexdigest().encode())

    run(main())


def test_a_flow_is_kept_for_the_next_request(
    run: Run[Any], base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []

    def connect(remote: Any, *arguments: Any, **keywords: Any) -> Any:
        opened.append(remote)
        return transport.connect(remote, *arguments, **keywords)

    monkeypatch.setattr("trickles_web.proxy.reaching.connect", connect)

    async def main() -> None:
        async with a_proxy() as proxy, client_of(proxy) as client:
            for target in ("/bytes/1", "/bytes/2", "/last/3", "/bytes/4"):
                client.asks(base + target)
                assert (await client.hears())[0] == 200
            assert len(opened) == 2  # the third response said that it was the last

    run(main())


def test_pipelined_requests_are_answered_in_turn(run: Run[Any], base: str) -> None:
    async def main() -> None:
        async with a_proxy() as proxy, client_of(proxy) as client:
            for size in (10, 200_000, 30):
                client.asks(f"{base}/bytes/{size}")
            for size in (10, 200_000, 30):
                assert await client.hears() == (200, pattern(size))

    run(main())


@pytest.mark.parametrize(
    "field",
    [
        b"",
        b"Proxy-Authorization: Basic dHJpY2tsZXM6d3Jvbmc=\r\n",
        b"Proxy-Authorization: \xff\xfe\r\n",
        PASS + PASS,
    ],
)
def test_who_has_no_credential_is_asked_for_it(run: Run[Any], base: str, field: bytes) -> None:
    async def main() -> None:
        async with a_proxy() as proxy, client_of(proxy) as client:
            client.says(f"GET {base}/bytes/3 HTTP/1.1\r\nHost: a\r\n".encode(), field, b"\r\n")
            head = await client.head()
            assert head.startswith(b"HTTP/1.1 407 ")
            assert b'\r\nProxy-Authenticate: Basic realm="trickles"' in head
            length = int(head.partition(b"Content-Length: ")[2].split(b"\r\n")[0])
            await client.reader.readexactly(length)
            client.asks(f"{base}/bytes/3")  # on the same connection
            assert await client.hears() == (200, pattern(3))

    run(main())


def test_a_chunked_upload(run: Run[Any], base: str) -> None:
    async def main() -> None:
        async with a_proxy() as proxy, client_of(proxy) as client:
            client.asks(f"{base}/digest", b"Transfer-Encoding: chunked", method="POST")
            body = pattern(300_000)
            for at in range(0, len(body), 7_000):
                part = body[at : at + 7_000]
                client.says(b"%x\r\n" % len(part), part, b"\r\n")
                await asyncio.sleep(0)
            client.says(b"0\r\n\r\n")
            assert await client.hears() == (200, hashlib.sha256(body).hexdigest().encode())

    run(main())


def test_who_waits_for_100_continue(run: Run[Any], base: str) -> None:
    async def main() -> None:
        async with a_proxy() as proxy, client_of(proxy) as client:
            fields = (b"Expect: 100-continue", b"Content-Length: 5")
            client.asks(f"{base}/digest", *fields, method="POST")
            assert (await client.head()).startswith(b"HTTP/1.1 100 ")
            client.says(b"hello")
            assert await client.hears() == (200, hashlib.sha256(b"hello").hexdigest().encode())

    run(main())


def test_a_server_that_answers_before_it_has_the_request(run: Run[Any], base: str) -> None:
    async def main() -> None:
        async with a_proxy() as proxy, client_of(proxy) as client:
            client.asks(f"{base}/digest", b"Content-Length: 99999999", method="POST")
            client.says(bytes(100_000))
            assert (await client.head()).startswith(b"HTTP/1.1 413 ")
            await client.reader.read()  # to the end: nothing else can follow
            client.writer.close()
            await until_alone(proxy)

    run(main())


def test_head_and_http_1_0(run: Run[Any], base: str) -> None:
    async def main() -> None:
        async with a_proxy() as proxy:
            async with client_of(proxy) as client:
                client.asks(f"{base}/bytes/100", method="HEAD")
                assert b"content-length: 100\r\n" in (await client.head()).lower()
                client.asks(f"{base}/bytes/5")
                assert await client.hears() == (200, pattern(5))
            async with client_of(proxy) as client:
                client.says(f"GET {base}/bytes/9 HTTP/1.0\r\n".encode(), PASS, b"\r\n")
                assert (await client.reader.read()).endswith(b"\r\n\r\n" + pattern(9))

    run(main())


def test_a_client_that_half_closes_gets_its_answer(run: Run[Any], base: str) -> None:
    async def main() -> None:
        async with a_proxy() as proxy, client_of(proxy) as client:
            client.asks(f"{base}/bytes/900000")
            client.writer.write_eof()
            assert (await client.reader.read()).endswith(pattern(900_000))
            await until_alone(proxy)

    run(main())


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (b"GET http://a/ HTTP/1.1\r\nX: " + b"x" * 70_000, 431),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"no HTTP at all\r\n\r\n", 400),
        (b"GET http://a/ HTTP/1.1\r\n" + PASS + b"\r\n", 400),
        (b"GET http://a/ HTTP/3.0\r\nHost: a\r\n" + PASS + b"\r\n", 505),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + PASS + b"\r\n", 400),
        (b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n" + PASS + b"\r\n", 400),
        (b"GET https://a/ HTTP/1.1\r\nHost: a\r\n" + PASS + b"\r\n", 502),
        (b"CONNECT a HTTP/1.1\r\nHost: a\r\n" + PASS + b"\r\n", 400),
        (b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n" + PASS + b"\r\n", 502),
        (b"GET http://no-such-host.invalid/ HTTP/1.1\r\nHost: a\r\n" + PASS + b"\r\n", 502),
        (
            b"POST http://a/ HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n"
            b"Transfer-Encoding: chunked\r\n" + PASS + b"\r\n",
            400,
        ),
    ],
)
def test_what_cannot_be_done_is_an_answer(run: Run[Any], said: bytes, status: int) -> None:
    async def main() -> None:
        async with a_proxy() as proxy, client_of(proxy) as client:
            client.says(said)
            code, text = await client.hears()
            assert code == status
            assert text.startswith(b"trickles: ") and text.count(b"\n") == 1
            client.writer.write_eof()
            assert await client.reader.read() == b""

    run(main())


@pytest.mark.parametrize("rest", [b"zz\r\n", b"5\r\nab", b""])
def test_an_upload_that_is_no_http(run: Run[Any], base: str, rest: bytes) -> None:
    async def main() -> None:
        async with a_proxy() as proxy, client_of(proxy) as client:
            client.asks(f"{base}/digest", b"Transfer-Encoding: chunked", method="POST")
            client.says(b"1\r\na\r\n", rest)
            client.writer.write_eof()
            assert (await client.hears())[0] == 400
            await until_alone(proxy)

    run(main())


def test_noise_is_answered_or_dropped(run: Run[Any], base: str) -> None:
    """`run` fails the test if anything is raised into the loop."""
    chance = random.Random(5)
    request = f"POST {base}/digest HTTP/1.1\r\nHost: a\r\n".encode() + PASS
    request += b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n0\r\n\r\n"

    async def one(proxy: Proxy) -> None:
        noise = bytearray(request)
        for _ in range(chance.randrange(1, 6)):
            noise[chance.randrange(len(noise))] = chance.randrange(256)
        async with client_of(proxy) as client:
            client.says(bytes(noise))
            client.writer.write_eof()
            with contextlib.suppress(ConnectionResetError):
                heard = await client.reader.read()
                assert not heard or heard.startswith(b"HTTP/1.1 ")

    async def main() -> None:
        patience = ClientConfig(refused_patience_s=0.1, connect_timeout_s=0.2)
        async with a_proxy(client=patience) as proxy:
            for _ in range(10):
                await asyncio.gather(*(one(proxy) for _ in range(20)))
            await until_alone(proxy)

    run(main())


def test_silence_is_504(run: Run[Any], mute: socket.socket) -> None:
    async def main() -> None:
        patience = ClientConfig(connect_timeout_s=0.2)
        async with a_proxy(client=patience) as proxy, client_of(proxy) as client:
            client.asks(f"http://{HOST}:{mute.getsockname()[1]}/")
            status, text = await client.hears()
            assert status == 504
            assert b"silence for 0.2 s" in text

    run(main())


def test_a_response_that_breaks_off_is_a_reset(run: Run[Any], base: str) -> None:
    async def main() -> None:
        async with a_proxy() as proxy, client_of(proxy) as client:
            client.asks(f"{base}/broken")
            with pytest.raises(ConnectionResetError):
                await client.reader.read()

    run(main())


def test_a_slow_reader_stops_the_flow(
    run: Run[Any], base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 40_000_000
    opened: list[Stream] = []

    def noted() -> Stream:
        opened.append(Stream())
        return opened[-1]

    monkeypatch.setattr("trickles_web.proxy.reaching.Stream", noted)

    async def main() -> None:
        config = ClientConfig(receive_buffer_bytes=1_000_000)
        async with a_proxy(client=config) as proxy:
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 128 * 1024)
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, proxy.addresses[0])
            reader, writer = await asyncio.open_connection(sock=sock)
            request = f"GET {base}/bytes/{size} HTTP/1.1\r\nHost: a\r\n".encode()
            writer.write(request + PASS + b"\r\n")
            await reader.readuntil(b"\r\n\r\n")
            [stream] = opened
            while stream.transport.is_reading():
                await asyncio.sleep(0.01)
            assert await reader.readexactly(size) == pattern(size)
            writer.close()
            await writer.wait_closed()

    run(main())


def test_a_server_that_takes_nothing_stops_the_client(
    run: Run[Any], mute: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Stream] = []

    def noted(on_lost: Callable[[], object]) -> Stream:
        taken.append(Stream(on_lost))
        return taken[-1]

    monkeypatch.setattr("trickles_web.proxy.proxy.Stream", noted)

    async def main() -> None:
        async with a_proxy() as proxy, client_of(proxy) as client:
            url = f"http://{HOST}:{mute.getsockname()[1]}/"
            client.asks(url, b"Content-Length: 99999999", method="POST")
            while not taken or taken[0].transport.is_reading():
                client.says(bytes(100_000))
                await asyncio.sleep(0)

    run(main())


def test_a_client_that_leaves_cancels_the_flow(run: Run[Any], base: str) -> None:
    application.disconnected.clear()

    async def main() -> None:
        async with a_proxy() as proxy:
            async with client_of(proxy) as client:
                client.asks(f"{base}/endless")
                await client.reader.readuntil(b"data: 1\n\n")
                sock = client.writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.writer.transport.abort()
            await until_alone(proxy)

    run(main())
    assert application.disconnected.wait(PATIENCE_S)


def test_stopping_resets_what_is_under_way(run: Run[Any], base: str) -> None:
    async def main() -> None:
        async with a_proxy() as proxy, client_of(proxy) as idle:
            idle.asks(f"{base}/bytes/1")
            await idle.hears()
            async with client_of(proxy) as client:
                client.asks(f"{base}/endless")
                await client.reader.readuntil(b"data: 1\n\n")
                await proxy.close()
                with pytest.raises(ConnectionResetError):
                    await client.reader.read()
            assert await idle.reader.read() == b""

    run(main())


# Tunnels


def test_http_in_a_tunnel(run: Run[Any], server_port: int) -> None:
    async def main() -> None:
        async with a_proxy() as proxy, client_of(proxy) as client:
            request = b"GET /bytes/500000 HTTP/1.1\r\nHost: a\r\n\r\n"
            client.asks(f"{HOST}:{server_port}", method="CONNECT")
            client.says(request)  # at once
            assert (await client.head()).startswith(b"HTTP/1.1 200 ")
            assert await client.hears() == (200, pattern(500_000))
            client.says(request)
            client.writer.write_eof()
            assert (await client.reader.read()).endswith(pattern(500_000))
            await until_alone(proxy)

    run(main())


def test_tls_in_a_tunnel_is_a_reset(
    run: Run[Any], server_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with a_proxy() as proxy, client_of(proxy) as client:
            client.asks(f"{HOST}:{server_port}", method="CONNECT")
            await client.head()
            client.says(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
            with pytest.raises(ConnectionResetError):
                await client.reader.read()

    run(main())
    assert f"{HOST}:{server_port}: no server speaks TLS over Trickles" in caplog.text


def test_nobody_behind_a_tunnel_is_a_reset(run: Run[Any], absent_port: int) -> None:
    async def main() -> None:
        config = ClientConfig(refused_patience_s=0.1)
        async with a_proxy(client=config) as proxy, client_of(proxy) as client:
            client.asks(f"{HOST}:{absent_port}", method="CONNECT")
            await client.head()
            client.says(b"GET / HTTP/1.1\r\n\r\n")
            with pytest.raises(ConnectionResetError):
                await client.reader.read()

    run(main())


@pytest.mark.parametrize("tunnelled", [True, False])
def test_websockets(run: Run[Any], server_port: int, tunnelled: bool) -> None:
    async def main() -> None:
        async with a_proxy() as proxy, client_of(proxy) as client:
            url = f"http://{HOST}:{server_port}/echo"
            if tunnelled:
                client.asks(f"{HOST}:{server_port}", method="CONNECT")
                await client.head()
                url = "/echo"
            client.asks(url, *UPGRADE)
            head = await client.head()
            assert head.startswith(b"HTTP/1.1 101 ")
            assert b"sec-websocket-accept: " in head.lower()
            for _ in range(3):
                client.says(WORD)
                assert await client.reader.readexactly(len(ECHO)) == ECHO
            client.writer.write_eof()
            await client.reader.read()
            await until_alone(proxy)

    run(main())


def test_an_upgrade_that_is_declined(run: Run[Any], base: str) -> None:
    async def main() -> None:
        async with a_proxy() as proxy, client_of(proxy) as client:
            client.asks(f"{base}/bytes/7", b"Connection: Upgrade", b"Upgrade: h2c")
            assert await client.hears() == (200, pattern(7))
            client.asks(f"{base}/bytes/8")
            assert await client.hears() == (200, pattern(8))

    run(main())


# Over TCP


async def tell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server on TCP that answers with the head that it got."""
    head = await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(head) + head)
    await reader.read()
    writer.close()


def test_what_is_not_named_is_asked_over_tcp(run: Run[Any], server_port: int) -> None:
    async def main() -> None:
        server = await asyncio.start_server(tell, HOST, 0)
        there = f"{HOST}:{server.sockets[0].getsockname()[1]}"
        async with server, a_proxy(only=[(HOST, server_port)]) as proxy:
            async with client_of(proxy) as client:
                client.asks(f"http://{there}/x?y", b"Proxy-Connection: keep-alive", b"X-Case: Kept")
                status, head = await client.hears()
                assert status == 200
                assert (
                    head
                    == (
                        f"GET /x?y HTTP/1.1\r\nHost: {there}\r\nX-Case: Kept\r\n"
                        "Via: 1.1 trickles\r\n\r\n"
                    ).encode()
                )
                client.asks(f"http://{HOST}:{server_port}/bytes/4")
                assert await client.hears() == (200, pattern(4))
            async with client_of(proxy) as client:
                client.asks(there, method="CONNECT")
                await client.head()
                client.says(b"\x16\x03 is no concern of ours\r\n\r\n")
                assert (await client.hears())[1] == b"\x16\x03 is no concern of ours\r\n\r\n"
            await until_alone(proxy)

    run(main())


def test_a_server_on_tcp_may_speak_first(run: Run[Any]) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hello\r\n")
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(greet, HOST, 0)
        there = f"{HOST}:{server.sockets[0].getsockname()[1]}"
        async with server, a_proxy(only=[("elsewhere", None)]) as proxy, client_of(proxy) as client:
            client.asks(there, method="CONNECT")
            await client.head()
            assert await client.reader.read() == b"220 hello\r\n"

    run(main())


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (b"", 502),
        (b"SSH-2.0-hello\r\n", 502),
        (b"HTTP/1.1 200 OK\r\nContent-Le", 502),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000, 502),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", 502),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", None),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n", None),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", None),
        (b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes", 103),
    ],
)
def test_servers_that_speak_bad_http(run: Run[Any], said: bytes, status: int | None) -> None:
    """What is no whole answer is never taken for one: None is a reset."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        writer.write_eof()
        with contextlib.suppress(ConnectionResetError):
            await reader.read()
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(serve, HOST, 0)
        there = f"{HOST}:{server.sockets[0].getsockname()[1]}"
        async with server, a_proxy(only=[("elsewhere", None)]) as proxy, client_of(proxy) as client:
            client.asks(f"http://{there}/")
            if status is None:
                with pytest.raises(ConnectionResetError):
                    await client.reader.read()
            else:
                assert (await client.head()).split()[1] == b"%d" % status

    run(main())


def test_a_response_that_ends_with_its_connection(run: Run[Any]) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nall of it")
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(serve, HOST, 0)
        there = f"{HOST}:{server.sockets[0].getsockname()[1]}"
        async with server, a_proxy(only=[("elsewhere", None)]) as proxy, client_of(proxy) as client:
            for _ in range(2):
                client.asks(f"http://{there}/")
                assert b"chunked" in await client.head()
                assert await client.reader.readuntil(b"0\r\n\r\n") == b"9\r\nall of it\r\n0\r\n\r\n"

    run(main())


def test_nobody_over_tcp(run: Run[Any], absent_port: int) -> None:
    async def main() -> None:
        async with a_proxy(only=[("elsewhere", None)]) as proxy, client_of(proxy) as client:
            for method, url in (("GET", f"http://{HOST}:1/"), ("CONNECT", f"{HOST}:1")):
                client.asks(url, method=method)
                status, text = await client.hears()
                assert (status, b"Connection refused" in text) == (502, True)

    run(main())


def test_beyond_the_limit_connections_wait(run: Run[Any], base: str) -> None:
    async def main() -> None:
        async with a_proxy(max_connections=1) as proxy, client_of(proxy) as first:
            first.asks(f"{base}/bytes/1")
            await first.hears()
            async with client_of(proxy) as second:
                second.asks(f"{base}/bytes/2")
                waiting = asyncio.ensure_future(second.hears())
                done, _ = await asyncio.wait([waiting], timeout=0.2)
                assert not done
                first.writer.close()
                assert await waiting == (200, pattern(2))

    run(main())
