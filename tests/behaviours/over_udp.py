"""The table by a client of the product, over UDP: what is between it and the replicas is not seen.

    python -m tests.behaviours.over_udp CONTROL HOST PORT REPLICAS SEEN_FROM STOP_S EVERY

The replicas (`replica`) come to the Unix socket CONTROL; REPLICAS are their hosts, with commas
between. HOST and PORT are where all of them are asked, SEEN_FROM is what they see as the client's
host. From a third of the table on, one of them is stopped (SIGSTOP) for STOP_S seconds, between two
rows: what it is at work on would get the outcome that a dead process leaves, not the table's.
EVERY: 1 for the whole table, or every so many-th row. Prints JSON for each row and parser, a line.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, replace
from email.utils import parsedate_to_datetime
from pathlib import Path
from random import Random
from typing import Any, cast

from loadtest.kind import flows
from tests.behaviours import (
    rows_of_executions,
    rows_of_open_requests,
    rows_of_requests,
    rows_of_responses,
    rows_of_websockets,
)
from tests.behaviours.rows import ROWS
from tests.behaviours.rows_of_responses import DATE
from tests.behaviours.staged import FileStage
from tests.behaviours.ways import Reply, Row, World
from tests.http.peer import ADDRESS, Peer
from trickles_web.client import open_connection
from trickles_web.client.tokens import TokenStore
from trickles_web.errors import ResponseTruncated
from trickles_web.transport.wire import Code

FROM_WITHIN = frozenset(
    {
        rows_of_responses.reads_slowly,
        rows_of_responses.changes_the_file,
        rows_of_executions.asks_at_once,
        rows_of_executions.asks_another_thing,
        rows_of_executions.asks_after_a_restart,
        rows_of_executions.asks_after_a_death,
        rows_of_executions.asks_a_full_ledger,
        rows_of_open_requests.is_told_nothing,
        rows_of_open_requests.loses_the_interim,
        rows_of_open_requests.is_forgotten,
        rows_of_open_requests.asks_after_a_death,
        rows_of_websockets.vanishes,
    }
)
"""Clients that no program of a user can be, or that take hold of what is in a server."""
OVER_UDP = [row for row in ROWS if row.play not in FROM_WITHIN]
SERVER = ("192.0.2.1", 8000)
"""What the table knows servers by."""

ROW_S = 60.0
TICK_S = 0.03
"""After so long a silence, what was sent counts as taken, and what did not come as not sent."""
LATE_S = 5.0
"""What a row waits for comes by then: notes of applications, the ends of flows."""
RECENT_S = 90.0
SILENCE_MS = 4000
"""A client that left counts as gone after this: its one CANCEL may be lost."""


@dataclass(frozen=True, slots=True)
class Service:
    """Several replicas that are asked at one address."""

    host: str
    port: int
    replicas: list[str]
    """Their hosts; all have the same port."""
    seen_from: str
    """What they see as the client's host."""


class Line:
    """One flow; for plays it stands in for a `Peer`."""

    def __init__(self, where: tuple[str, int], incarnation: int) -> None:
        self._where = where
        self.incarnation = incarnation
        self.stream = b""
        """All that was said or is to be said."""
        self.held = 0
        self.got = b""
        """Of the present reply."""
        self.rest = b""
        """Came behind its end."""
        self.ended = False

    async def open(self) -> None:
        if not hasattr(self, "_reader"):
            self._reader, self._writer = await open_connection(
                *self._where, config=flows(), tokens=TokenStore()
            )

    def send(self) -> None:
        self._writer.write(self.stream[self.held :])
        self.held = len(self.stream)

    async def read(self) -> None:
        """What comes next, or that nothing does within a tick. Raises FlowError."""
        try:
            async with asyncio.timeout(TICK_S):
                data = await self._reader.read(1 << 16)
        except TimeoutError:
            return
        self.got += data
        self.ended = not data

    def over(self) -> bool:
        """Has the server ended it?"""
        return self.ended or self._reader.at_eof()

    def leave(self) -> None:
        if hasattr(self, "_writer"):
            self._writer.transport.abort()


