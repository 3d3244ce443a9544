"""A server of the table's rows, in a process of its own, that is told which one it is to be.

    python -m tests.behaviours.replica CONTROL HOST PORT STORE PEER

CONTROL is the Unix socket of who asks (`over_udp`): "PID" is said there at the start, then a line
comes for each row, and "ready NUMBER" goes back once the row is served. Of several lines the newest
counts: who was stopped for a while is back at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tests.behaviours.rows import ROWS
from tests.behaviours.staged import FileStage
from trickles_web.config import HttpConfig
from trickles_web.net.options import Config
from trickles_web.net.server import Server

SECRET = b"of the table, 32 bytes or longer"
NAMED = {row.name: row for row in ROWS}
CONNECTING_S = 30.0


@dataclass(frozen=True, slots=True)
class RowConfig(Config):
    """Rows set more than users can."""

    settings: HttpConfig = field(default_factory=HttpConfig)

    def http_config(self) -> HttpConfig:
        return self.settings


class Replica:
    """One row after the other."""

    def __init__(self, host: str, port: int, store: str, peer: str) -> None:
        self._where = {"host": host, "port": port, "store": store, "peer": peer}
        self._server: Server | None = None
        self._serving: asyncio.Task[None] | None = None

    async def serve(self, told: dict[str, Any]) -> None:
        """Returns when it does, and the row before is no longer served."""
        await self.end()
        row = NAMED[told["row"]]
        stage = FileStage(Path(told["directory"]))
        config = RowConfig(
            app=partial(row.app, stage),
            interface="asgi3",
            # Datagrams of another row, which may come late, are another service's.
            service=f"row {told['number']}",
            settings=HttpConfig(**told["settings"]),
            allow_cleartext=True,  # also behind an engine, where it is not on the loopback
            **self._where,  # type: ignore[arg-type]
        )
        started = asyncio.Event()
        self._server = Server(config, secrets=(SECRET,), on_started=started.set)
        self._serving = asyncio.create_task(self._server.serve())
        starting = asyncio.create_task(started.wait())
        await asyncio.wait((starting, self._serving), return_when=asyncio.FIRST_COMPLETED)
        starting.cancel()
        if self._serving.done():
            self._serving.result()
            raise RuntimeError(f"{row.name}: exit code {self._server.exit_code}")

    async def end(self) -> None:
        if self._server is not None and self._serving is not None:
            self._server.should_exit = self._server.force_exit = True
            await self._serving

    async def obey(self, control: str) -> None:
        reader, writer = await _connected(control)
        writer.write(b"%d\n" % os.getpid())
        while line := await _newest(reader):
            told = json.loads(line)
            await self.serve(told)
            writer.write(b"ready %d\n" % told["number"])
        await self.end()
        writer.close()


async def _newest(reader: asyncio.StreamReader) -> bytes:
    """The last whole line that is there, once there is one; b"" at the end."""
    line = await reader.readline()
    with contextlib.suppress(TimeoutError):
        while line:
            async with asyncio.timeout(0.001):
                line = await reader.readline()
    return line


async def _connected(control: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    async with asyncio.timeout(CONNECTING_S):
        while not Path(control).exists():
            await asyncio.sleep(0.01)
    return await asyncio.open_unix_connection(control, limit=1 << 20)


if __name__ == "__main__":
    control, host, port, store, peer = sys.argv[1:]
    asyncio.run(Replica(host, int(port), store, peer).obey(control))
