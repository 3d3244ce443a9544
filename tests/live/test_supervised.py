"""Workers and a gateway under the supervisor: what dies comes back, and all end together."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.stage import (
    SITE,
    Stage,
    alive_below,
    fetching,
    grown_to,
    same_as_site,
    until,
)
from tests.net.processes import Running, is_alive

pytestmark = [pytest.mark.live, pytest.mark.xdist_group("live requests")]

MEGABYTES = 10
NUMBERS = [signal.SIGINT, signal.SIGTERM, signal.SIGKILL]


@contextlib.contextmanager
def supervised(stage: Stage, *more: str) -> Iterator[tuple[Running, int, int]]:
    """The supervisor, its UDP port, and its gateway's TCP port."""
    with stage.serving(SITE, "--port", "0", "--gateway", "127.0.0.1:0", *more) as server:
        port = server.port()
        yield server, port, int(server.says(r"and http://127\.0\.0\.1:(\d+) \(Press")[1])


def newest(server: Running, name: str) -> int:
    return int(re.findall(rf"{name} is process \[(\d+)\]", server.stderr)[-1])


def test_a_worker_is_killed_and_the_gateway_goes_on(stage: Stage, tmp_path: Path) -> None:
    file = tmp_path / "file"
    with supervised(stage, "--workers", "2") as (server, udp, tcp):
        gateway = newest(server, "Gateway")
        for number, (client, port) in enumerate((("trickles-get", udp), ("curl", tcp)), start=1):
            file.unlink(missing_ok=True)
            address = f"127.0.0.1:{port}/files/{MEGABYTES}.bin"
            with fetching(client, address, file, "--limit-rate", "5M"):
                grown_to(file, MEGABYTES * 200_000)
                for name in ("Worker 1", "Worker 2"):
                    before = newest(server, name)
                    os.kill(before, signal.SIGKILL)
                    until(lambda: newest(server, name) != before, f"another {name}")  # noqa: B023
            assert same_as_site(file, MEGABYTES)
            killed = r"Worker \d \[\d+\] was killed by signal 9; restarting it"
            assert len(re.findall(killed, server.stderr)) == 2 * number
        assert newest(server, "Gateway") == gateway and is_alive(gateway)
        assert server.end() == 0
        assert "Traceback" not in server.stderr


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: number.name)
def test_nothing_is_left_behind_however_it_ends(stage: Stage, number: int) -> None:
    """In the middle of a keep-alive connection with a response under way."""
    with supervised(stage) as (server, _, tcp):
        children = alive_below(server.process.pid)
        assert len(children) == 2
        with socket.create_connection(("127.0.0.1", tcp), timeout=30) as connection:
            connection.sendall(b"GET /files/100.bin HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(1) == b"H"  # the rest is under way
            code = server.end(number)
            assert code == (0 if number != signal.SIGKILL else -signal.SIGKILL)
            until(lambda: not any(is_alive(pid) for pid in children), "the children's end")
            if number != signal.SIGKILL:  # of a killed gateway the kernel ends connections itself
                with pytest.raises(ConnectionResetError):
                    while connection.recv(1 << 20):
                        pass  # an end in order would end this
        assert "Traceback" not in server.stderr
