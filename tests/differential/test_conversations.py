"""WebSockets and 100 Continue behind uvicorn and behind the product's gateway: no client can tell
one from the other."""

from __future__ import annotations

import asyncio
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from tests.differential.servers import uvicorn
from tests.net.processes import serving

pytestmark = [pytest.mark.live, pytest.mark.xdist_group("differential conversations")]

APPLICATION = "tests.differential.conversing:app"
Ports = tuple[int, int]
"""uvicorn's, and the gateway's."""

Message = str | bytes


class Heard(NamedTuple):
    """A conversation, as its client saw it."""

    status: int
    subprotocol: str | None
    headers: tuple[str | None, ...]
    messages: tuple[Message, ...]
    code: int | None = None
    reason: str | None = None


class Difference(NamedTuple):
    reason: str
    path: str
    uvicorn: tuple[int, int | None]
    trickles: tuple[int, int | None]
    """Status and close code."""


DIFFERENCES = (
    Difference(
        "RFC 6455 §7.4.1: 1011 is for an application that failed; uvicorn breaks the connection",
        "/raises",
        (101, 1006),
        (101, 1011),
    ),
    Difference(
        "an application that returns is done, and says goodbye; uvicorn breaks the connection",
        "/returns",
        (101, 1006),
        (101, 1000),
    ),
)


@pytest.fixture(scope="module", params=["h11", "httptools"])
def ports(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ports]:
    directory = tmp_path_factory.mktemp("conversations")
    own = ("--port", "0", "--gateway", "127.0.0.1:0", "--http", request.param)
    with (
        uvicorn(directory, APPLICATION, request.param, "wsproto") as theirs,
        serving(directory, APPLICATION, *own, "--lifespan", "off") as server,
    ):
        yield theirs, int(server.says(r"and http://127\.0\.0\.1:(\d+) \(Press")[1])


def heard(port: int, path: str, said: list[Message], **options: Any) -> Heard:
    """Say all of it, take as much as is expected back, and close with 4000."""
    return asyncio.run(asyncio.wait_for(_heard(port, path, said, **options), 30))


async def _heard(port: int, path: str, said: list[Message], **options: Any) -> Heard:
    got: list[Message] = []
    address = f"ws://127.0.0.1:{port}{path}"
    try:
        client = await connect(address, ping_interval=None, max_size=None, proxy=None, **options)
    except InvalidStatus as error:
        answer = error.response
        return Heard(answer.status_code, None, (answer.headers.get("x-why"),), ())
    try:
        for message in said:
            await client.send(message)
            got.append(await client.recv())
        if said or path == "/chooses":
            await client.close(4000, "enough")
        else:
            got.append(await client.recv())
            await client.close()
    except ConnectionClosed:
        pass
    assert client.response is not None
    names = ("x-chosen", "sec-websocket-extensions")
    headers = tuple(client.response.headers.get(name) for name in names)
    code, reason = client.close_code, client.close_reason
    return Heard(101, client.subprotocol, headers, tuple(got), code, reason)


def drawn(kind: str) -> list[Message]:
    """Messages of any size, in text and bytes."""
    draw = random.Random(kind)
    sizes = [draw.choice((0, 1, 125, 126, 1400, 65_535, 65_536, 300_000)) for _ in range(12)]
    data = [draw.randbytes(size) for size in sizes]
    return [piece.hex() if draw.random() < 0.5 else piece for piece in data]


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_messages(ports: Ports, compression: str | None) -> None:
    theirs, ours = (heard(p, "/", drawn("messages"), compression=compression) for p in ports)
    assert theirs == ours
    assert (theirs.messages, theirs.code) == (tuple(drawn("messages")), 4000)


@pytest.mark.parametrize(
    "path", ["/scope?a=%20b", "/scope/%C3%A4", "/closes", "/refuses", "/breaks"]
)
def test_ends_and_scopes(ports: Ports, path: str) -> None:
    theirs, ours = (heard(port, path, []) for port in ports)
    assert theirs == ours


@pytest.mark.parametrize("path", ["/denies", "/silent"])
def test_denials(ports: Ports, path: str) -> None:
    theirs, ours = (heard(port, path, []) for port in ports)
    assert theirs == ours
    assert theirs.status == (418 if path == "/denies" else 500)


def test_subprotocols_and_headers(ports: Ports) -> None:
    offered = [Subprotocol("a"), Subprotocol("b")]
    theirs, ours = (heard(port, "/chooses", [], subprotocols=offered) for port in ports)
    assert theirs == ours
    assert (theirs.subprotocol, theirs.headers[0]) == ("b", "b")


@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda difference: difference.reason)
def test_known_differences(ports: Ports, difference: Difference) -> None:
    theirs, ours = (heard(port, difference.path, []) for port in ports)
    assert (theirs.status, theirs.code) == difference.uvicorn
    assert (ours.status, ours.code) == difference.trickles


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize("framing", ["Content-Length: 300000", "Transfer-Encoding: chunked"])
def test_uploads_that_wait_for_100(ports: Ports, framing: str, tmp_path: Path) -> None:
    """The status lines of all responses, the interim one too, and the body of the last."""
    body = tmp_path / "body"
    body.write_bytes(random.Random(1).randbytes(300_000))
    answers = []
    for port in ports:
        done = subprocess.run(
            [
                *("curl", "-sS", "-v", "--expect100-timeout", "60", "-H", "Expect: 100-continue"),
                *("-H", framing, "--data-binary", f"@{body}", f"http://127.0.0.1:{port}/"),
            ],
            capture_output=True,
            timeout=60,
        )
        lines = [line for line in done.stderr.splitlines() if line.startswith(b"< HTTP/")]
        answers.append((done.returncode, lines, done.stdout))
    assert answers[0] == answers[1]
    assert answers[0][1][0].startswith(b"< HTTP/1.1 100 ")
