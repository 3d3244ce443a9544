"""A flow's socket: what goes out and comes in as trains, and one by one where the kernel cannot."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
import sys
from collections.abc import Iterator

import pytest

from trickles_web.client import port as port_module
from trickles_web.client import sockets
from trickles_web.client.port import QUEUE_DATAGRAMS, Port
from trickles_web.client.remote import resolve_blocking
from trickles_web.config import ClientConfig
from trickles_web.trains import SOL_UDP, UDP_SEGMENT
from trickles_web.transport.layout import LARGEST_SEND

PATIENCE_S = 5.0


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(PATIENCE_S)
        yield sock


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    with asyncio.Runner() as runner:
        yield runner.get_loop()


@pytest.fixture
def port(server: socket.socket, loop: asyncio.AbstractEventLoop) -> Iterator[Port]:
    host, at = server.getsockname()
    remote = resolve_blocking(host, at, ClientConfig())
    made = Port(loop, remote, None, lambda: None, lambda: None)
    yield made
    made.close()


def received(server: socket.socket, count: int) -> list[bytes]:
    return [server.recv(65_536) for _ in range(count)]


DATAGRAMS = {
    "none": [],
    "one": [b"a" * 300],
    "of one length": [bytes([i]) * 1200 for i in range(100)],
    "the last shorter": [b"a" * 500, b"b" * 500, b"c" * 20],
    "a longer one behind": [b"a" * 500, b"b" * 500, b"c" * 600],
    "falling": [bytes([i]) * (900 - i) for i in range(50)],
    "more than one send": [bytes([i]) * 16_384 for i in range(9)],
    "largest": [b"a" * LARGEST_SEND, b"b" * LARGEST_SEND],
}


@pytest.mark.parametrize("case", DATAGRAMS)
@pytest.mark.parametrize("segments", [True, False])
def test_datagrams_arrive_one_by_one(
    server: socket.socket, port: Port, case: str, segments: bool
) -> None:
    """Whatever the kernel was told to cut, at the other end each is by itself."""
    port._segments = port._segments and segments
    port.send(DATAGRAMS[case])
    assert received(server, len(DATAGRAMS[case])) == DATAGRAMS[case]


def test_a_train_is_handed_over_whole(server: socket.socket, port: Port) -> None:
    """Or as often as it takes, where the kernel does not put datagrams together."""
    sent = [bytes([i]) * 1000 for i in range(9)] + [b"end"]
    control = [(SOL_UDP, UDP_SEGMENT, struct.pack("=H", 1000))]
    server.sendmsg([b"".join(sent)], control, 0, port.socket.getsockname())
    got: list[bytes] = []
    while len(got) < len(sent):
        train, segment = port.receive()
        got += [train[i : i + segment] for i in range(0, len(train), segment)]
    assert got == sent
    with pytest.raises(BlockingIOError):
        port.receive()


def test_a_path_too_narrow_for_a_train_gets_datagrams(
    server: socket.socket, port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel refuses to cut to more than it takes at once: they leave one by one after that."""
    monkeypatch.setattr(port_module, "MOST_SEGMENTS", 1000)
    monkeypatch.setattr(port_module, "LARGEST_SEND", 1 << 20)
    sent = [bytes([i % 256]) * 100 for i in range(900)]
    port.send(sent)
    assert received(server, len(sent)) == sent
    assert not port._segments


def test_a_full_buffer_keeps_the_order(port: Port, loop: asyncio.AbstractEventLoop) -> None:
    """What does not fit waits until there is room. (UDP on loopback is never full: a pair is.)"""
    loop.remove_reader(port.socket.fileno())
    port.socket.close()
    port.socket, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    port._segments = False
    sent = [bytes([i]) * 1200 for i in range(120)]
    with other:
        for sock in (port.socket, other):
            sock.setblocking(False)
        port.send(sent)
        assert 0 < len(port._queue) < QUEUE_DATAGRAMS
        got: list[bytes] = []

        async def receive() -> None:
            async with asyncio.timeout(PATIENCE_S):
                while len(got) < len(sent):
                    got.append(await loop.sock_recv(other, 65_536))

        loop.run_until_complete(receive())
    assert got == sent


def test_refusals_are_reported_and_nothing_raised(loop: asyncio.AbstractEventLoop) -> None:
    """ICMP port unreachable, told instead of sending a train."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
        gone.bind(("127.0.0.1", 0))
        host, at = gone.getsockname()
        remote = resolve_blocking(host, at, ClientConfig())
    refused: list[int] = []
    port = Port(loop, remote, None, lambda: None, lambda: refused.append(errno.ECONNREFUSED))
    try:
        for _ in range(3):
            port.send([b"a" * 100, b"b" * 100])
    finally:
        port.close()
    assert refused


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
@pytest.mark.parametrize("small", [True, False])
def test_an_overflow_is_told_once_with_its_remedy(
    small: bool, server: socket.socket, port: Port, caplog: pytest.LogCaptureFixture
) -> None:
    sockets._warn_of_small_buffer.cache_clear()
    # What is asked for is small here, where a process may be allowed to have more than others.
    port.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    had = port.socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sockets, "RECEIVE_BUFFER_BYTES", had + small)
        for _ in range(3):
            for _ in range(50):
                server.sendto(bytes(1000), port.socket.getsockname())
            with contextlib.suppress(BlockingIOError):
                while port.receive():
                    pass
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == small
    assert all(f"net.core.rmem_max={had + 1}" in text for text in told)
