"""Private flows: a request in the first datagram says that it is early, and may be put off."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.net.processes import serving
from trickles_web.client import open_connection
from trickles_web.client.tokens import TokenStore
from trickles_web.config import ClientConfig, Trust

pytestmark = pytest.mark.live
PRIVATE = ClientConfig(private=Trust(insecure=True))
APP = """
import asyncio, json

calls = []

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    early = (b"early-data", b"1") in scope["headers"]
    calls.append([scope["path"], early])
    if scope["path"] == "/slowly":
        await asyncio.sleep(0.1)
    body = json.dumps({"calls": calls, "scheme": scope["scheme"]}).encode()
    refused = early and scope["path"] in ("/late", "/slowly")
    start = {"type": "http.response.start", "status": 425 if refused else 200}
    await send(start | {"headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})
"""


async def got(port: int, path: str, tokens: TokenStore, config: ClientConfig = PRIVATE) -> Any:
    reader, writer = await open_connection("127.0.0.1", port, config=config, tokens=tokens)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    assert head.startswith(b"HTTP/1.1 200 "), head
    return json.loads(body)


def test_a_request_from_hello_is_early_and_comes_again_if_the_application_says_so(
    tmp_path: Path,
) -> None:
    (tmp_path / "early.py").write_text(APP)

    async def story(port: int) -> None:
        tokens = TokenStore()
        first = await got(port, "/", tokens)
        assert first == {"calls": [["/", False]], "scheme": "https"}, "a stranger has come back"
        second = await got(port, "/", tokens)
        assert second["calls"][1:] == [["/", True]]
        for path in ("/late", "/slowly"):
            told = await got(port, path, tokens)
            assert told["calls"][-2:] == [[path, True], [path, False]]
        in_clear = await got(port, "/", tokens, ClientConfig())
        assert in_clear["calls"][-1] == ["/", False] and in_clear["scheme"] == "http"

    with serving(tmp_path, "early:app", "--port", "0") as server:
        asyncio.run(story(server.port()))
        assert "Traceback" not in server.stderr
