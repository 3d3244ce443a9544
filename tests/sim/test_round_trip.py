"""What a client takes the round trip to be, when servers answer late for reasons of their own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path as Directory

import pytest

from tests.http.apps import read_body
from trickles_web.http.scope import Receive, Scope, Send
from trickles_web.testing.cluster import OPEN, Client, Cluster
from trickles_web.testing.network import Path

pytestmark = pytest.mark.usefixtures("each_kind")

BODY = 1_000_000


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    await read_body(receive)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


class Uploading(Client):
    """Sends a long request, which the server gathers before it answers the opener."""

    got = b""
    estimate = 0.0

    async def play(self) -> None:
        head = b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n" % BODY
        self.write(head + b"x" * BODY)
        while b"ok" not in self.got:
            await self.wait()
            self.got += self.read()
        self.estimate = self.flow.stats.srtt


def test_an_answer_that_waited_for_an_upload_is_no_sample(tmp_path: Directory) -> None:
    """The upload takes many round trips, and little queues on the path."""
    config = replace(OPEN, request_buffering=True)
    cluster = Cluster(1, app, tmp_path, Path(delay=0.02), config=config)
    client = Uploading(cluster)
    cluster.run(300)
    assert client.got.startswith(b"HTTP/1.1 200 ")
    assert cluster.clock.now > 0.2
    assert 0.04 <= client.estimate < 0.07
