"""Open idle flows cost a server nothing, in short; `python -m loadtest idle` is the long form."""

from __future__ import annotations

import pytest

from loadtest.flows import Crowd
from loadtest.idle import memory_kb
from tests.live.stage import Site, Stage
from trickles_web.config import HttpConfig

pytestmark = [pytest.mark.live, pytest.mark.xdist_group("live crowds")]

FIRST, MORE = 5_000, 5_000


def test_open_idle_flows_cost_no_memory(stage: Stage) -> None:
    assert HttpConfig().store_responses < FIRST  # what may be kept of the past is kept by then
    with Site(stage, "apps.hello:app", "--port", "0", "--no-access-log") as site:
        crowd = Crowd(("127.0.0.1", site.port), keep_every=50)
        try:
            crowd.open(FIRST)
            before = memory_kb(site.running.process.pid)["Rss"]
            crowd.open(MORE)
            growth = memory_kb(site.running.process.pid)["Rss"] - before
            assert crowd.open_flows == FIRST + MORE
            assert crowd.again() == len(crowd.kept) == (FIRST + MORE) // 50
            assert crowd.answers == {b"Hello, world!\n"}
        finally:
            crowd.close()
        site.end()
    assert growth < 2_000
