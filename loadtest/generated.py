"""A long stream that is generated as it goes, the same bytes in every process: `GET /MEGABYTES`.

The server's log names each process that begins or goes on with it.
"""

from __future__ import annotations

import os
import sys

from apps.hello import Receive, Scope, Send, lifespan
from apps.large_files import MEGABYTE, megabyte
from trickles_web.resumable import Chunks, resumable_stream

PIECE_BYTES = 100_000
_PIECES = MEGABYTE // PIECE_BYTES
"""In a megabyte."""


@resumable_stream("application/octet-stream")
async def _stream(scope: Scope, state: bytes | None) -> Chunks:
    """The state is the number of the next piece."""
    number = int(state or 0)
    print(f"Process [{os.getpid()}] begins with piece {number}", file=sys.stderr, flush=True)
    block = b""
    while number < int(scope["path"][1:]) * _PIECES:
        whole, part = divmod(number, _PIECES)
        if not block or not part:
            block = megabyte(whole)
        number += 1
        yield block[part * PIECE_BYTES : (part + 1) * PIECE_BYTES], str(number)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    else:
        await _stream(scope, receive, send)
