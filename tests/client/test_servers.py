"""Several servers of one service: flows are spread, fail over, and follow who is preferred."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.client.conftest import Run
from tests.net.processes import Running, serving
from trickles_web.client import open_connection
from trickles_web.client.tokens import TokenStore
from trickles_web.config import ClientConfig

pytestmark = [pytest.mark.live, pytest.mark.xdist_group("client servers")]

HOST = "127.0.0.1"
CONFIG = ClientConfig(connect_timeout_s=20.0)
WHOLE = 40_000_000


class Replicas:
    """Processes on ports of their own, which share a secret and a folder of files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.files = directory / "files"
        self.files.mkdir()
        self._secret = directory / "secret"
        self._secret.touch(mode=0o600)
        self._secret.write_text("ab" * 32)
        self._stack = contextlib.ExitStack()
        self.all: list[Running] = []

    def start(self, *arguments: str, port: int = 0) -> int:
        folder = self.directory / f"replica{len(self.all)}"
        folder.mkdir()
        common = (f"--static={self.files}", f"--port={port}", f"--secret-file={self._secret}")
        running = self._stack.enter_context(serving(folder, *common, *arguments))
        self.all.append(running)
        return running.port()

    def close(self) -> None:
        self._stack.close()


@pytest.fixture
def replicas(tmp_path: Path) -> Iterator[Replicas]:
    made = Replicas(tmp_path)
    yield made
    made.close()


def config_of(*ports: int) -> ClientConfig:
    return ClientConfig(replicas=tuple((HOST, port) for port in ports), connect_timeout_s=20.0)


@contextlib.asynccontextmanager
async def getting(
    path: str, ports: tuple[int, ...], tokens: TokenStore | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """One GET has been sent; its connection is to be closed by the server."""
    reader, writer = await open_connection(
        HOST, ports[0], config=config_of(*ports[1:]), tokens=tokens or TokenStore()
    )
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        yield reader, writer
    finally:
        writer.transport.abort()


async def body(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    return await reader.read()


def peer_port(writer: asyncio.StreamWriter) -> int:
    port: int = writer.get_extra_info("peername")[1]
    return port


def test_flows_are_spread_and_begin_where_somebody_answers(
    run: Run[Any], replicas: Replicas
) -> None:
    (replicas.files / "small").write_bytes(b"small")
    ports = tuple(replicas.start() for _ in range(3))

    async def flows(count: int) -> list[int]:
        reached = []
        for _ in range(count):
            async with getting("/small", ports) as (reader, writer):
                assert await body(reader) == b"small"
                reached.append(peer_port(writer))
        return reached

    async def main() -> None:
        assert sorted(await flows(6)) == sorted(2 * ports)
        replicas.all[0].end(signal.SIGKILL)
        assert set(await flows(4)) == set(ports[1:])
        # Only the first of them was sent to the dead one: after that it is avoided.
        os.kill(replicas.all[1].process.pid, signal.SIGSTOP)
        assert set(await flows(6)) == {ports[2]}

    run(main())


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["refused", "silent"])
def test_a_download_goes_on_at_another_server(
    run: Run[Any], replicas: Replicas, how: signal.Signals
) -> None:
    content = os.urandom(WHOLE)
    (replicas.files / "large").write_bytes(content)
    ports = tuple(replicas.start() for _ in range(2))

    async def main() -> None:
        async with getting("/large", ports) as (reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            got = bytearray(await reader.readexactly(1_000_000))
            first = peer_port(writer)
            os.kill(replicas.all[ports.index(first)].process.pid, how)
            got += await reader.read()
            assert got == content
            assert {first, peer_port(writer)} == set(ports)

    run(main())


def test_a_flow_goes_on_at_the_address_that_is_preferred(run: Run[Any], replicas: Replicas) -> None:
    content = os.urandom(WHOLE)
    (replicas.files / "large").write_bytes(content)
    own = replicas.start()
    shared = replicas.start(f"--preferred-address={HOST}:{own}")

    async def main() -> None:
        tokens = TokenStore()
        for _ in range(2):  # a stranger, and who was there before
            async with getting("/large", (shared,), tokens) as (reader, writer):
                assert await body(reader) == content
                assert peer_port(writer) == own

    run(main())


def test_who_stays_silent_is_asked_from_port_after_port() -> None:
    """What spreads clients over servers by their ports may name the same dead one twice."""

    async def main() -> int:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
            silent.bind((HOST, 0))
            silent.settimeout(10)
            _, writer = await open_connection(
                *silent.getsockname(), config=CONFIG, tokens=TokenStore()
            )
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            ports: set[int] = set()
            heard = 0
            while len(ports) < 3 and heard < 7:
                ports.add((await asyncio.to_thread(silent.recvfrom, 65_536))[1][1])
                heard += 1
            writer.transport.abort()
        return len(ports)

    assert asyncio.run(main()) == 3


def test_silence_at_the_preferred_address_leads_back(
    run: Run[Any], replicas: Replicas, mute: socket.socket
) -> None:
    content = os.urandom(WHOLE)
    (replicas.files / "large").write_bytes(content)
    port = replicas.start(f"--preferred-address={HOST}:{mute.getsockname()[1]}")

    async def main() -> None:
        for _ in range(2):
            async with getting("/large", (port,)) as (reader, writer):
                assert await body(reader) == content
                assert peer_port(writer) == port

    run(main())
    mute.settimeout(0)
    asked = 0
    with contextlib.suppress(BlockingIOError):
        while mute.recv(65_536):
            asked += 1
    assert 0 < asked < 40  # by the first flow, until it knew
