"""A real server in a thread of its own, and event loops of both makes."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import pytest

from tests.client import application
from trickles_web.net.options import Config
from trickles_web.net.server import Server

T = TypeVar("T")
Run = Callable[[Coroutine[Any, Any, T]], T]

PATIENCE_S = 30.0
"""A test that takes longer hangs."""


def wait_until(condition: Callable[[], object]) -> None:
    """Polls what has no other way to tell. Fails after PATIENCE_S."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


@pytest.fixture(autouse=True)
def no_tokens_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's cache; subprocesses inherit this."""
    monkeypatch.setenv("TRICKLES_TOKENS", "off")


@pytest.fixture(scope="session")
def server_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """UDP port on 127.0.0.1 where `tests.client.application` is served."""
    secret = tmp_path_factory.mktemp("server") / "secret"
    secret.touch(mode=0o600)
    secret.write_text(os.urandom(32).hex())
    server = Server(
        Config(
            app=application.app,
            host="127.0.0.1",
            port=0,
            secret_file=str(secret),
            lifespan="off",
            loop="asyncio",
        )
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started or not thread.is_alive())
    assert server.started
    yield server.address[1]
    server.should_exit = True
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


@pytest.fixture
def mute() -> Iterator[socket.socket]:
    """A UDP socket on 127.0.0.1 that takes datagrams and says nothing of its own accord."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(PATIENCE_S)
        yield sock


def _uvloop() -> asyncio.AbstractEventLoop:
    uvloop = pytest.importorskip("uvloop")
    return uvloop.new_event_loop()  # type: ignore[no-any-return]


@pytest.fixture(params=[asyncio.new_event_loop, _uvloop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run[Any]:
    """Runs a coroutine in a new loop; what the loop's exception handler hears fails the test."""

    def runner(main: Coroutine[Any, Any, T]) -> T:
        complaints: list[dict[str, Any]] = []

        async def bounded() -> T:
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _, context: complaints.append(context))
            async with asyncio.timeout(PATIENCE_S):
                return await main

        with asyncio.Runner(loop_factory=request.param) as loops:
            result = loops.run(bounded())
        assert complaints == []
        return result

    return runner
