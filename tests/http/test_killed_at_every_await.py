"""A POST whose process is killed, once at each turn of its event loop, on each store.

Every await of the application and the server is followed by a turn, so each is a moment of death.
With Redis, where most turns bring nothing, the moments are spread over all of them.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.http.apps import Effects
from tests.http.peer import RefusedByServer, Site, body_of, in_memory
from tests.http.test_shared import Group, post
from tests.state.redis_server import RedisServer, redis_server
from trickles_web.http.runner import KeptResponse
from trickles_web.state import MemoryStore
from trickles_web.transport.wire import Code

REQUEST = post("act", b"once ")
MOST_TURNS = 20_000
MOMENTS = 16
MOST_ROUNDS = 8


class Alone(Group):
    """A process with memory of its own. Who takes its place has none of it."""

    def _open(self, site: Site) -> MemoryStore[KeptResponse]:
        return in_memory(site)

    async def kill(self, site: Site) -> None:
        for run in list(site.service.runner.calls.runs):
            run.stopping = True
            if run.task is not None:
                run.task.cancel()
        self.sites[0] = await self._start()


class Outcome(NamedTuple):
    turns: int
    """That had passed when the process was killed."""
    answered: bool
    """Was the request, before that?"""
    begun: int
    """Executions before the repeat,"""
    executed: int
    """and at the end."""
    told: str
    """What the client is told when it repeats the request at another process."""


def group_of(where: Path | RedisServer | None, app: Effects) -> Group:
    return Alone(app, Path(), 1) if where is None else Group(app, where, 2)


async def killed_after(where: Path | RedisServer | None, turns: int) -> Outcome:
    app = Effects()
    group = group_of(where, app)
    async with group:
        peer = group.peer(group.sites[0])
        first = asyncio.create_task(peer.exchange(REQUEST))
        passed = 0
        while passed < turns and not first.done():
            await asyncio.sleep(0)
            passed += 1
        answered, store = first.done(), peer.store
        first.cancel()  # it is what hands datagrams to the process
        await group.kill(group.sites[0])
        await asyncio.gather(first, return_exceptions=True)
        begun = len(app.executed)
        again = group.peer(group.sites[-1])
        again.store, again.repeats = store, True
        try:
            answer = await again.exchange(REQUEST)
        except RefusedByServer as refused:
            told = refused.code.name
        else:
            told = answer[9:12].decode()
            if told == "200":
                assert body_of(answer) == b"once once once 1"
            else:
                assert b"trickles-outcome: unknown\r\n" in answer
    return Outcome(passed, answered, begun, len(app.executed), told)


def check(outcome: Outcome) -> None:
    assert outcome.executed <= 1, outcome
    assert outcome.told in ("200", "500", Code.NOT_MINE.name), outcome
    if outcome.told == "200":
        assert outcome.executed == 1, outcome
    else:
        assert outcome.executed == outcome.begun, outcome


@pytest.mark.parametrize("store", ["memory", "directory"])
def test_a_post_killed_at_every_turn_runs_at_most_once(store: str, tmp_path: Path) -> None:
    async def main() -> list[Outcome]:
        outcomes: list[Outcome] = []
        while not outcomes or not outcomes[-1].answered:
            where = tmp_path / str(len(outcomes)) if store == "directory" else None
            outcomes.append(await killed_after(where, len(outcomes)))
            assert len(outcomes) < MOST_TURNS
        return outcomes

    outcomes = asyncio.run(main())
    for outcome in outcomes:
        check(outcome)
    told = Counter((outcome.begun, outcome.told) for outcome in outcomes)
    if store == "memory":
        assert set(told) == {(0, "NOT_MINE"), (1, "NOT_MINE")}
    else:
        assert told[0, "200"] and told[1, "500"]
        assert outcomes[-1].told == "200", "an answer that was given outlives its process"


def test_a_post_killed_at_moments_of_its_time_with_redis_runs_at_most_once() -> None:
    async def main(server: RedisServer) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for _ in range(MOST_ROUNDS):  # what takes so many turns once may take more or fewer
            server.flush()
            turns = (await killed_after(server, MOST_TURNS)).turns
            for moment in range(MOMENTS + 1):
                server.flush()
                outcomes.append(await killed_after(server, turns * moment // MOMENTS))
            if {"200", "500"} <= {outcome.told for outcome in outcomes}:
                break
        return outcomes

    with redis_server() as server:
        outcomes = asyncio.run(main(server))
    for outcome in outcomes:
        check(outcome)
    assert {"200", "500"} <= {outcome.told for outcome in outcomes}
