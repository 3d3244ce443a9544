"""When other processes get a response that was done at once: as soon as it is owed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.http.apps import get
from tests.http.peer import Peer, Site
from tests.http.test_shared import Executions, Group
from tests.state.redis_server import RedisServer
from trickles_web.config import BASE_DATAGRAM
from trickles_web.http.responses import Finished
from trickles_web.http.telling import FIRST_FLIGHT
from trickles_web.transport.epochs import INITIAL_WINDOW, LARGEST_WINDOW, Epoch
from trickles_web.transport.redeemed import Answer, Redeemed

LARGEST_DATAGRAM = 16_376
EPOCH = Epoch(1, 0, 0, INITIAL_WINDOW, LARGEST_WINDOW)


def granted(redeemed: Redeemed, size: int, count: int = INITIAL_WINDOW) -> Redeemed:
    """The same, worth so many datagrams of this size."""
    redeemed.answers = (Answer(0, 1, EPOCH, None, 0, count, redeemed.wants, size, 0, 0, 0, (), ()),)
    return redeemed


async def asked(site: Site, redeemed: Redeemed) -> Finished:
    answer = await site.ask(redeemed)
    assert isinstance(answer, Finished)
    return answer


async def is_told(site: Site, peer: Peer) -> bool:
    """Does another process find the response?"""
    key = (peer.incarnation, 0)
    for _ in range(20):  # Redis is asked, and told, in the background
        if site.store.knows(key, site.clock()) and site.store.published(key, site.clock()):
            return True
        site.clock.ms += 1001  # an answer of Redis holds for a second
        await asyncio.sleep(0.002)
    return False


@pytest.mark.parametrize(
    ("length", "size", "count", "told"),
    [
        (FIRST_FLIGHT - 1000, BASE_DATAGRAM, 1, False),
        (20_000, BASE_DATAGRAM, INITIAL_WINDOW, True),
        (20_000, LARGEST_DATAGRAM, 1, True),
        (100_000, LARGEST_DATAGRAM, INITIAL_WINDOW, False),
        (100_000, LARGEST_DATAGRAM, 400, False),
        (300_000, LARGEST_DATAGRAM, 400, True),
    ],
)
def test_what_the_first_answer_brings_is_nobody_elses(
    where: Path | RedisServer, length: int, size: int, count: int, *, told: bool
) -> None:
    async def main() -> None:
        group = Group(Executions(length), where, count=2)
        async with group as (site, other):
            peer = group.peer(site)
            peer.begin(get("/page"))
            first = granted(peer.redeemed(data=peer.stream, whole=True), size, count)
            peer.take(site, await asked(site, first))
            assert await is_told(other, peer) is told
            peer.got = peer.got[:1]  # the rest was lost
            again = granted(peer.redeemed(), size, count)
            response = await asked(site, again)
            assert await is_told(other, peer)
            assert response.data.stop > length

    asyncio.run(main())


def test_a_process_that_ends_tells_what_it_put_off(where: Path | RedisServer) -> None:
    async def main() -> None:
        group = Group(Executions(100_000), where, count=2)
        async with group as (site, other):
            peer = group.peer(site)
            peer.begin(get("/page"))
            first = granted(peer.redeemed(data=peer.stream, whole=True), LARGEST_DATAGRAM)
            peer.take(site, await asked(site, first))
            await site.service.drain(1.0)
            assert await is_told(other, peer)

    asyncio.run(main())
