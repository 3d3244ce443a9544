"""Timers of both event loops; uvloop's differ where a time has come already."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.http.apps import get, hello
from tests.http.peer import Peer as Client
from tests.http.peer import Site
from tests.live.test_requests import uvloop_loop
from tests.net.test_endpoint import served
from trickles_web.net.udp import Peer


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop_loop], ids=["asyncio", "uvloop"])
def test_what_is_overdue_can_be_scheduled_twice(
    loop: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path
) -> None:
    """Two requests parked in one turn of a busy loop.

    For a time in the past uvloop's call_at gives a Handle, which has no when().
    """

    async def main() -> None:
        async with served(hello, tmp_path) as (endpoint, address):
            redeemed = Client(lambda: Site(hello)).redeemed(data=get())
            overdue = asyncio.get_running_loop().time() - 1
            endpoint._parking.park(redeemed, Peer(address, []), overdue)
            endpoint._schedule()
            endpoint._schedule()
            assert endpoint._timer is not None
            assert endpoint._timer_at < overdue + 1
            endpoint._parking.remove(redeemed.incarnation)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())
