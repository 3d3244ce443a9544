"""The port for operators, and clients that mean it no good."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from trickles_web.errors import BindError
from trickles_web.net.monitoring import listener
from trickles_web.net.monitoring.listener import LONGEST_HEAD, MOST_CLIENTS, MOST_WATCHERS, Listener
from trickles_web.net.monitoring.readings import Reading
from trickles_web.net.monitoring.tallies import Tally, alone

READING = Reading(1.0, Counter({("datagrams", "in"): 9}), {})


def tallies() -> list[Tally]:
    return alone(10, READING)


@pytest.fixture
def port() -> Iterator[Listener]:
    with Listener("127.0.0.1", 0, tallies) as port:
        yield port


def connected(port: Listener, sent: bytes = b"") -> socket.socket:
    sock = socket.create_connection(port.address, timeout=10)
    with contextlib.suppress(OSError):  # it may have been closed at once
        sock.sendall(sent)
    return sock


def heard(sock: socket.socket) -> bytes:
    """To the end, be it a reset."""
    answer = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := sock.recv(65536):
            answer += piece
    return answer


def asked(port: Listener, sent: bytes) -> bytes:
    with connected(port, sent) as sock:
        return heard(sock)


def metrics(port: Listener) -> bytes:
    return asked(port, b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n")


def is_served(port: Listener) -> bool:
    return b'\ntrickles_datagrams_total{direction="in",worker="1"} 9.0\n' in metrics(port)


def test_metrics_and_the_page(port: Listener) -> None:
    assert is_served(port)
    head, _, body = metrics(port).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n" in head
    assert b"\r\nContent-Length: %d\r\n" % len(body) in head
    page = asked(port, b"GET /?x HTTP/1.0\r\n\r\n")
    assert b"\r\nContent-Type: text/html; charset=utf-8\r\n" in page
    assert b"<title>trickles-web</title>" in page
    assert b"//" not in page.partition(b"<style>")[0].partition(b"\r\n\r\n")[2]  # no addresses
    assert asked(port, b"HEAD / HTTP/1.1\r\n\r\n") == page.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"POST /metrics HTTP/1.1\r\nHost: test\r\n\r\n", b"405 Method Not Allowed"),
        (b"DELETE / HTTP/1.1\r\n\r\n", b"405 Method Not Allowed"),
        (b"GET /favicon.ico HTTP/1.1\r\n\r\n", b"404 Not Found"),
        (b"GET /metrics/ HTTP/1.1\r\n\r\n", b"404 Not Found"),
        (b"GET /../etc/passwd HTTP/1.1\r\n\r\n", b"404 Not Found"),
        (b"GET http://elsewhere/ HTTP/1.1\r\n\r\n", b"400 Bad Request"),
        (b"GET / HTTP/2.0\r\n\r\n", b"400 Bad Request"),
        (b"\0\xff\x16\x03\x01 what\r\n\r\n", b"400 Bad Request"),
        (b"\r\n\r\n", b"400 Bad Request"),
        (b"GET / HTTP/1.1\r\n" + b"a" * LONGEST_HEAD, b"431 Request Header Fields Too Large"),
    ],
)
def test_what_is_not_to_be_had_is_said(port: Listener, sent: bytes, status: bytes) -> None:
    answer = asked(port, sent)
    assert answer.startswith(b"HTTP/1.1 " + status + b"\r\n")
    assert answer.endswith(b"\r\n\r\n" + status + b"\n")
    assert is_served(port)


def test_a_huge_head_is_not_read_to_its_end(port: Listener) -> None:
    with connected(port) as sock:
        sent = 0
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            while sent < 64 << 20:
                sock.sendall(b"x" * 65536)
                sent += 65536
        assert sent < 64 << 20
    assert is_served(port)


def test_events_come_until_the_client_leaves(
    port: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "EVERY_S", 0.01)
    with connected(port, b"GET /events HTTP/1.1\r\n\r\n") as sock, sock.makefile("rb") as file:
        assert file.readline() == b"HTTP/1.1 200 OK\r\n"
        while file.readline() != b"\r\n":
            pass
        for _ in range(3):
            event = file.readline()
            assert json.loads(event.removeprefix(b"data: "))["workers"][0]["in"] == 9
            assert file.readline() == b"\n"
    for _ in range(MOST_WATCHERS + 1):  # each leaves room for the next
        with connected(port, b"GET /events HTTP/1.1\r\n\r\n") as sock:
            assert sock.recv(100).startswith(b"HTTP/1.1 200 OK\r\n")


def test_pages_that_are_open_leave_room_for_metrics(port: Listener) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(MOST_WATCHERS):
            sock = stack.enter_context(connected(port, b"GET /events HTTP/1.1\r\n\r\n"))
            assert sock.recv(100).startswith(b"HTTP/1.1 200 OK\r\n")
        one_more = asked(port, b"GET /events HTTP/1.1\r\n\r\n")
        assert one_more.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert is_served(port)


def test_slow_clients_are_few_and_get_their_time_only() -> None:
    with (
        Listener("127.0.0.1", 0, tallies, patience_s=0.3) as port,
        contextlib.ExitStack() as stack,
    ):
        slow = [stack.enter_context(connected(port, b"GET / HTT")) for _ in range(MOST_CLIENTS)]
        assert heard(stack.enter_context(connected(port, b"GET /metrics HT"))) == b""
        assert [heard(sock) for sock in slow] == [b""] * MOST_CLIENTS
        assert is_served(port)


def test_it_ends_while_clients_are_connected(caplog: pytest.LogCaptureFixture) -> None:
    with contextlib.ExitStack() as stack:
        with Listener("127.0.0.1", 0, tallies) as port:
            watching = stack.enter_context(connected(port, b"GET /events HTTP/1.1\r\n\r\n"))
            assert watching.recv(100).startswith(b"HTTP/1.1 200 OK\r\n")
            stack.enter_context(connected(port, b"GET"))
            address = port.address
        heard(watching)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, timeout=10)
    assert not [thread for thread in threading.enumerate() if thread.name == "metrics"]
    assert [record.levelname for record in caplog.records if record.levelno > 20] == []


def test_a_port_that_is_taken_is_named() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(BindError, match="is in use by another process; choose another --metrics"),
    ):
        Listener("127.0.0.1", taken.getsockname()[1], tallies)
