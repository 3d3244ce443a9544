"""Private flows and a real server: early requests, uploads of many datagrams."""

from __future__ import annotations

import ast
import asyncio
import hashlib
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

from tests.net.processes import serving
from trickles_web.client import open_connection
from trickles_web.client.tokens import TokenStore
from trickles_web.config import ClientConfig, Trust

pytestmark = pytest.mark.live
BODY = random.Random(8).randbytes(3_000_000)
PRIVATE = ClientConfig(private=Trust(insecure=True))
APP = """
import asyncio, hashlib, json

calls = []

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    early = (b"early-data", b"1") in scope["headers"]
    calls.append([scope["path"], early])
    if scope["path"] == "/slowly":
        await asyncio.sleep(0.1)
    digest, more = hashlib.sha256(), True
    while more:
        message = await receive()
        digest.update(message.get("body", b""))
        more = message.get("more_body", False)
    if scope["method"] == "POST":
        calls.append(digest.hexdigest())
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


def test_a_request_of_many_datagrams(tmp_path: Path) -> None:
    """UPLOADs that follow each other are opened, joined, and taken as one."""
    (tmp_path / "early.py").write_text(APP)

    async def story(port: int) -> None:
        config = ClientConfig(private=Trust(insecure=True), max_loopback_datagram_bytes=1472)
        reader, writer = await open_connection("127.0.0.1", port, config=config)
        head = b"POST / HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
        writer.write(head % len(BODY) + BODY)
        told = json.loads((await reader.read()).partition(b"\r\n\r\n")[2])
        assert told["calls"][-1] == hashlib.sha256(BODY).hexdigest()
        writer.close()

    with serving(tmp_path, "early:app", "--port", "0", "--log-level", "debug") as server:
        asyncio.run(story(server.port()))
        assert server.end() == 0
        counted = ast.literal_eval(re.findall(r"Counters: (.*)", server.stderr)[-1])
    assert counted["UPLOAD"] > 2000 and counted["ACK"] < counted["UPLOAD"] / 4, counted
    assert not counted.get("internal error")


def test_what_proves_an_address_is_not_shared_with_flows_in_clear(tmp_path: Path) -> None:
    """A private flow's continuation would be seen in a HELLO in clear."""
    (tmp_path / "early.py").write_text(APP)

    async def story(port: int) -> None:
        tokens = TokenStore()
        await got(port, "/", tokens)
        assert not tokens.get("127.0.0.1", port)
        assert tokens.get("trickless://127.0.0.1", port)

    with serving(tmp_path, "early:app", "--port", "0") as server:
        asyncio.run(story(server.port()))