class OverUdp(World):
    """Who plays has a network between itself and the servers, and knows nothing of them."""

    def __init__(self, row: Row, stage: FileStage, at: Service) -> None:
        super().__init__(row, stage, Random(row.name), [])
        self._files, self._at = stage, at
        self._lines: list[Line] = []

    def peer(self, incarnation: int = 7) -> Peer:
        self._lines.append(Line((self._at.host, self._at.port), incarnation))
        return cast(Peer, self._lines[-1])

    async def exchange(
        self,
        peer: Peer,
        request: bytes,
        between: Callable[[], Awaitable[None] | None] = lambda: None,
    ) -> bool:
        line = cast(Line, peer)
        await line.open()
        line.stream += request
        line.got, line.rest = line.rest, b""
        self._files.notes.look()
        method = request.lstrip().partition(b" ")[0]
        try:
            while True:
                line.send()
                end = self._end(line.got, method)
                if end is not None or line.ended:
                    break
                await line.read()
                disturbed = between()
                if disturbed is not None:
                    await disturbed
        except ResponseTruncated:
            self.outcome.code, self.outcome.part = Code.FAILED, line.got
            return False
        assert line.got, "the flow ended without a reply"
        line.rest = line.got[end:] if end is not None else b""
        self.outcome.replies.append(self._reply(line.got[:end]))
        return True

    def _end(self, got: bytes, method: bytes, start: int = 0) -> int | None:
        """Where the reply ends, if that is known; a WebSocket's ends with its flow."""
        head = got.find(b"\r\n\r\n", start)
        if head < 0:
            return None
        body, fields = head + 4, got[start:head].lower()
        status = int(fields[9:12])
        if status == 100:  # told at once, or in front of an open request's response
            return body if self.row.config.request_buffering else self._end(got, method, body)
        if status == 101:
            return None
        if status in (204, 304) or method == b"HEAD":
            return body
        if b"\r\ntransfer-encoding: chunked" in fields:
            return _end_of_chunks(got, body)
        length = re.search(rb"\r\ncontent-length: (\d+)", fields)
        if length is None or len(got) < body + int(length[1]):
            return None
        return body + int(length[1])

    def _reply(self, data: bytes) -> Reply:
        """In the words of the table: its date for that of now, its addresses for those of here."""
        reply = Reply(data, False)
        reply.body = self._translated(reply.body.decode("latin-1")).encode("latin-1")
        reply.headers = [
            (name, DATE if name == b"date" and _is_recent(value) else value)
            for name, value in reply.headers
        ]
        return reply

    def _translated(self, told: str) -> str:
        """What an application found in its scope."""
        at = self._at
        client = rf'"client": \["{re.escape(at.seen_from)}", \d+\]'
        told = re.sub(client, f'"client": {json.dumps(ADDRESS)}', told)
        hosts = "|".join(map(re.escape, at.replicas))
        return re.sub(
            rf'"server": \["({hosts})", {at.port}\]', f'"server": {json.dumps(SERVER)}', told
        )

    async def settle(self) -> None:
        """Nobody here knows: what is waited for is looked for in `judge`."""

    async def cancel(self, peer: Peer) -> None:
        cast(Line, peer).leave()

    async def play(self) -> None:
        if self.row.play is rows_of_requests.pipelined:
            await self._pipeline()
        else:
            await super().play()

    async def _pipeline(self) -> None:
        """All requests at once."""
        requests = cast("list[bytes]", self.row.requests)
        peer = self.peer()
        assert await self.exchange(peer, b"".join(requests))
        for _ in requests[1:]:
            assert await self.exchange(peer, b"")

    async def judge(self) -> None:
        """Raises AssertionError if what the row says has not come to be after a while."""
        await asyncio.sleep(TICK_S)
        checks = [self.row.checks] if callable(self.row.checks) else self.row.checks
        deadline = time.monotonic() + LATE_S
        while True:
            self._files.notes.look()
            self.outcome.heard = [tuple(map(self._as_told, what)) for what in self.outcome.heard]
            if self.outcome.replies:
                self.outcome.replies[-1].closed = self._lines[-1].over()
            try:
                for check in checks:
                    check(self.outcome)
                return
            except (AssertionError, LookupError, ValueError):
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(TICK_S)

    def _as_told(self, part: Any) -> Any:
        return self._translated(part) if isinstance(part, str) else part

    def leave(self) -> None:
        for line in self._lines:
            line.leave()


