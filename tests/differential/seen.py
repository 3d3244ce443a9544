"""An application that tells what it was asked, as far as framing goes: no header but Host."""

from __future__ import annotations

import hashlib
import json
from typing import Any

BEGIN, END = b"seen:", b";\n"


async def app(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    digest, length, more = hashlib.sha256(), 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        part = message.get("body", b"")
        digest.update(part)
        length += len(part)
        more = message.get("more_body", False)
    told = [scope["method"], scope["path"], length, digest.hexdigest()[:16]]
    body = BEGIN + json.dumps(told).encode() + END
    length_line = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": 200, "headers": [length_line]})
    await send({"type": "http.response.body", "body": body})
