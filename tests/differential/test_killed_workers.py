"""Pages that no second run reproduces outlive the worker that made them, through the run directory.

Clients with little room hold each page back, so most of it is still at the server when all workers
are killed, one after the other.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import os
import re
import signal
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.differential.answers import Answer, answers
from tests.differential.pages import DIGEST_LENGTH
from tests.net.processes import Running, serving
from tests.net.test_supervisor import children, comes_back
from trickles_web.client import open_connection
from trickles_web.client.tokens import TokenStore
from trickles_web.config import ClientConfig

pytestmark = [pytest.mark.live, pytest.mark.xdist_group("differential")]

PAGES = "tests.differential.pages:app"
ROOM_BYTES = 8192
"""What a client takes ahead of its reader."""


class Asked(NamedTuple):
    method: str
    target: str
    lines: tuple[str, ...] = ()

    @property
    def data(self) -> bytes:
        first = f"{self.method} {self.target} HTTP/1.1"
        return "\r\n".join([first, "Host: x", "Connection: close", *self.lines, "", ""]).encode()


ZIPPED = ("Accept-Encoding: gzip",)
LENGTH = ("Content-Length: 0",)
ASKED = [
    *(Asked("GET", f"/{size}/plain") for size in (40_000, 65_536, 200_000, 1_000_000)),
    *(Asked("GET", f"/{size}/zipped", ZIPPED) for size in (100_000, 300_000, 2_000_000)),
    *(Asked("POST", f"/{size}/posted", LENGTH) for size in (60_000, 400_000)),
    Asked("POST", "/150000/posted-and-zipped", (*LENGTH, *ZIPPED)),
]


class Download:
    """One page on a flow of its own."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.came = bytearray()

    async def begin(self, port: int) -> None:
        """Read a part of the page; most of it stays at the server."""
        self._reader, self._writer = await open_connection(
            "127.0.0.1",
            port,
            limit=ROOM_BYTES // 2,
            config=ClientConfig(receive_buffer_bytes=ROOM_BYTES),
            tokens=TokenStore(None),
        )
        self._writer.write(self.asked.data)
        await self.read(2000)

    async def read(self, length: int) -> None:
        self.came += await self._reader.readexactly(length)

    async def finish(self) -> None:
        while data := await self._reader.read(65_536):
            self.came += data
        self._writer.close()

    @property
    def process(self) -> int:
        found = re.search(rb"x-process: (\d+)\r\n", self.came, re.IGNORECASE)
        assert found, self.came
        return int(found[1])


def check(asked: Asked, came: bytes) -> str:
    """The token of a page that is whole and all of one run."""
    (answer,) = answers(came, asked.method)
    assert (answer.status, answer.complete) == (200, True)
    zipped = (b"content-encoding", b"gzip") in answer.headers
    assert zipped == (ZIPPED[0] in asked.lines)
    page = unzipped(answer) if zipped else answer.body
    size = int(asked.target.split("/")[1])
    assert len(page) == size + DIGEST_LENGTH
    content, digest = page[:size], page[size:]
    assert hashlib.sha256(content).hexdigest() == digest.decode()
    assert f"<title>http://x{asked.target}</title>".encode() in content
    found = re.search(rb"token ([0-9a-f]{64})\n", content)
    assert found
    cookies = [value for name, value in answer.headers if name == b"set-cookie"]
    assert [c.split(b"=")[0] for c in cookies] == [b"csrftoken", b"session"]
    assert cookies[0].split(b";")[0] == b"csrftoken=" + found[1]
    return found[1].decode()


def unzipped(answer: Answer) -> bytes:
    """Raises gzip.BadGzipFile if the checksum in the format's own trailer is another."""
    return gzip.decompress(answer.body)


def test_pages_outlive_all_workers(tmp_path: Path) -> None:
    async def main(server: Running) -> None:
        port = server.port()
        downloads = [Download(asked) for asked in ASKED]
        await asyncio.gather(*(download.begin(port) for download in downloads))
        made_by = {download.process for download in downloads}
        assert made_by <= set(children(server).values())
        for name, pid in children(server).items():
            os.kill(pid, signal.SIGKILL)
            await asyncio.to_thread(comes_back, server, name, pid)
            for download in downloads:
                await download.read(5000)
        assert not made_by & set(children(server).values())
        await asyncio.gather(*(download.finish() for download in downloads))
        tokens = {check(download.asked, bytes(download.came)) for download in downloads}
        assert len(tokens) == len(downloads)

    with serving(tmp_path, PAGES, "--port", "0", "--workers", "2") as server:
        asyncio.run(asyncio.wait_for(main(server), 60))
        assert server.end() == 0
        assert "Traceback" not in server.stderr


def test_all_workers_are_killed_at_once_as_soon_as_pages_begin(tmp_path: Path) -> None:
    """With the client's usual room, so that it is a matter of luck what has been sent by then."""

    async def main(server: Running) -> None:
        port = server.port()
        flows = [await open_connection("127.0.0.1", port, tokens=TokenStore(None)) for _ in ASKED]
        for asked, (_, writer) in zip(ASKED, flows, strict=True):
            writer.write(asked.data)
        heads = await asyncio.gather(*(reader.readuntil(b"\r\n\r\n") for reader, _ in flows))
        before = children(server)
        for pid in before.values():
            os.kill(pid, signal.SIGKILL)  # with no await since the last head came
        for name, pid in before.items():
            await asyncio.to_thread(comes_back, server, name, pid)
        bodies = await asyncio.gather(*(reader.read() for reader, _ in flows))
        for asked, head, body in zip(ASKED, heads, bodies, strict=True):
            check(asked, head + body)
        for _, writer in flows:
            writer.close()

    with serving(tmp_path, PAGES, "--port", "0", "--workers", "2") as server:
        asyncio.run(asyncio.wait_for(main(server), 60))
        assert server.end() == 0
        assert "Traceback" not in server.stderr
