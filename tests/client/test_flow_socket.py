"""Sockets to a Trickles server: what programs do with a TCP socket, and how they end."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.client import application
from tests.client.application import pattern
from tests.client.conftest import PATIENCE_S, Run, wait_until
from tests.client.test_streams import get, post
from trickles_web.client import FlowSocket, background, create_connection, flow_socket, routed
from trickles_web.config import ClientConfig
from trickles_web.errors import ConnectError, ResponseTruncated, UsageError

HOST = "127.0.0.1"
FEW = ClientConfig(refused_patience_s=0.2, connect_timeout_s=0.5)


@pytest.fixture(autouse=True)
def watched_closely(monkeypatch: pytest.MonkeyPatch) -> None:
    """In all tests, for they share a thread, and with it the timer."""
    monkeypatch.setattr("trickles_web.client.relay.HALF_CLOSED_CHECK_S", 0.05)


@pytest.fixture
def sock(server_port: int) -> Iterator[FlowSocket]:
    with create_connection((HOST, server_port), PATIENCE_S) as sock:
        yield sock


def read_answer(sock: socket.socket) -> bytes:
    """The body of a response with a Content-Length."""
    with sock.makefile("rb") as file:
        assert b" 200 " in file.readline()
        length = 0
        while line := file.readline().strip().lower():
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        return file.read(length)


def read_all(sock: socket.socket) -> bytes:
    got = b""
    while data := sock.recv(65_536):
        got += data
    return got


@pytest.mark.live
def test_exchanges_one_after_the_other(sock: FlowSocket) -> None:
    for size in (10, 3_000_000, 0):
        sock.sendall(get(f"/bytes/{size}"))
        assert read_answer(sock) == pattern(size)
    body = pattern(2_000_000)
    sock.sendall(post("/post", body))
    assert read_answer(sock) == b""
    assert application.posted.pop() == body


@pytest.mark.live
def test_many_threads(server_port: int) -> None:
    failed = []

    def work(number: int) -> None:
        try:
            with create_connection((HOST, server_port), PATIENCE_S) as sock:
                for size in (number, 1000 * number):
                    sock.sendall(get(f"/bytes/{size}"))
                    assert read_answer(sock) == pattern(size)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(30)]
    for thread in threads:
        thread.start()
    carriers = [one for one in threading.enumerate() if one.name == "trickles-client"]
    for thread in threads:
        thread.join(PATIENCE_S)
    assert failed == []
    assert len(carriers) == 1


@pytest.mark.live
def test_timeouts_and_select(sock: FlowSocket) -> None:
    assert select.select([sock], [], [], 0) == ([], [], [])
    sock.settimeout(0.05)
    with pytest.raises(TimeoutError):
        sock.recv(1)
    sock.sendall(get("/bytes/5"))
    assert select.select([sock], [], [], PATIENCE_S) == ([sock], [], [])


@pytest.mark.live
def test_half_closed_it_gets_its_response(sock: FlowSocket) -> None:
    sock.sendall(get("/bytes/2000000"))
    sock.shutdown(socket.SHUT_WR)
    assert read_all(sock).endswith(pattern(2_000_000))
    assert sock.failure is None


@pytest.mark.live
@pytest.mark.parametrize("first", ["close", "shutdown"])
def test_closing_it_cancels_the_response(sock: FlowSocket, first: str) -> None:
    application.disconnected.clear()
    sock.sendall(get("/endless"))
    with sock.makefile("rb") as file:
        while file.readline() != b"data: 1\n":
            pass
    if first == "shutdown":
        sock.shutdown(socket.SHUT_WR)
    sock.close()
    assert application.disconnected.wait(PATIENCE_S)


@pytest.mark.live
def test_the_server_ends_the_flow(sock: FlowSocket) -> None:
    sock.sendall(get("/last/70000"))
    assert read_all(sock).endswith(pattern(70_000))
    assert select.select([sock], [], [], 0) == ([sock], [], [])
    assert sock.recv(1) == b""


@pytest.mark.live
def test_a_response_that_breaks_off(
    sock: FlowSocket, server_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    sock.sendall(get("/broken"))
    with pytest.raises(ResponseTruncated), caplog.at_level(logging.DEBUG):
        read_all(sock)
    assert isinstance(sock.failure, ResponseTruncated)
    assert f"{sock.failure}; resetting a socket to {HOST}:{server_port}" in caplog.text
    for _ in range(3):  # every time, though the kernel says it once
        with pytest.raises(ResponseTruncated):
            sock.recv(1)
        with pytest.raises(ResponseTruncated):
            sock.recv_into(bytearray(1))
        with pytest.raises(ResponseTruncated):
            sock.sendall(b"more")
        with pytest.raises(ResponseTruncated):
            sock.send(b"more")


@pytest.mark.live
def test_a_response_that_breaks_off_is_a_reset_to_readers_in_c(sock: FlowSocket) -> None:
    sock.sendall(get("/broken"))
    with pytest.raises(ConnectionResetError):
        while os.read(sock.fileno(), 1_000_000) if wait_readable(sock) else False:
            pass


@pytest.mark.live
def test_in_asyncio(run: Run[Any], server_port: int) -> None:
    async def main() -> None:
        for target, whole in (("/last/300000", True), ("/broken", False)):
            sock = create_connection((HOST, server_port))
            reader, writer = await asyncio.open_connection(sock=sock)
            writer.write(get(target))
            if whole:
                assert (await reader.read()).endswith(pattern(300_000))
            else:
                with pytest.raises(ConnectionResetError):
                    await reader.read()
                assert isinstance(sock.failure, ResponseTruncated)
            writer.close()

    run(main())


def wait_readable(sock: socket.socket) -> bool:
    return bool(select.select([sock], [], [], PATIENCE_S)[0])


def test_an_absent_server(absent_port: int) -> None:
    with create_connection((HOST, absent_port), PATIENCE_S, config=FEW) as sock:
        assert sock.failure is None
        sock.sendall(get("/"))
        with pytest.raises(ConnectError) as caught:
            sock.recv(1)
    assert caught.value.errno == errno.ECONNREFUSED
    assert f"UDP {HOST}:{absent_port}" in str(caught.value)


def test_a_silent_server(mute: socket.socket) -> None:
    with create_connection(mute.getsockname(), PATIENCE_S, config=FEW) as sock:
        sock.sendall(get("/"))
        with pytest.raises(ConnectError) as caught:
            sock.recv(1)
    assert caught.value.errno == errno.ETIMEDOUT


def test_where_it_comes_from(mute: socket.socket) -> None:
    with create_connection(mute.getsockname(), PATIENCE_S, ("127.0.0.9", 0)) as sock:
        sock.sendall(get("/"))
        assert mute.recvfrom(65_536)[1][0] == "127.0.0.9"


def test_no_flow_without_bytes(mute: socket.socket) -> None:
    create_connection(mute.getsockname()).close()
    with create_connection(mute.getsockname()) as sock:
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(1) == b""
    mute.setblocking(False)
    with pytest.raises(BlockingIOError):
        mute.recv(1)


def test_a_name_without_an_address() -> None:
    with pytest.raises(socket.gaierror):
        create_connection(("no-such-host.invalid", 8000))


def test_its_names(mute: socket.socket) -> None:
    with create_connection(mute.getsockname(), timeout=7) as sock:
        assert sock.gettimeout() == 7
        assert sock.getpeername() == mute.getsockname()
        sock.connect(mute.getsockname())  # it is
        with pytest.raises(OSError) as caught:
            sock.connect((HOST, 1))
        assert caught.value.errno == errno.EISCONN
        with sock.dup() as twin:
            assert twin.getpeername() == mute.getsockname()
            assert twin.failure is None
    with create_connection(mute.getsockname()) as sock:
        assert sock.gettimeout() is None
    monkey = object()  # what the socket module's own functions pass for the default
    with create_connection(mute.getsockname(), monkey) as sock:
        assert sock.gettimeout() == socket.getdefaulttimeout()


def test_a_stranger_is_not_taken_for_the_program() -> None:
    with (
        socket.create_server((HOST, 0)) as listener,
        socket.create_connection(listener.getsockname()) as stranger,
        socket.create_connection(listener.getsockname()) as program,
    ):
        flow_socket._accept(listener, program.getsockname()).close()
        assert program.recv(1) == b""
        stranger.settimeout(PATIENCE_S)
        assert stranger.recv(1) == b""


@pytest.mark.live
def test_the_thread_ends_and_starts_again(
    server_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "IDLE_S", 0.0)
    for _ in range(3):
        with create_connection((HOST, server_port), PATIENCE_S) as sock:
            sock.sendall(get("/bytes/5"))
            assert read_answer(sock) == pattern(5)
            thread = next(one for one in threading.enumerate() if one.name == "trickles-client")
        wait_until(lambda: not thread.is_alive())  # noqa: B023


@pytest.mark.live
def test_a_thread_that_was_about_to_end_stays_for_a_new_socket(sock: FlowSocket) -> None:
    current = background._current
    assert current is not None
    current._loop.call_soon_threadsafe(background._on_idle, current)
    sock.sendall(get("/bytes/5"))
    assert read_answer(sock) == pattern(5)
    assert background._current is current


def python(script: str, port: int) -> subprocess.CompletedProcess[str]:
    # The scripts leave sockets open, and fork with a thread, of which Python warns from 3.12 on.
    words = [sys.executable, "-W", "ignore", "-c", script]
    return subprocess.run([*words, str(port)], capture_output=True, text=True, timeout=PATIENCE_S)


BEGIN = """
import os, sys
from trickles_web.client import create_connection
def ask(target):
    sock = create_connection(("127.0.0.1", int(sys.argv[1])), 20)
    sock.sendall(f"GET {target} HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n".encode())
    return sock
