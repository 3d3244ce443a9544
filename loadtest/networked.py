"""A client for a namespace: `python -m loadtest.networked get|put HOST PORT PATH BYTES`.

Says "going" when a tenth is through, and at the end, as JSON, what it saw: every arrival (monotonic
seconds, and the probe timeout then), the largest datagram that is known to pass, the body's digest.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
import time
from typing import Any, cast

from trickles_web.client import open_connection
from trickles_web.client.tokens import TokenStore
from trickles_web.client.transport import FlowTransport

READ_BYTES = 65_536
CHUNK = bytes(range(256)) * 256


async def get(host: str, port: int, path: str, size: int) -> dict[str, Any]:
    reader, writer = await open_connection(host, port, tokens=TokenStore())
    flow = cast(FlowTransport, writer.transport).flow
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    digest, got, going = hashlib.sha256(), 0, False
    arrivals: list[tuple[float, float]] = []
    while data := await reader.read(READ_BYTES):
        arrivals.append((time.monotonic(), flow.stats.probe_timeout))
        digest.update(data)
        got += len(data)
        if not going and got > size // 10:
            going = True
            print("going", flush=True)
    return {
        "bytes": got,
        "digest": digest.hexdigest(),
        "arrivals": arrivals,
        "datagram": flow._download.path.bytes,
        "host": writer.get_extra_info("sockname")[0],
    }


async def put(host: str, port: int, path: str, size: int) -> dict[str, Any]:
    reader, writer = await open_connection(host, port, tokens=TokenStore())
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {size}\r\n\r\n"
    writer.write(head.encode())
    digest = hashlib.sha256()
    for at in range(0, size, len(CHUNK)):
        writer.write(CHUNK[: size - at])
        digest.update(CHUNK[: size - at])
        await writer.drain()
    answer = await reader.read()
    return {"digest": digest.hexdigest(), "answer": answer.rpartition(b"\r\n\r\n")[2].decode()}


if __name__ == "__main__":
    what, host, port, path, size = sys.argv[1:]
    main = get if what == "get" else put
    print(json.dumps(asyncio.run(main(host, int(port), path, int(size)))))
