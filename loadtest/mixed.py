"""The client of the scenarios `chaos` and `soak`: exchanges of all kinds, each checked to the byte.

    python -m loadtest.mixed CLIENT PORT COUNT SECONDS SEED DIRECTORY PAUSE_S

CLIENT: `flow` (Trickles) or `streams` (asyncio's, over TCP). Ends after COUNT exchanges or SECONDS;
each of AT_ONCE connections rests for PAUSE_S after an exchange. Each exchange is a line of JSON:
[kind, name, outcome, began, ended, why] (monotonic seconds; what an error says). Outcomes: `right`,
`WRONG` (other bytes than the right ones), `HANG` (no end within PATIENCE_S), else how it failed: a
status, `unknown` (a status too, if the server says so), or the name of a typed error.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, Event, RejectConnection, Request

from loadtest import mixture
from loadtest.latencies import connect
from trickles_web.errors import FlowError

HOST = "127.0.0.1"
PATIENCE_S = 300.0
"""An exchange that takes longer hangs: a flow gives up when for 60 s, and for as long as it took to
come so far, it comes no further. So this is that an upload may take two minutes."""
AT_ONCE = 48
PER_FLOW = 5
"""Exchanges on a flow, one after the other, if all goes well."""
FILE_BYTES = 1_000_000
EVENTS = 20
ECHOES = 5

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Failed(Exception):
    """An exchange ended, but not with its answer; str() says how."""


class Wrong(Exception):
    """Other bytes than the right ones."""


async def asked(streams: Streams, line: str, *lines: str, body: bytes = b"") -> tuple[int, bytes]:
    """Status and body of the answer to a request. Raises Failed for an error of the server's."""
    reader, writer = streams
    head = "\r\n".join([f"{line} HTTP/1.1", "Host: x", *lines, "", ""])
    writer.write(head.encode() + body)
    answer = await reader.readuntil(b"\r\n\r\n")
    first, *rest = answer.decode("latin-1").lower().split("\r\n")
    fields = dict(text.split(": ", 1) for text in rest if text)
    status = int(first.split(" ")[1])
    if fields.get("transfer-encoding") == "chunked":
        whole = b""
        while size := int(await reader.readuntil(b"\r\n"), 16):
            whole += (await reader.readexactly(size + 2))[:-2]
        await reader.readexactly(2)
    else:
        whole = await reader.readexactly(int(fields["content-length"]))
    if status >= 400:
        raise Failed("unknown" if fields.get("trickles-outcome") else str(status))
    return status, whole


