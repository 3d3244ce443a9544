"""One client in Python that uploads again and again on one connection: a process of its own.

    python -m loadtest.posting CLIENT HOST PORT MEGABYTES SECONDS

CLIENT: `flow` (Trickles, the streams of this package) or `streams` (asyncio's, over TCP). Prints
JSON. The server says how many bytes came, which is checked.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from loadtest.latencies import connect

MEGABYTE = 1_000_000
PIECE_BYTES = 250_000


async def post(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, size: int) -> None:
    writer.write(
        f"POST /sink HTTP/1.1\r\nHost: loadtest\r\nContent-Length: {size}\r\n\r\n".encode()
    )
    piece = bytes(PIECE_BYTES)
    for at in range(0, size, PIECE_BYTES):
        writer.write(piece[: size - at])
        await writer.drain()
    head = await reader.readuntil(b"\r\n\r\n")
    counted = await reader.readexactly(len(str(size)))
    if not head.startswith(b"HTTP/1.1 200 ") or int(counted) != size:
        raise EOFError(f"{size} bytes were sent, and the answer is {head + counted!r}")


async def measure(client: str, host: str, port: int, megabytes: int, seconds: float) -> None:
    connected = await connect(client, host, port)
    began = time.perf_counter()
    count = 0
    while not count or time.perf_counter() < began + seconds:
        await post(*connected, megabytes * MEGABYTE)
        count += 1
    elapsed = time.perf_counter() - began
    print(json.dumps({"megabytes": count * megabytes, "seconds": elapsed}))


if __name__ == "__main__":
    name, host, *numbers = sys.argv[1:]
    port, megabytes, seconds = numbers
    asyncio.run(measure(name, host, int(port), int(megabytes), float(seconds)))
