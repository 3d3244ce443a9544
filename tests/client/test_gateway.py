"""The gateway between real TCP clients and a real Trickles server."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.client import application
from tests.client.application import pattern
from tests.client.conftest import PATIENCE_S, Run
from tests.client.test_streams import answer, get, post
from trickles_web.cli.gateway import affordable
from trickles_web.client.tokens import TokenStore
from trickles_web.config import ClientConfig
from trickles_web.gateway import Gateway, GatewayConfig
from trickles_web.transport.origin import pack_origin

HOST = "127.0.0.1"
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
LAST_WORD = b"\x81\x83\0\0\0\0bye"
"""A text message, masked with zeros."""
COMMAND = [sys.executable, "-W", "error", "-m", "trickles_web.cli.gateway"]


@contextlib.asynccontextmanager
async def gateway_to(port: int, **settings: Any) -> AsyncIterator[Gateway]:
    config = GatewayConfig(host=HOST, port=port, listen=[(HOST, 0)], **settings)
    gateway = Gateway(config, tokens=TokenStore())
    await gateway.start()
    try:
        yield gateway
    finally:
        await gateway.close()
        assert gateway.connections == 0


@contextlib.asynccontextmanager
async def tcp_to(
    gateway: Gateway,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(*gateway.addresses[0])
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def until(gateway: Gateway, connections: int) -> None:
    while gateway.connections != connections:
        await asyncio.sleep(0.01)


def leave(writer: asyncio.StreamWriter) -> None:
    """Go as a killed client with unread data goes: by reset."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@pytest.mark.live
def test_exchanges_pass_through(run: Run[Any], server_port: int) -> None:
    body = pattern(2_000_000)

    async def main() -> None:
        async with gateway_to(server_port) as gateway, tcp_to(gateway) as (reader, writer):
            for size in (10, 3_000_000, 0):
                writer.write(get(f"/bytes/{size}"))
                assert await answer(reader) == (200, pattern(size))
            writer.write(post("/digest", body))
            assert await answer(reader) == (200, hashlib.sha256(body).hexdigest().encode())
            writer.write(get("/bytes/10") + get("/bytes/20"))
            assert await answer(reader) == (200, pattern(10))
            assert await answer(reader) == (200, pattern(20))

    run(main())


@pytest.mark.live
def test_many_connections_at_once(run: Run[Any], server_port: int) -> None:
    async def one(gateway: Gateway, size: int) -> None:
        async with tcp_to(gateway) as (reader, writer):
            writer.write(get(f"/bytes/{size}"))
            assert await answer(reader) == (200, pattern(size))

    async def main() -> None:
        async with gateway_to(server_port) as gateway:
            await asyncio.gather(*(one(gateway, 1_000 * n) for n in range(60)))
            await until(gateway, 0)

    run(main())


@pytest.mark.live
def test_a_slow_tcp_reader_stops_the_flow(run: Run[Any], server_port: int) -> None:
    size, buffer = 12_000_000, 1_000_000

    async def main() -> None:
        client = ClientConfig(receive_buffer_bytes=buffer)
        async with gateway_to(server_port, client=client) as gateway:
            # A bounded window, so that the kernels cannot swallow the whole response.
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 128 * 1024)
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, gateway.addresses[0])
            reader, writer = await asyncio.open_connection(sock=sock)
            writer.write(get(f"/bytes/{size}"))
            await reader.readuntil(b"\r\n\r\n")
            [inbound] = gateway._relay.connections
            assert inbound.flow is not None
            while inbound.flow.is_reading():
                await asyncio.sleep(0.01)
            assert inbound.flow.flow.readable() <= 2 * buffer
            assert await reader.readexactly(size) == pattern(size)
            writer.close()
            await writer.wait_closed()

    run(main())


@pytest.mark.live
def test_a_tcp_client_that_leaves_cancels_the_flow(run: Run[Any], server_port: int) -> None:
    application.disconnected.clear()

    async def main() -> None:
        async with gateway_to(server_port) as gateway:
            async with tcp_to(gateway) as (reader, writer):
                writer.write(get("/endless"))
                await reader.readuntil(b"data: 1\n\n")
                leave(writer)
            await until(gateway, 0)

    run(main())
    assert application.disconnected.wait(PATIENCE_S)


@pytest.mark.live
def test_a_half_closed_client_gets_its_response(run: Run[Any], server_port: int) -> None:
    async def main() -> None:
        async with gateway_to(server_port) as gateway, tcp_to(gateway) as (reader, writer):
            writer.write(get("/bytes/2000000"))
            writer.write_eof()
            assert await answer(reader) == (200, pattern(2_000_000))
            assert await reader.read() == b""
            await until(gateway, 0)

    run(main())