class Mixed:
    """See the module. Names of unsafe requests are unlike in all runs of one directory."""

    def __init__(self, client: str, port: int, seed: int, directory: Path, pause_s: float) -> None:
        self._client, self._port, self._pause_s = client, port, pause_s
        self.chance = random.Random(seed)
        self.file = (directory / "file.bin").read_bytes()
        self.kinds: list[tuple[Callable[[Streams, str], Awaitable[None]], int]] = [
            (self.small, 40),
            (self.large, 8),
            (self.chunks, 5),
            (self.whole_file, 5),
            (self.ranges, 12),
            (self.post, 17),
            (self.upload, 5),
            (self.events, 4),
            (self.websocket, 4),
        ]
        self._numbers = iter(range(sys.maxsize))
        self._seed = seed

    async def run(self, count: int, seconds: float) -> None:
        until = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(self._flows(count, until))

    async def _flows(self, count: int, until: float) -> None:
        going = True
        while going:
            streams = await connect(self._client, HOST, self._port)
            try:
                for _ in range(PER_FLOW):
                    number = next(self._numbers)
                    going = number < count and time.monotonic() < until
                    if not going or not await self._one(streams, f"{self._seed}-{number}"):
                        break
                    await asyncio.sleep(self._pause_s)
            finally:
                streams[1].close()

    async def _one(self, streams: Streams, name: str) -> bool:
        """One exchange; can another one follow on its flow?"""
        weights = [weight for _, weight in self.kinds]
        kind = self.chance.choices([kind for kind, _ in self.kinds], weights)[0]
        began, outcome, why = time.monotonic(), "right", ""
        try:
            async with asyncio.timeout(PATIENCE_S):
                await kind(streams, name)
        except Failed as failed:
            outcome = str(failed)
        except Wrong:
            outcome = "WRONG"
        except FlowError as error:
            outcome, why = type(error).__name__, str(error)
        except asyncio.IncompleteReadError:
            outcome = "early end"
        except TimeoutError:
            outcome = "HANG"
        except OSError as error:
            outcome, why = type(error).__name__, str(error)
        line = (kind.__name__, name, outcome, began, time.monotonic(), why)
        print(json.dumps(line), flush=True)
        return outcome == "right" and kind != self.websocket

    # -- the kinds

    async def small(self, streams: Streams, name: str) -> None:
        await self._bytes(streams, "bytes", self.chance.randrange(1, 2000))

    async def large(self, streams: Streams, name: str) -> None:
        await self._bytes(streams, "bytes", self.chance.randrange(50_000, 800_000))

    async def chunks(self, streams: Streams, name: str) -> None:
        await self._bytes(streams, "chunks", self.chance.randrange(1000, 300_000))

    async def _bytes(self, streams: Streams, path: str, length: int) -> None:
        seed = self.chance.randrange(1 << 30)
        _, body = await asked(streams, f"GET /{path}/{seed}/{length}")
        check(body == mixture.content(seed, length))

    async def whole_file(self, streams: Streams, name: str) -> None:
        _, body = await asked(streams, "GET /file/file.bin")
        check(body == self.file)

    async def ranges(self, streams: Streams, name: str) -> None:
        first = self.chance.randrange(FILE_BYTES)
        last = min(FILE_BYTES - 1, first + self.chance.randrange(100_000))
        status, body = await asked(streams, "GET /file/file.bin", f"Range: bytes={first}-{last}")
        check((status, body) == (206, self.file[first : last + 1]))

    async def post(self, streams: Streams, name: str) -> None:
        await self._post(streams, name, self.chance.randrange(1, 500))

    async def upload(self, streams: Streams, name: str) -> None:
        await self._post(streams, name, self.chance.randrange(50_000, 3_000_000))

    async def _post(self, streams: Streams, name: str, length: int) -> None:
        data = mixture.content(self.chance.randrange(1 << 30), length)
        _, body = await asked(streams, f"POST /{name}", f"Content-Length: {length}", body=data)
        check(body.decode() == hashlib.sha256(data).hexdigest())

    async def events(self, streams: Streams, name: str) -> None:
        _, body = await asked(streams, f"GET /events/{EVENTS}")
        check(body == b"".join(map(mixture.event, range(EVENTS))))

    async def websocket(self, streams: Streams, name: str) -> None:
        reader, writer = streams
        peer = WSConnection(ConnectionType.CLIENT)
        writer.write(peer.send(Request(host="x", target="/")))

        async def heard() -> Event:
            while True:
                for event in peer.events():
                    return event
                data = await reader.read(65_536)
                if not data:
                    raise Failed("closed")
                peer.receive_data(data)

        first = await heard()
        if isinstance(first, RejectConnection):
            raise Failed(str(first.status_code))
        check(isinstance(first, AcceptConnection))
        for number in range(ECHOES):
            data = mixture.content(number, self.chance.randrange(1, 5000))
            writer.write(peer.send(BytesMessage(data=data)))
            echo, whole = b"", False
            while not whole:
                message = await heard()
                if not isinstance(message, BytesMessage):
                    raise Failed("closed")
                echo += message.data
                whole = message.message_finished
            check(echo == data)


def check(right: bool) -> None:
    """Raises Wrong."""
    if not right:
        raise Wrong


if __name__ == "__main__":
    client, port, count, seconds, seed, where, pause_s = sys.argv[1:]
    mixed = Mixed(client, int(port), int(seed), Path(where), float(pause_s))
    asyncio.run(mixed.run(int(count), float(seconds)))
