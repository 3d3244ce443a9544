"""An application that forks, and tells the nonces of seals here and in the child."""

from __future__ import annotations

import json
import os
import warnings
from typing import Any

from trickles_web.net import forks
from trickles_web.transport.keys import SEAL_NONCE_BYTES, Keyring
from trickles_web.transport.private.channel import Privacy

NOW = 1_800_000_000_000


def nonce() -> bytes:
    """Of a seal by the server's own keyring, and of one in a private flow."""
    keyring, privacy = forks._in_use
    assert isinstance(keyring, Keyring) and isinstance(privacy, Privacy)
    sealed = keyring.current(NOW).seal(b"", b"")
    return sealed[:SEAL_NONCE_BYTES] + privacy._nonces.next()


def nonce_of_a_child() -> bytes:
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
        pid = os.fork()
    if not pid:
        os.write(writing, nonce())
        os._exit(0)
    os.waitpid(pid, 0)
    found = os.read(reading, 100)
    os.close(reading)
    os.close(writing)
    return found


async def app(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    told = {"before": nonce(), "child": nonce_of_a_child(), "after": nonce()}
    body = json.dumps({name: value.hex() for name, value in told.items()}).encode()
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": body})
