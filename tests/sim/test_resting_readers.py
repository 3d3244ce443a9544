"""A reader that has no room for a long time: the server is not to take its client for gone."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from pathlib import Path as Directory

import pytest

from tests.http.peer import QUIET, body_of
from trickles_web.config import ClientConfig
from trickles_web.http.scope import Receive, Scope, Send
from trickles_web.testing.cluster import Client, Cluster
from trickles_web.testing.network import Path

PIECES = [random.Random(seed).randbytes(5000) for seed in range(40)]


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """A response that nobody else could go on with."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for piece in PIECES:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


class Resting(Client):
    """Reads a little, rests, and then reads the rest."""

    got = b""

    def __init__(self, cluster: Cluster, rest: float) -> None:
        super().__init__(cluster)
        self._rest = rest

    async def play(self) -> None:
        self.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await self.wait()
        self.got += self.read()
        await asyncio.sleep(self._rest)
        while not self.flow.idle and not self.flow.error:
            data = self.read()
            self.got += data
            if not data and not self.flow.idle:
                await self.wait()
        self.got += self.read()


@pytest.mark.parametrize("loss", [0.0, 0.05])
@pytest.mark.parametrize("rest", [45, 90, 600])
def test_a_response_waits_for_its_reader(rest: float, loss: float, tmp_path: Directory) -> None:
    config = replace(QUIET, response_buffer_bytes=20_000)
    path = Path(loss=loss, request_loss=loss)
    client = ClientConfig(receive_buffer_bytes=30_000)
    cluster = Cluster(1, app, tmp_path, path, config=config, client=client)
    resting = Resting(cluster, rest)
    cluster.run(rest + 60)
    assert resting.flow.error is None
    assert body_of(resting.got) == b"".join(PIECES)
    assert resting.flow.stats.datagrams_out < 200 + rest  # a word now and then
