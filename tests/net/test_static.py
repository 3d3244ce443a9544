"""`trickles-serve --static`: files from workers that are replaced while they serve them."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from pathlib import Path

import pytest

from tests.net.processes import serving
from trickles_web.client import open_connection
from trickles_web.client.tokens import TokenStore
from trickles_web.errors import FlowError

pytestmark = pytest.mark.live

CONTENT = random.Random(11).randbytes(8_000_000)


def touched(path: Path) -> None:
    """A copy of the file takes its place, as on another machine: same bytes, other time."""
    new = path.with_name("new")
    new.write_bytes(CONTENT)
    os.utime(new, (1_500_000_000, 1_500_000_000 + random.randrange(10**6)))
    new.rename(path)


def range_across_a_restart(tmp_path: Path, identity: str) -> bytes:
    """The last bytes of the file; all workers are killed, and the file is another copy, midway."""
    files = tmp_path / "files"
    files.mkdir()
    touched(files / "data.bin")
    arguments = ("--static", str(files), "--port", "0", "--workers", "2", "--steering", "random")

    async def main(port: int, pids: list[int]) -> bytes:
        reader, writer = await open_connection("127.0.0.1", port, tokens=TokenStore(None))
        writer.write(
            b"GET /data.bin HTTP/1.1\r\nHost: test\r\nRange: bytes=1000-\r\n"
            b"Connection: close\r\n\r\n"
        )
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 206 ")
        got = await reader.readexactly(100_000)
        touched(files / "data.bin")
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        got += await reader.read()
        writer.close()
        return got

    with serving(tmp_path, *arguments, "--file-identity", identity) as server:
        port = server.port()
        pids = [int(server.says(rf"Worker {n} is process \[(\d+)\]")[1]) for n in (1, 2)]
        got = asyncio.run(asyncio.wait_for(main(port, pids), 60))
        assert server.end() == 0
        assert "Traceback" not in server.stderr
    return got


def test_by_content_another_copy_is_the_same_file(tmp_path: Path) -> None:
    assert range_across_a_restart(tmp_path, "content") == CONTENT[1000:]


def test_by_time_another_copy_is_another_file(tmp_path: Path) -> None:
    with pytest.raises(FlowError):
        range_across_a_restart(tmp_path, "stat")