"""
EXIT = """
sock = ask("/endless")
while b"data: 1" not in sock.recv(1000): pass
"""
FORK = """
def read(sock):
    got = 0
    while data := sock.recv(65536): got += len(data)
    return got
broken = ask("/broken")
broken.recv(1)
ready, go = os.pipe()
child = os.fork()
if not child:
    broken.close()
    assert read(ask("/bytes/3000")) > 3000
    os.read(ready, 1)  # lives on while the parent reads
    sys.exit(0)
try:
    read(broken)
except ConnectionResetError as error:
    print(type(error).__name__)
assert read(ask("/bytes/3000")) > 3000
os.write(go, b".")
print(os.waitpid(child, 0)[1])
"""


@pytest.mark.live
def test_servers_hear_of_the_end_of_the_process(server_port: int) -> None:
    application.disconnected.clear()
    done = python(BEGIN + EXIT, server_port)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert application.disconnected.wait(PATIENCE_S)


@pytest.mark.live
def test_a_forked_child_has_sockets_of_its_own(server_port: int) -> None:
    done = python(BEGIN + FORK, server_port)
    assert (done.returncode, done.stdout) == (0, "ResponseTruncated\n0\n"), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr  # the warning


@pytest.mark.live
def test_routes_are_in_force_in_the_body_only(server_port: int) -> None:
    plain = socket.create_connection
    address = (HOST, server_port)
    with routed({f"{HOST}:{server_port}"}), routed(["LOCALHOST", "[::1]:1"]):
        with socket.create_connection(address, timeout=PATIENCE_S, all_errors=True) as sock:
            assert isinstance(sock, FlowSocket)
            sock.sendall(get("/bytes/5"))
            assert read_answer(sock) == pattern(5)
        with socket.create_connection(("localhost", server_port)) as sock:
            assert isinstance(sock, FlowSocket)
        with (
            socket.create_server((HOST, 0)) as server,
            socket.create_connection(server.getsockname()) as sock,
        ):
            assert not isinstance(sock, FlowSocket)
    assert socket.create_connection is plain


@pytest.mark.parametrize("place", ["", "a b", "http://x", "x:y", ":8000", "x/y", "u@x", "x:0:1"])
def test_bad_places(place: str) -> None:
    with pytest.raises(UsageError, match="HOST:PORT"), routed([place]):
        pass
