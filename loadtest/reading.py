"""One response of many megabytes, by the real client, in clear or private.

python -m loadtest.reading HOST PORT clear|private TARGET
"""

from __future__ import annotations

import asyncio
import json
import sys
from time import monotonic

from trickles_web.client import open_connection
from trickles_web.config import ClientConfig, Trust

READ = 1 << 20


async def read(host: str, port: int, config: ClientConfig, target: str) -> int:
    reader, writer = await open_connection(host, port, config=config)
    writer.write(f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    size = 0
    while data := await reader.read(READ):
        size += len(data)
    writer.close()
    return size


def main(host: str, port: str, kind: str, target: str) -> None:
    config = ClientConfig(private=Trust(insecure=True) if kind == "private" else None)
    began = monotonic()
    size = asyncio.run(read(host, int(port), config, target))
    print(json.dumps({"megabytes": size / 1e6, "seconds": monotonic() - began}))


if __name__ == "__main__":
    main(*sys.argv[1:])
