"""What a listener on the path gets to see: of a private flow no eight bytes in a row."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path as Directory

import pytest

from tests.http.apps import read_body
from tests.sim.captured import WINDOW, shown
from trickles_web.http.scope import Receive, Scope, Send
from trickles_web.testing.cluster import Client, Cluster
from trickles_web.testing.network import Path

WORDS = random.Random(1).randbytes(20_000).hex().encode()
"""Text in which no eight bytes in a row stand twice, by all that is likely."""
UPLOAD, PAGE = WORDS[:9000], WORDS[9000:]
HEAD = (
    b"POST /accounts/4711?name=Dr.+Faustus HTTP/1.1\r\nHost: bank.example\r\n"
    b"Authorization: Bearer eyJhbGciOiJFZERTQSJ9.c2VjcmV0.0123456789\r\n"
    b"Cookie: session=8f14e45fceea167a5a36dedd4bea2543\r\nContent-Length: %d\r\n\r\n" % len(UPLOAD)
)
LOSSY = Path(loss=0.05, request_loss=0.05, delay=0.01)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    assert await read_body(receive) == UPLOAD
    cookie = (b"set-cookie", b"csrf=c9f0f895fb98ab9159f51fd0297e236d; HttpOnly")
    await send({"type": "http.response.start", "status": 200, "headers": [cookie]})
    await send({"type": "http.response.body", "body": PAGE})


@dataclass
class Tapped(Cluster):
    captured: list[bytes] = field(default_factory=list)

    def saw(self, datagram: bytes, number: int, client: Client, *, up: bool, carried: bool) -> None:
        self.captured.append(datagram)


class Customer(Client):
    """Sends the request twice, on one flow."""

    got = b""

    async def play(self) -> None:
        for _ in range(2):
            self.write(HEAD + UPLOAD)
            while not (self.flow.idle or self.flow.error):
                self.got += self.read()
                await self.wait()
            self.got += self.read()


def transfer(directory: Directory, seed: int) -> tuple[list[bytes], bytes]:
    """All that was on the wire, and what the client read."""
    cluster = Tapped(seed, app, directory, LOSSY, 2)
    client = Customer(cluster)
    cluster.run(60)
    assert client.flow.error is None and client.got.count(PAGE) == 2
    return cluster.captured, client.got


def test_of_a_private_transfer_nothing_shows(
    tmp_path: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of heads, credentials, bodies: in neither direction, lost and repeated datagrams too."""
    monkeypatch.setattr(Cluster, "private", True)
    captured, got = transfer(tmp_path, 1)
    assert sum(map(len, captured)) > 2 * len(UPLOAD + PAGE)
    assert not shown(captured, HEAD + UPLOAD + got)


def test_of_one_in_clear_all_shows(tmp_path: Directory) -> None:
    captured, _ = transfer(tmp_path, 1)
    for said in (HEAD, UPLOAD, PAGE):
        assert len(shown(captured, said)) > 0.9 * (len(said) - WINDOW)


def test_of_two_transfers_of_the_same_no_sixteen_bytes_are_alike(
    tmp_path: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So nobody can tell that they are the same, but by lengths and times."""
    monkeypatch.setattr(Cluster, "private", True)
    captured = [transfer(tmp_path / str(seed), seed)[0] for seed in (1, 2)]
    blocks = [
        {one[at : at + 16] for one in every if one[0] >> 4 == 2 for at in range(len(one) - 15)}
        for every in captured
    ]
    assert not blocks[0] & blocks[1]