def _end_of_chunks(got: bytes, at: int) -> int | None:
    while (line := got.find(b"\r\n", at)) >= 0:
        size = int(got[at:line], 16)
        at = line + 2 + size + 2
        if not size:
            return at if len(got) >= at else None
    return None


def _is_recent(date: bytes) -> bool:
    try:
        return abs(parsedate_to_datetime(date.decode()).timestamp() - time.time()) < RECENT_S
    except ValueError:
        return False


class Replicas:
    """Those that have come, by process id; who is stopped is not waited for."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._streams: dict[int, tuple[asyncio.StreamReader, asyncio.StreamWriter]] = {}
        self._all_here = asyncio.Event()
        self._stopped: int | None = None
        self._until = 0.0

    async def come(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._streams[int(await reader.readline())] = (reader, writer)
        if len(self._streams) == self._count:
            self._all_here.set()

    async def serve(self, number: int, row: Row, parser: str, directory: Path, seen: str) -> None:
        """Returns when they do. What came for one that was stopped is dropped, with the row."""
        await self._all_here.wait()
        if time.monotonic() > self._until:
            self.go_on()
        settings = replace(row.config, http=parser, client_silence_ms=SILENCE_MS)
        if settings.forwarded_allow_ips == ADDRESS[0]:
            settings = replace(settings, forwarded_allow_ips=seen)
        told = {"number": number, "row": row.name, "directory": str(directory)}
        line = json.dumps(told | {"settings": asdict(settings)}).encode() + b"\n"
        for _, writer in self._streams.values():
            writer.write(line)
        for pid, (reader, _) in self._streams.items():
            if pid != self._stopped:
                await _until_ready(reader, number)

    def stop(self, seconds: float) -> None:
        """One of them, and at least so long."""
        self._stopped, self._until = min(self._streams), time.monotonic() + seconds
        os.kill(self._stopped, signal.SIGSTOP)

    def go_on(self) -> None:
        if self._stopped is not None:
            os.kill(self._stopped, signal.SIGCONT)
            self._stopped = None

    def dismiss(self) -> None:
        self.go_on()
        for _, writer in self._streams.values():
            writer.close()


async def _until_ready(reader: asyncio.StreamReader, number: int) -> None:
    while line := await reader.readline():
        if line == b"ready %d\n" % number:
            return
    raise RuntimeError("a replica has ended")


async def show(control: str, at: Service, stop_s: float, every: int) -> None:
    """All of it."""
    replicas = Replicas(len(at.replicas))
    cases = [(row, parser) for row in OVER_UDP[::every] for parser in ("h11", "httptools")]
    with tempfile.TemporaryDirectory(prefix="table-") as directory:
        server = await asyncio.start_unix_server(replicas.come, control)
        try:
            for number, (row, parser) in enumerate(cases):
                below = Path(directory) / str(number)
                stage = FileStage(below)
                await replicas.serve(number, row, parser, below, at.seen_from)
                if number == len(cases) // 3:
                    replicas.stop(stop_s)
                began = time.monotonic()
                complaint = await _complaint(OverUdp(row, stage, at))
                seconds = time.monotonic() - began
                said = {"row": row.name, "parser": parser, "complaint": complaint}
                print(json.dumps(said | {"seconds": seconds}), flush=True)
        finally:
            replicas.dismiss()
            server.close()


async def _complaint(world: OverUdp) -> str:
    """Why the row is not as the table says; "" if it is."""
    try:
        async with asyncio.timeout(ROW_S):
            await world.play()
            await world.judge()
    except Exception:
        return traceback.format_exc()
    finally:
        world.leave()
    return ""


if __name__ == "__main__":
    control, host, port, hosts, seen, stop_s, every = sys.argv[1:]
    at = Service(host, int(port), hosts.split(","), seen)
    asyncio.run(show(control, at, float(stop_s), int(every)))
