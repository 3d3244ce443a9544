"""What an application's calls are counted as, and the access log that is written at their end."""

from __future__ import annotations

import asyncio
import contextlib
import logging

import pytest

from tests.http.apps import get, hello
from tests.http.peer import QUIET, Peer, RefusedByServer, Site
from tests.http.talking import ACCEPTED, Talk
from trickles_web.config import HttpConfig
from trickles_web.http.scope import ASGIApp, Receive, Scope, Send

JSON = HttpConfig(lifespan="off", access_log_format="json")
POST = get("/", "Content-Length: 3", method="POST") + b"abc"


async def closes(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close"})


async def denies(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "websocket.close"})


async def breaks(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 201, "headers": []})
    for _ in range(10):
        await send({"type": "http.response.body", "body": bytes(100), "more_body": True})
        await asyncio.sleep(0.005)
    raise ValueError("on purpose")


def test_responses_are_counted_by_status_and_whether_they_are_of_unsafe_requests() -> None:
    async def main() -> None:
        site = Site(hello)
        peer = Peer(lambda: site)
        for request in (get(), get("/?again"), POST):
            await peer.exchange(request)
        await peer.exchange(b"what is this\r\n\r\n")
        assert dict(site.service.runner.answered) == {
            (False, 200): 2,
            (True, 200): 1,
            (False, 400): 1,
        }
        assert site.service.runner.rerun == 0

    asyncio.run(main())


@pytest.mark.parametrize(("app", "status"), [(closes, 101), (denies, 403)])
def test_websockets_are_counted_by_what_came_of_them(app: ASGIApp, status: int) -> None:
    async def main() -> None:
        site = Site(app)
        await Talk(Peer(lambda: site), [ACCEPTED]).to_the_end()
        assert [status for _, status in site.service.runner.answered] == [status]

    asyncio.run(main())


def test_calls_that_are_repeated_are_counted() -> None:
    async def main() -> None:
        site = Site(hello)
        peer = Peer(lambda: site, piece=lambda: 20)

        def once() -> None:
            if peer.answers == 1:
                site.wipe()

        await peer.exchange(get(), between=once)
        assert site.service.runner.rerun == 1

    asyncio.run(main())


def lines(
    app: ASGIApp, caplog: pytest.LogCaptureFixture, request: bytes
) -> list[logging.LogRecord]:
    """Of the access log."""

    async def main() -> None:
        site = Site(app, JSON)
        peer = Peer(lambda: site)
        with caplog.at_level(logging.INFO, "trickles.access"):
            with contextlib.suppress(RefusedByServer):
                await peer.exchange(request)
            while site.service.runner.calls.runs:
                await asyncio.sleep(0)
        assert not site.service.runner._access._calls

    asyncio.run(main())
    return [record for record in caplog.records if record.name == "trickles.access"]


def test_the_log_at_the_end_knows_size_and_duration(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> bytes:
        site = Site(hello, QUIET)
        return await Peer(lambda: site).exchange(get("/a?b"))

    (record,) = lines(hello, caplog, get("/a?b"))
    assert record.getMessage() == '192.0.2.7:40000 - "GET /a?b HTTP/1.1" 200'
    assert record.__dict__["bytes"] == len(asyncio.run(main()))
    assert 0 < record.__dict__["duration_ms"] < 60_000


def test_a_response_that_breaks_off_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    (record,) = lines(breaks, caplog, get())
    assert record.args and record.args[-1] == 201  # type: ignore[index]
    assert record.__dict__["bytes"] >= 100


def test_a_quiet_access_log_keeps_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        site = Site(hello, JSON)
        with caplog.at_level(logging.WARNING, "trickles.access"):
            await Peer(lambda: site).exchange(get())

    asyncio.run(main())
    assert not [record for record in caplog.records if record.name == "trickles.access"]
