"""Timers of both event loops; uvloop's differ where a time has come already."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from tests.live.test_requests import uvloop_loop
from trickles_web.net.endpoint import Endpoint
from trickles_web.net.parking import Parking


class Overdue(Parking):
    """Always has something that should have been done a second ago."""

    def next_due(self) -> float:
        return asyncio.get_running_loop().time() - 1


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop_loop], ids=["asyncio", "uvloop"])
def test_what_is_overdue_can_be_scheduled_twice(
    loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """Two requests parked in one turn of a busy loop.

    For a time in the past uvloop's call_at gives a Handle, which has no when().
    """

    async def main() -> None:
        nothing = cast(Any, None)
        endpoint = Endpoint(nothing, nothing, nothing, asyncio.get_running_loop())
        endpoint._parking = Overdue()
        endpoint._schedule()
        endpoint._schedule()
        assert endpoint._timer is not None
        endpoint._timer.cancel()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())
