"""One client in Python that makes one request after the other, as programs do.

    python -m loadtest.latencies CLIENT HOST PORT SECONDS

CLIENT: `flow` (Trickles, the streams of this package), `streams` (asyncio's, over TCP),
`http.client` or `httpx`. Prints JSON. Each answer's length is checked.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import sys
import time
from collections.abc import Awaitable, Callable

from loadtest.application import BODY
from loadtest.kind import flows
from trickles_web.client import open_connection
from trickles_web.client.tokens import TokenStore

WARM_UP = 50
REQUEST = b"GET / HTTP/1.1\r\nHost: loadtest\r\n\r\n"
Get = Callable[[], Awaitable[int]]
"""Makes a request; the length of the answer's body."""


async def streams(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
    writer.write(REQUEST)
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        raise EOFError(f"not a 200: {head!r}")
    return len(await reader.readexactly(len(BODY)))


async def connect(
    client: str, host: str, port: int
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Over Trickles for `flow`, else over TCP: both have the same interface."""
    if client == "flow":
        return await open_connection(host, port, config=flows(), tokens=TokenStore(None))
    return await asyncio.open_connection(host, port)


async def getter(client: str, host: str, port: int) -> Get:
    """Connected. Raises ValueError for what is no client."""
    if client in ("flow", "streams"):
        connected = await connect(client, host, port)
        return lambda: streams(*connected)
    if client == "http.client":
        return _http_client(host, port)
    if client == "httpx":
        return _httpx(f"http://{host}:{port}/")
    raise ValueError(f"no client {client}")


def _http_client(host: str, port: int) -> Get:
    connection = http.client.HTTPConnection(host, port)

    async def get() -> int:
        connection.request("GET", "/")
        return len(connection.getresponse().read())

    return get


def _httpx(url: str) -> Get:
    import httpx

    client = httpx.AsyncClient()

    async def get() -> int:
        return len((await client.get(url)).content)

    return get


async def measure(client: str, host: str, port: int, seconds: float) -> dict[str, float]:
    """Microseconds, and how many requests there were, with those of the warm-up and without."""
    get = await getter(client, host, port)
    times: list[float] = []
    for _ in range(WARM_UP):
        await get()
    began = now = time.perf_counter()
    while now < began + seconds:
        if await get() != len(BODY):
            raise EOFError("an answer of the wrong length")
        before, now = now, time.perf_counter()
        times.append((now - before) * 1e6)
    times.sort()
    return {
        "requests": len(times),
        "requests in all": len(times) + WARM_UP,
        "seconds": now - began,
        "p50 us": times[len(times) // 2],
        "p99 us": times[len(times) * 99 // 100],
    }


if __name__ == "__main__":
    name, host, port, seconds = sys.argv[1:]
    print(json.dumps(asyncio.run(measure(name, host, int(port), float(seconds)))))
