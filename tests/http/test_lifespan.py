from __future__ import annotations

import asyncio
import logging

import pytest

from trickles_web.errors import LifespanFailed
from trickles_web.http.lifespan import Lifespan
from trickles_web.http.scope import Receive, Scope, Send


async def good(scope: Scope, receive: Receive, send: Send) -> None:
    assert scope["type"] == "lifespan"
    assert scope["asgi"] == {"version": "3.0", "spec_version": "2.0"}
    assert (await receive()) == {"type": "lifespan.startup"}
    scope["state"]["pool"] = "open"
    await send({"type": "lifespan.startup.complete"})
    assert (await receive()) == {"type": "lifespan.shutdown"}
    scope["state"]["pool"] = "closed"
    await send({"type": "lifespan.shutdown.complete"})


async def unaware(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError("http only")


async def failing(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})


async def out_of_order(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "lifespan.shutdown.complete"})


async def dies_at_shutdown(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    raise ValueError("cannot stop")


@pytest.mark.parametrize("mode", ["auto", "on"])
def test_start_and_stop(mode: str) -> None:
    async def main() -> None:
        lifespan = Lifespan(good, mode)
        await lifespan.startup()
        assert lifespan.state == {"pool": "open"}
        await lifespan.shutdown()
        assert lifespan.state == {"pool": "closed"}

    asyncio.run(main())


def test_auto_leaves_an_unaware_application_alone(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        lifespan = Lifespan(unaware, "auto")
        await lifespan.startup()
        await lifespan.shutdown()

    with caplog.at_level(logging.INFO, "trickles.error"):
        asyncio.run(main())
    assert "ASGI 'lifespan' protocol appears unsupported." in caplog.text


def test_off_does_not_ask() -> None:
    async def main() -> None:
        lifespan = Lifespan(failing, "off")
        await lifespan.startup()
        await lifespan.shutdown()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("app", "mode", "words"),
    [
        (unaware, "on", "http only"),
        (failing, "auto", "no database"),
        (failing, "on", "no database"),
        (out_of_order, "on", "invalid state transition"),
    ],
)
def test_a_failed_start_is_an_error(
    app: object, mode: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        with pytest.raises(LifespanFailed):
            await Lifespan(app, mode).startup()  # type: ignore[arg-type]

    asyncio.run(main())
    assert words in caplog.text


def test_an_error_at_the_end_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        lifespan = Lifespan(dies_at_shutdown, "auto")
        await lifespan.startup()
        await lifespan.shutdown()

    asyncio.run(main())
    assert "cannot stop" in caplog.text
