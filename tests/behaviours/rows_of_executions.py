"""What is executed, how often and for how long, and what a client is told if that is not known."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from tests.behaviours.apps import acts, listens, outlives_its_client, works_on
from tests.behaviours.rows_of_requests import ask, post
from tests.behaviours.rows_of_responses import reply
from tests.behaviours.ways import Check, Outcome, Row, World
from tests.http.peer import QUIET
from trickles_web.transport.wire import Code

ACT = post(b"act")
LONG_ACT = post(b"act" * 2000)
TIGHT = replace(QUIET, response_buffer_bytes=1000)
"""An application waits for its client after each kilobyte."""

FIRST = reply(content=b"execution 1")


# Checks


def seen(*expected: object) -> Check:
    """All that the application noted."""

    def check(outcome: Outcome) -> None:
        assert outcome.seen == list(expected)

    return check


def alike(outcome: Outcome) -> None:
    """However often it was asked for, there is one response."""
    assert len(outcome.replies) > 1
    assert len({(one.status, *one.headers, one.raw) for one in outcome.replies}) == 1


def refused(code: Code, *whole: int) -> Check:
    """After replies with these statuses."""

    def check(outcome: Outcome) -> None:
        assert [one.status for one in outcome.replies] == list(whole)
        assert outcome.code is code

    return check


def unknown(outcome: Outcome) -> None:
    assert outcome.reply.status == 500
    assert outcome.reply.all(b"trickles-outcome") == [b"unknown"]


def told_in_time(outcome: Outcome) -> None:
    """Of the end of its response, after it; a lost one is made again by another call."""
    assert outcome.seen[-1] == "http.disconnect"
    assert set(outcome.seen) == {"in time", "http.disconnect"}


# What clients do


async def asks_at_once(world: World) -> None:
    """The same request from one client, three times before it is answered, and twice after."""
    request = world.request
    peers = [world.peer() for _ in range(5)]
    for peer in peers[1:]:
        peer.repeats = True
    first = asyncio.create_task(world.exchange(peers[0], request))
    await world.stage.saw("executed")
    others = [asyncio.create_task(world.exchange(peer, request)) for peer in peers[1:3]]
    await asyncio.sleep(0)
    world.stage.go_on.set()
    assert await asyncio.gather(first, *others) == [True] * 3
    for peer in peers[3:]:
        assert await world.exchange(peer, request)


async def asks_another_thing(world: World) -> None:
    """In place of the request that was executed."""
    world.stage.go_on.set()
    assert await world.exchange(world.peer(), world.request)
    other = world.peer()
    other.repeats = True
    await world.exchange(other, world.request.replace(b"act", b"ACT"))


async def asks_after_a_restart(world: World) -> None:
    """Nothing is left of what the first answer was made with."""
    world.stage.go_on.set()
    assert await world.exchange(world.peer(), world.request)
    (site,) = world.sites
    repeat = world.peer()
    repeat.repeats = True
    site.wipe()
    await world.exchange(repeat, world.request)


async def asks_after_a_death(world: World) -> None:
    """Of the process that executes it."""
    assert world.group is not None
    request = world.request
    first = asyncio.create_task(world.exchange(world.peer(), request))
    await world.stage.saw("executed")
    (owner,) = [site for site in world.sites if site.service.runner.calls.runs]
    await world.group.kill(owner)
    first.cancel()
    world.stage.go_on.set()
    for _ in range(3):
        repeat = world.peer()
        repeat.repeats = True
        assert await world.exchange(repeat, request)


async def asks_a_full_ledger(world: World) -> None:
    for site in world.sites:
        site.store.ledger.capacity = 0
    await world.exchange(world.peer(), world.request)


class Left(Exception):
    """The client has seen enough."""


async def leaves(world: World) -> None:
    """With a part of the response."""
    peer = world.peer()

    def leave() -> None:
        if peer.got:
            raise Left

    try:
        await world.exchange(peer, world.request, leave)
    except Left:
        assert world.stage.seen == []
        await world.cancel(peer)
    await world.stage.saw("ran on")


async def hears_before_the_work_is_done(world: World) -> None:
    assert await world.exchange(world.peer(), world.request)
    assert world.stage.seen == []
    world.stage.go_on.set()
    await world.stage.saw("worked on")


async def hears_of_the_end(world: World) -> None:
    peer = world.peer()
    while not await world.exchange(peer, world.request):
        assert world.forgetful  # lost after its end
        assert world.outcome.code is Code.GONE
        world.outcome.code = None
        peer = world.peer(peer.incarnation + 1)
    await world.stage.saw("http.disconnect")


ROWS = [
    Row("repeats of an unsafe one", acts, ACT, (FIRST, alike, seen("executed")), play=asks_at_once),
    Row(
        "repeats of a large unsafe one",
        *(acts, LONG_ACT, (FIRST, alike, seen("executed"))),
        play=asks_at_once,
    ),
    Row(
        "another unsafe one in its place",
        *(acts, ACT, (refused(Code.CONFLICT, 200), seen("executed"))),
        play=asks_another_thing,
    ),
    Row(
        "an unsafe one after a restart",
        *(acts, ACT, (refused(Code.NOT_MINE, 200), seen("executed"))),
        play=asks_after_a_restart,
        ways=("one", "forgetful"),
    ),
    Row(
        "an unsafe one whose process died",
        *(acts, ACT, (unknown, alike, seen("executed"))),
        play=asks_after_a_death,
        ways=("replicas",),
    ),
    Row(
        "a full ledger",
        *(acts, ACT, (refused(Code.BUSY), seen())),
        play=asks_a_full_ledger,
        ways=("one", "replicas"),
    ),
    Row(
        "a client that leaves",
        *(outlives_its_client, ask(), seen("http.disconnect", "ran on"), TIGHT),
        play=leaves,
    ),
    Row(
        "a client that leaves its POST",
        *(outlives_its_client, ACT, seen("http.disconnect", "ran on"), TIGHT),
        play=leaves,
    ),
    Row(
        "the end of a response is heard, not earlier",
        *(listens, ask(), told_in_time, TIGHT),
        play=hears_of_the_end,
    ),
    Row(
        "the end of a POST's response",
        *(listens, ACT, told_in_time, TIGHT),
        play=hears_of_the_end,
    ),
    Row(
        "work after the response",
        *(works_on, ask(), reply(content=b"accepted")),
        play=hears_before_the_work_is_done,
    ),
    Row(
        "work after the response to a POST",
        *(works_on, ACT, (reply(content=b"accepted"), seen("worked on"))),
        play=hears_before_the_work_is_done,
    ),
]