@pytest.mark.live
@pytest.mark.parametrize("early", [False, True], ids=["FIN at the end", "FIN behind the request"])
def test_a_half_closed_client_of_a_websocket_has_gone(
    run: Run[Any], server_port: int, early: bool
) -> None:
    """What it said last arrives; for more of it nobody waits."""
    application.disconnected.clear()
    application.messages.clear()

    async def main() -> None:
        async with gateway_to(server_port) as gateway, tcp_to(gateway) as (reader, writer):
            writer.write(UPGRADE)
            if not early:
                await reader.readuntil(b"\r\n\r\n")
            writer.write(LAST_WORD)
            writer.write_eof()
            await until(gateway, 0)

    run(main())
    assert application.disconnected.wait(PATIENCE_S)
    # Who leaves before it was accepted may not be heard.
    assert application.messages == ["bye"] or (early and not application.messages)


@pytest.mark.live
def test_a_half_closed_client_that_then_leaves_is_noticed(
    run: Run[Any], server_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trickles_web.client.relay.HALF_CLOSED_CHECK_S", 0.05)
    application.disconnected.clear()

    async def main() -> None:
        async with gateway_to(server_port) as gateway:
            async with tcp_to(gateway) as (reader, writer):
                writer.write(get("/endless"))
                await reader.readuntil(b"data: 1\n\n")
                writer.write_eof()
                [inbound] = gateway._relay.connections
                while not inbound.half_closed:
                    await asyncio.sleep(0.01)
                leave(writer)
            await until(gateway, 0)

    run(main())
    assert application.disconnected.wait(PATIENCE_S)


@pytest.mark.live
def test_the_end_of_the_flow_is_a_fin(run: Run[Any], server_port: int) -> None:
    async def main() -> None:
        async with gateway_to(server_port) as gateway, tcp_to(gateway) as (reader, writer):
            writer.write(get("/last/500000") + get("/bytes/1") * 100)
            assert await answer(reader) == (200, pattern(500_000))
            assert await reader.read() == b""

    run(main())


async def accepted(gateway: Gateway, client: socket.socket) -> Any:
    """The gateway's side of this connection, once it reads it and has opened a flow."""
    client.sendall(get("/"))
    while not any(one.flow is not None for one in gateway._relay.connections):
        await asyncio.sleep(0.01)
    [inbound] = gateway._relay.connections
    return inbound


def test_the_end_of_a_flow_whose_client_has_reset(run: Run[Any], mute: socket.socket) -> None:
    async def main() -> None:
        async with gateway_to(mute.getsockname()[1]) as gateway:
            with socket.create_connection(gateway.addresses[0]) as client:
                inbound = await accepted(gateway, client)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            inbound.finish()  # the loop has not heard of the reset
            await until(gateway, 0)

    run(main())


def test_a_client_that_goes_before_the_last_bytes(run: Run[Any], mute: socket.socket) -> None:
    """They are sent, and answered by a reset, before the FIN that stands behind them."""

    async def main() -> None:
        async with gateway_to(mute.getsockname()[1]) as gateway:
            client = socket.create_connection(gateway.addresses[0])
            inbound = await accepted(gateway, client)
            while not inbound.tcp.get_write_buffer_size():
                inbound.tcp.write(bytes(100_000))
            inbound.finish()
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while client.recv(1_000_000):
                    pass
            # After the loop has found that there is room, and before it makes use of it.
            asyncio.get_running_loop().call_soon(client.close)
            await until(gateway, 0)

    run(main())


@pytest.mark.live
def test_an_error_of_the_flow_is_a_reset(run: Run[Any], server_port: int) -> None:
    async def main() -> None:
        async with gateway_to(server_port) as gateway, tcp_to(gateway) as (reader, writer):
            writer.write(get("/broken"))
            with pytest.raises(ConnectionResetError):
                await reader.read(-1)

    run(main())


def test_an_absent_server_is_a_reset(run: Run[Any], absent_port: int) -> None:
    async def main() -> None:
        client = ClientConfig(refused_patience_s=0.2)
        async with (
            gateway_to(absent_port, client=client) as gateway,
            tcp_to(gateway) as (reader, writer),
        ):
            writer.write(get("/"))
            with pytest.raises(ConnectionResetError):
                await reader.read(-1)

    run(main())


def test_a_connection_without_a_request_makes_no_flow(run: Run[Any], mute: socket.socket) -> None:
    async def main() -> None:
        port = mute.getsockname()[1]
        async with gateway_to(port) as gateway, tcp_to(gateway) as (_, writer):
            await until(gateway, 1)
            [inbound] = gateway._relay.connections
            assert inbound.flow is None
            writer.write_eof()
            await until(gateway, 0)

    run(main())


def test_a_client_that_has_reset_is_still_known(run: Run[Any], mute: socket.socket) -> None:
    """Its socket has no peer any more; a request from nobody would count as the gateway's own."""

    async def main() -> None:
        async with gateway_to(mute.getsockname()[1]) as gateway:
            with socket.create_connection(gateway.addresses[0]) as client:
                address = client.getsockname()
                client.sendall(get("/"))
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            gateway._entrance.accept(gateway._entrance._listeners[0])
            [inbound] = gateway._relay.connections
            assert inbound.open_flow.keywords["origin"] == pack_origin(*address)  # type: ignore[attr-defined]
            await until(gateway, 0)

    run(main())


@pytest.mark.live
def test_beyond_the_limit_connections_wait(run: Run[Any], server_port: int) -> None:
    async def main() -> None:
        async with (
            gateway_to(server_port, max_connections=2) as gateway,
            tcp_to(gateway) as (_, first),
            tcp_to(gateway),
        ):
            await until(gateway, 2)
            async with tcp_to(gateway) as (reader, writer):
                writer.write(get("/bytes/10"))
                waiting = asyncio.ensure_future(answer(reader))
                # It waits in the kernel's queue: nothing comes for as long as nobody leaves.
                done, _ = await asyncio.wait([waiting], timeout=0.3)
                assert not done
                first.close()
                assert await waiting == (200, pattern(10))

    run(main())


@pytest.mark.live
def test_stopping_resets_what_is_under_way(run: Run[Any], server_port: int) -> None:
    application.disconnected.clear()

    async def main() -> None:
        async with gateway_to(server_port) as gateway:
            reader, writer = await asyncio.open_connection(*gateway.addresses[0])
            writer.write(get("/endless"))
            await reader.readuntil(b"data: 1\n\n")
        with pytest.raises(ConnectionResetError):
            await reader.read(-1)
        writer.close()

    run(main())
    assert application.disconnected.wait(PATIENCE_S)


# The command


def complaint(*arguments: str) -> str:
    done = subprocess.run(
        [*COMMAND, *arguments], capture_output=True, timeout=PATIENCE_S, check=False, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("trickles-gateway: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_usage_errors_are_one_line() -> None:
    complaint()
    complaint("trickles://")
    complaint("http://127.0.0.1:8000")
    complaint("trickles://127.0.0.1:8000/path")
    complaint("--listen", "8080", "trickles://127.0.0.1:8000")
    complaint("--listen", "127.0.0.1:0", "trickles://no-such-host.invalid")
    complaint("--log-level", "loud", "trickles://127.0.0.1:8000")
    complaint("--proxy", "trickles://127.0.0.1:8000")
    complaint("--only", "a", "trickles://127.0.0.1:8000")


def test_a_busy_port_is_one_line() -> None:
    with socket.create_server((HOST, 0)) as busy:
        port = busy.getsockname()[1]
        line = complaint("--listen", f"{HOST}:{port}", "trickles://127.0.0.1:8000")
    assert f"{HOST}:{port}" in line
    assert "choose another --listen" in line


@pytest.mark.parametrize("loop", ["asyncio", "auto"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_banner_and_signals(loop: str, number: signal.Signals) -> None:
    command = [*COMMAND, "--listen", "127.0.0.1:0", "--listen", "[::1]:0", "--loop", loop]
    # No options of the environment: TRICKLES_GATEWAY_VERSION would end it at once.
    environment = {"TRICKLES_GATEWAY_VERSION": "1", "TRICKLES_GATEWAY_CHILD": "77"}
    with subprocess.Popen(
        [*command, "trickles://127.0.0.1:8000"],
        env=os.environ | environment,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        lines = [process.stderr.readline(), process.stderr.readline()]
        assert "Trickles gateway: http://127.0.0.1:" in lines[0]
        assert "Trickles gateway: http://[::1]:" in lines[1]
        assert all(line.endswith(" -> trickles://127.0.0.1:8000\n") for line in lines)
        process.send_signal(number)
        assert process.wait(PATIENCE_S) == 0
        assert process.stderr.read() == ""


@pytest.mark.live
def test_a_proxy(server_port: int, tmp_path: Path) -> None:
    password = tmp_path / "made" / "password"
    command = [*COMMAND, "--proxy", "--listen", "127.0.0.1:0", "--password-file", str(password)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line.endswith(f" for user trickles with the password in {password}\n")
        assert password.stat().st_mode & 0o777 == 0o600
        proxy = line.partition("Trickles proxy: ")[2].split()[0]
        for user, status in (("", 407), ("trickles:wrong", 407), (None, 200)):
            user = user if user is not None else f"trickles:{password.read_text().strip()}"
            url = proxy.replace("http://", f"http://{user}@")
            with httpx.Client(proxy=url, trust_env=False) as client:
                answer = client.get(f"http://{HOST}:{server_port}/bytes/10")
            assert answer.status_code == status
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
        assert process.stderr.read() == ""


@pytest.mark.parametrize(("content", "mode"), [(b"short", 0o600), (b"x" * 40, 0o644), (b"", 0o600)])
def test_passwords_that_are_none(tmp_path: Path, content: bytes, mode: int) -> None:
    password = tmp_path / "password"
    password.write_bytes(content)
    password.chmod(mode)
    assert str(password) in complaint("--proxy", "--password-file", str(password))
    assert str(tmp_path) in complaint("--proxy", "--password-file", str(password / "below"))
    assert str(tmp_path) in complaint("--proxy", "--password-file", str(tmp_path))


def test_the_descriptor_limit_bounds_the_connections() -> None:
    assert affordable(1) == 1
    assert 1 <= affordable(1 << 40) < 1 << 40
