"""`trickles-serve --limit-request-body`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.net.processes import serving
from tests.net.test_serve import HELLO, exchange

pytestmark = pytest.mark.live


async def post(port: int, size: int) -> bytes:
    """The status line."""
    head = f"POST / HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: {size}\r\n\r\n"
    answer = await exchange(port, head.encode() + bytes(size))
    return answer.partition(b"\r\n")[0]


@pytest.mark.parametrize(
    ("arguments", "environment", "limit"),
    [
        (("--limit-request-body", "3000"), {}, 3000),
        (("--limit-request-body", "2k"), {}, 2048),
        (("--limit-request-body", "20M"), {}, 20 << 20),
        (("--workers", "2"), {"TRICKLES_LIMIT_REQUEST_BODY": "1K"}, 1024),
    ],
)
def test_bodies_up_to_the_limit(
    tmp_path: Path, arguments: tuple[str, ...], environment: dict[str, str], limit: int
) -> None:
    with serving(tmp_path, HELLO, "--port", "0", *arguments, environment=environment) as server:
        port = server.port()
        assert asyncio.run(post(port, limit)) == b"HTTP/1.1 200 OK"
        assert b" 413 " in asyncio.run(post(port, limit + 1))


@pytest.mark.parametrize("text", ["3X", "-1", "", "1.5M", "M"])
def test_what_is_no_size_is_said(tmp_path: Path, text: str) -> None:
    with serving(tmp_path, HELLO, f"--limit-request-body={text}") as server:
        assert server.process.wait(30) == 2
        assert "give bytes, such as 500000, 16M or 2G" in server.stderr
        assert server.stderr.count("\n") == 1
