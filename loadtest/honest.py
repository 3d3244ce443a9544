"""Honest clients, as a process of its own: how often they are served, and how long they wait.

    python -m loadtest.honest flow|tcp HOST PORT PATH SECONDS

Some keep a flow or connection open and ask once in a while; another one opens a new one each time.
Prints JSON.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from dataclasses import asdict, dataclass, field

from trickles_web.client import open_connection
from trickles_web.client.tokens import TokenStore

KEEPERS = 8
"""Clients that keep theirs open."""
APART_S = 0.02
"""Between an answer and the next request of one client."""
PATIENCE_S = 5.0
"""Who waits longer for an answer was not served."""


@dataclass(slots=True)
class Service:
    """How some clients were served: milliseconds of each answer, and how many there were not."""

    waits: list[float] = field(default_factory=list)
    failed: int = 0
    errors: list[str] = field(default_factory=list)
    """The first few."""


@dataclass(frozen=True, slots=True)
class Site:
    client: str
    host: str
    port: int
    request: bytes


async def opened(site: Site) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if site.client == "flow":
        return await open_connection(site.host, site.port, tokens=TokenStore(None))
    return await asyncio.open_connection(site.host, site.port)


async def ask(site: Site, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One exchange. Raises OSError, EOFError or ValueError."""
    writer.write(site.request)
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"(?i)^content-length: (\d+)\r$", head, re.MULTILINE)
    if not head.startswith(b"HTTP/1.1 200 ") or length is None:
        raise ValueError(head.partition(b"\r\n")[0].decode("latin-1"))
    await reader.readexactly(int(length[1]))


async def keep_asking(site: Site, service: Service, until: float, *, anew: bool) -> None:
    """anew: a new flow or connection for each request; else only after a failure."""
    writer: asyncio.StreamWriter | None = None
    while time.monotonic() < until:
        began = time.monotonic()
        try:
            async with asyncio.timeout(PATIENCE_S):
                if writer is None:
                    reader, writer = await opened(site)
                await ask(site, reader, writer)
            service.waits.append((time.monotonic() - began) * 1000)
        except (OSError, EOFError, ValueError) as error:
            service.failed += 1
            service.errors = [*service.errors, repr(error)][:3]
            anew_now = True
        else:
            anew_now = anew
        if anew_now and writer is not None:
            writer.close()
            writer = None
        await asyncio.sleep(APART_S)
    if writer is not None:
        writer.close()


async def serve_all(site: Site, seconds: float) -> dict[str, Service]:
    until = time.monotonic() + seconds
    kept, new = Service(), Service()
    async with asyncio.TaskGroup() as group:
        for _ in range(KEEPERS):
            group.create_task(keep_asking(site, kept, until, anew=False))
        group.create_task(keep_asking(site, new, until, anew=True))
    return {"open": kept, "new": new}


if __name__ == "__main__":
    client, host, port, path, seconds = sys.argv[1:]
    request = f"GET {path} HTTP/1.1\r\nHost: loadtest\r\n\r\n".encode()
    found = asyncio.run(serve_all(Site(client, host, int(port), request), float(seconds)))
    print(json.dumps({name: asdict(service) for name, service in found.items()}))
