"""The store in Redis, a real one: what is certain, and what happens when it does not answer."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator

import pytest

from tests.state.redis_server import RedisServer, redis_server
from trickles_web.state import EMPTY, Claim, Part, Published, redis
from trickles_web.state.ledger import LIFE_MS
from trickles_web.state.redis import LOOKED_UP_MS, RedisStore
from trickles_web.state.store import MOST_APPENDED

NOW = 1_700_000_000_000
KEY = (0x1234_5678_9ABC, 3)
DIGEST = b"12345678"
RESPONSE = Published(b"progress", (b"HTTP/1.1 200 OK\r\n\r\n",), b"12345678", False, 17)


class Small:
    """As a kept response."""

    size = 10
    running = False


class Member:
    """A process: its store, and the questions it waits for."""

    def __init__(self, server: RedisServer, owner: int) -> None:
        self.now = NOW
        random = owner.to_bytes(8, "big")
        self.store = RedisStore[Small](server.url, "test", random, clock=lambda: self.now)
        self.store.peer = f"192.0.2.{owner} 8001"
        self.store.found = lambda incarnation: self.woken.set()
        self.woken = asyncio.Event()

    async def look(self, key: tuple[int, int] = KEY) -> RedisStore[Small]:
        """The store, once it knows all of `key` as of now."""
        self.now += LOOKED_UP_MS
        while not self.store.knows(key, self.now):
            await self.wait()
        return self.store

    async def claim(self, digest: bytes = DIGEST, key: tuple[int, int] = KEY) -> Claim:
        await self.look(key)
        while (answer := self.store.claim(key, digest, self.now)) is Claim.ASKED:
            await self.wait()
        return answer

    async def ask_to_claim(self, key: tuple[int, int] = KEY) -> None:
        await self.look(key)
        assert self.store.claim(key, DIGEST, self.now) is Claim.ASKED

    async def publish(self, response: Published = RESPONSE, key: tuple[int, int] = KEY) -> None:
        self.store.publish(key, response, self.now)
        while not self.store.settled(key):
            await self.wait()

    async def wait(self) -> None:
        await asyncio.wait_for(self.woken.wait(), 10)
        self.woken.clear()


@pytest.fixture(scope="module")
def running() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def server(running: RedisServer) -> RedisServer:
    running.flush()
    return running


def among(
    server: RedisServer, count: int, check: Callable[[list[Member]], Awaitable[None]]
) -> None:
    """Run `check` with members 1 to `count`, who know of each other."""

    async def main() -> None:
        members = [Member(server, n + 1) for n in range(count)]
        for _ in range(2):
            for member in members:
                await member.store._renew_once()
        await check(members)
        for member in members:
            await member.store.close()

    asyncio.run(main())


def test_all_processes_know_the_store_by_one_id(server: RedisServer) -> None:
    async def check(members: list[Member]) -> None:
        ids = {member.store.id for member in members}
        members[0].store.wipe(bytes(4))
        assert {member.store.id for member in members} == ids
        assert len(ids) == 1

    among(server, 3, check)


async def begun(server: RedisServer, owner: int) -> Member:
    """One more process, of which the others have not heard yet."""
    member = Member(server, owner)
    await member.store._renew_once()
    return member


def test_who_has_just_begun_is_found_by_what_it_has(server: RedisServer) -> None:
    async def check(members: list[Member]) -> None:
        a, b = members
        claims, announces = await begun(server, 8), await begun(server, 9)
        assert await claims.claim() is Claim.GRANTED
        announces.store.announce((7, 7), NOW)
        await asyncio.gather(*announces.store._tasks)
        assert (await a.look()).elsewhere(KEY) == 8
        assert (await b.look((7, 7))).elsewhere((7, 7)) == 9
        assert a.store.peers.address(8) == ("192.0.2.8", 8001)
        await claims.store.close()
        await announces.store.close()

    among(server, 2, check)


def test_who_has_just_begun_is_found_by_its_name(server: RedisServer) -> None:
    """In a continuation, although what was known of the exchange is fresh."""

    async def check(members: list[Member]) -> None:
        (a,) = members
        await a.look()
        new = await begun(server, 9)
        assert not a.store.alive(9)
        assert not a.store.knows(KEY, a.now, 9)
        await a.wait()
        assert a.store.knows(KEY, a.now, 9)
        assert a.store.alive(9)
        await new.store.close()

    among(server, 1, check)


def test_who_is_not_known_to_live_is_asked_for_once(server: RedisServer) -> None:
    async def check(members: list[Member]) -> None:
        (a,) = members
        await a.look()
        assert not a.store.knows(KEY, a.now, 9)
        await a.wait()
        assert a.store.knows(KEY, a.now, 9)
        assert a.store.knows(KEY, a.now, a.store.owner)
        assert not a.store.alive(9)

    among(server, 1, check)


def test_one_claim_is_granted_among_all(server: RedisServer) -> None:
    async def check(members: list[Member]) -> None:
        a, b, c = members
        answers = await asyncio.gather(a.claim(), b.claim(), c.claim(b"87654321"))
        assert sorted(answers)[0] is Claim.GRANTED
        assert Claim.GRANTED not in sorted(answers)[1:]
        assert await b.claim() in (Claim.KNOWN, Claim.CONFLICT)
        entry = (await c.look()).claimed(KEY)
        assert entry is not None
        assert entry.digest in (DIGEST, b"87654321")
        assert entry.claimed > NOW

    among(server, 3, check)


def test_the_claimant_is_the_owner_while_it_lives(server: RedisServer) -> None:
    async def check(members: list[Member]) -> None:
        a, b = members
        assert await a.claim() is Claim.GRANTED
        assert (await b.look()).elsewhere(KEY) == 1
        assert b.store.peers.address(1) == ("192.0.2.1", 8001)
        assert a.store.elsewhere(KEY) == 0
        await a.store.close()
        assert (await b.look()).elsewhere(KEY) == 0
        assert await b.claim() is Claim.KNOWN, "dead, but perhaps executed"

    among(server, 2, check)


def test_a_published_response_outlives_its_producer(server: RedisServer) -> None:
    async def check(members: list[Member]) -> None:
        a, b = members
        assert (await b.look()).published(KEY, b.now) is None
        await a.claim()
        await a.publish()
        await a.store.close()
        assert (await b.look()).published(KEY, b.now) == RESPONSE
        b.store.drop(KEY)
        c = Member(server, 3)
        while (await c.look()).published(KEY, c.now) is not None:
            pass
        assert c.store.claimed(KEY) is not None, "the claim stays"
        await c.store.close()

    among(server, 2, check)


def append_to(member: Member, part: Part, piece: bytes) -> Part:
    longer = member.store.append(KEY, part, piece, member.now)
    assert longer is not None
    return longer


def append(member: Member, pieces: list[bytes]) -> Part:
    """The part that these pieces make, told at once or not."""
    part = EMPTY
    for piece in pieces:
        part = append_to(member, part, piece)
    return part


def appended(part: Part) -> Published:
    return RESPONSE._replace(data=(), part=part)


async def quiet(member: Member) -> None:
    """Until Redis has been told everything."""
    while member.store._tasks:
        await asyncio.wait(member.store._tasks)


PIECES = [os.urandom(size) for size in (70_000, 1, 300_000, 66_000)]


@pytest.mark.parametrize("unsafe", [False, True])
def test_an_appended_response_outlives_its_producer(server: RedisServer, unsafe: bool) -> None:
    async def check(members: list[Member]) -> None:
        a, b, c = members
        if unsafe:
            await a.claim()
        part = append(a, PIECES[:2])
        await asyncio.sleep(0)
        for piece in PIECES[2:]:
            part = append_to(a, part, piece)
        await a.publish(appended(part))
        assert a.store._parts.used == 0
        a.store.ended(KEY, a.now)
        await quiet(a)
        await a.store.close()
        whole = RESPONSE._replace(data=(b"".join(PIECES),))
        assert (await b.look()).published(KEY, b.now) == whole
        for key in await c.store._redis.keys("trickles:test:x:*"):
            assert 0 < await c.store._redis.pttl(key) <= LIFE_MS
        b.store.drop(KEY)
        await quiet(b)
        assert len(await c.store._redis.keys("trickles:test:x:*")) == unsafe, "the claim stays"

    among(server, 3, check)


@pytest.mark.parametrize("change", ["shorter", "longer", "gone"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_torn_part_is_no_response(server: RedisServer, change: str, when: str) -> None:
    async def check(members: list[Member]) -> None:
        a, b = members
        server_side = a.store._redis
        part = append(a, PIECES)
        if when == "after":
            await a.publish(appended(part))
        await quiet(a)
        (name,) = await server_side.keys("trickles:test:x:*:*")
        if change == "longer":
            await server_side.append(name, b"x")
        elif change == "shorter":
            await server_side.set(name, bytes(part.length - 1))
        else:
            await server_side.delete(name)
        if when == "before":
            await a.publish(appended(part))
        assert (await b.look()).published(KEY, b.now) is None

    among(server, 2, check)


def test_two_productions_never_mix(server: RedisServer) -> None:
    async def check(members: list[Member]) -> None:
        a, b = members
        first = append(a, [b"a" * 1000])
        other = append(b, [b"b" * 1000])
        assert a.store.append(KEY, other, b"x", a.now) is None
        first = append(a, [b"a" * 1000])
        again = append(a, [b"c" * 1000])
        assert len({first, other, again}) == 3
        await b.publish(appended(other))
        assert (await a.look()).published(KEY, a.now) == RESPONSE._replace(data=(b"b" * 1000,))
        await a.publish(appended(again))
        assert (await b.look()).published(KEY, b.now) == RESPONSE._replace(data=(b"c" * 1000,))

    among(server, 2, check)


def test_what_cannot_be_appended_leaves_nothing(server: RedisServer) -> None:
    async def check(members: list[Member]) -> None:
        (a,) = members
        part = append(a, [bytes(MOST_APPENDED - 1)])
        assert a.store.append(KEY, part, b"xx", a.now) is None
        await quiet(a)
        part = append(a, [b"x"])
        a.store.drop(KEY)
        assert a.store.append(KEY, part, b"y", a.now) is None
        await quiet(a)
        a.store._parts._most_bytes = 10
        part = append(a, [b"x" * 10])
        await quiet(a)
        assert a.store.append(KEY, part, b"y", a.now) is None
        await quiet(a)
        assert await a.store._redis.keys("trickles:test:x:*:*") == []
        part = append(a, [b"x"])
        a.store.wipe(bytes(4))
        assert a.store.append(KEY, part, b"y", a.now) is None
        assert a.store._parts.used == 0

    among(server, 1, check)


def test_a_part_goes_with_its_response_unless_that_is_published(server: RedisServer) -> None:
    async def check(members: list[Member]) -> None:
        a, b = members
        append(a, [b"x" * 1000])
        a.store.keep(KEY, Small(), a.now)
        a.now += a.store.ttl_ms + 1
        assert a.store.response(KEY, a.now) is None
        assert a.store._parts.used == 0
        part = append(a, [b"x" * 1000])
        a.store.keep(KEY, Small(), a.now)
        a.store.publish(KEY, appended(part), a.now)
        a.now += a.store.ttl_ms + 1
        assert a.store.response(KEY, a.now) is None
        await quiet(a)
        assert a.store._parts.used == 0
        assert (await b.look()).published(KEY, b.now) == RESPONSE._replace(data=(b"x" * 1000,))

    among(server, 2, check)


def test_a_redis_that_lost_a_piece_keeps_no_part(server: RedisServer) -> None:
    """It came back empty between two of them, or had no room, or did not answer."""

    async def check(members: list[Member]) -> None:
        a, b = members
        server_side = a.store._redis
        part = append(a, [b"one"])
        await quiet(a)
        server.flush()
        part = append_to(a, part, b"two")
        await quiet(a)
        assert a.store.append(KEY, part, b"three", a.now) is None
        part = append(a, [b"one"])
        await quiet(a)
        await server_side.config_set("maxmemory", "1")
        part = append_to(a, part, b"two")
        await quiet(a)
        await server_side.config_set("maxmemory", "0")
        await a.publish(appended(part))
        assert (await b.look()).published(KEY, b.now) is None
        part = append(a, [b"one"])
        await quiet(a)
        server.stop()
        part = append_to(a, part, b"two")
        await quiet(a)
        server.start()
        assert a.store.append(KEY, part, b"three", a.now) is None
        a.now += LOOKED_UP_MS
        assert a.store.append(KEY, part, b"three", a.now) is None
        await a.publish(appended(part))
        assert (await b.look()).published(KEY, b.now) is None

    among(server, 2, check)


def test_nothing_is_published_once_the_outcome_is_unknown(server: RedisServer) -> None:
    async def check(members: list[Member]) -> None:
        a, b = members
        await a.claim()
        b.store.declare_unknown(KEY)
        await asyncio.gather(*b.store._tasks)
        await a.publish()
        assert (await b.look()).published(KEY, b.now) is None

    among(server, 2, check)


def test_who_announces_is_the_owner(server: RedisServer) -> None:
    async def check(members: list[Member]) -> None:
        a, b = members
        a.store.announce(KEY, a.now)
        await asyncio.gather(*a.store._tasks)
        assert (await b.look()).elsewhere(KEY) == 1
        a.store.drop(KEY)
        await asyncio.gather(*a.store._tasks)
        assert (await b.look()).elsewhere(KEY) == 0

    among(server, 2, check)


def test_a_redis_that_died_grants_nothing_and_nothing_hangs(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def check(members: list[Member]) -> None:
        (a,) = members
        server.stop()
        try:
            assert await a.claim() is Claim.DOWN
            await a.publish()
            a.store.announce((1, 1), a.now)
            store = await a.look()
            assert (store.published(KEY, a.now), store.elsewhere(KEY)) == (None, 0)
            # Until it is asked again, no question is even sent.
            assert store.knows((2, 2), a.now)
            assert sum("503" in record.getMessage() for record in caplog.records) == 1
        finally:
            server.start()
        a.now += LOOKED_UP_MS
        await a.store._renew_once()
        assert "Redis answers again" in caplog.text
        assert await a.claim() is Claim.GRANTED

    among(server, 1, check)


def test_a_redis_that_came_back_empty_has_another_name(server: RedisServer) -> None:
    async def check(members: list[Member]) -> None:
        a, b = members
        before = a.store.id
        renewed: list[int] = []
        b.store.renewed = renewed.append
        server.flush()
        await a.store._renew_once()
        await b.store._renew_once()
        assert a.store.id == b.store.id != before
        assert renewed == [b.store.id]

    among(server, 2, check)


def test_a_redis_that_came_back_empty_grants_nothing_under_its_old_name(
    server: RedisServer,
) -> None:
    """Until a process has renewed, it cannot know what was granted before."""

    async def check(members: list[Member]) -> None:
        a, b, c = members
        before = a.store.id
        assert await a.claim() is Claim.GRANTED
        server.flush()
        assert await b.claim() is Claim.DOWN, "nobody has renewed"
        assert b.store.id != before, "renewed at once"
        assert await c.claim() is Claim.DOWN, "another has renewed"
        assert c.store.id == b.store.id
        assert await c.claim() is Claim.GRANTED
        assert await b.claim() is Claim.KNOWN

    among(server, 3, check)


def test_a_claim_that_was_granted_under_the_old_name_is_of_no_use(server: RedisServer) -> None:
    """Redis comes back empty between the grant and the request that would use it."""

    async def check(members: list[Member]) -> None:
        a, b = members
        await a.ask_to_claim()
        await quiet(a)
        server.flush()
        await b.store._renew_once()
        await a.store._renew_once()
        assert await b.claim() is Claim.GRANTED
        assert await a.claim() is Claim.DOWN
        assert await a.claim() is Claim.KNOWN

    among(server, 2, check)


def test_a_claim_that_another_made_meanwhile_is_looked_up(server: RedisServer) -> None:
    """What was looked up before holds for a second, and is wrong."""

    async def check(members: list[Member]) -> None:
        a, b = members
        await b.look()
        await a.claim()
        assert b.store.claim(KEY, DIGEST, b.now) is Claim.ASKED
        await b.wait()
        assert b.store.knows(KEY, b.now)
        assert b.store.elsewhere(KEY) == 1
        assert b.store.claim(KEY, DIGEST, b.now) is Claim.KNOWN
        key = (8, 0)
        await b.look(key)
        await a.claim(key=key)
        await a.publish(key=key)
        assert b.store.claim(key, b"87654321", b.now) is Claim.ASKED
        await b.wait()
        assert b.store.published(key, b.now) == RESPONSE
        assert b.store.claim(key, b"87654321", b.now) is Claim.CONFLICT

    among(server, 2, check)


def test_a_claim_is_not_taken_for_somebody_elses_when_it_is_looked_up(server: RedisServer) -> None:
    """Redis was so slow to grant it that what was looked up before does not hold any more."""

    async def check(members: list[Member]) -> None:
        (a,) = members
        await a.ask_to_claim()
        await quiet(a)
        assert (await a.look()).claimed(KEY) is None
        assert a.store.claim(KEY, DIGEST, a.now) is Claim.GRANTED
        assert a.store.claimed(KEY) is not None

    among(server, 1, check)


@pytest.mark.parametrize("when", ["asked", "granted"])
def test_claims_of_clients_that_left_are_kept_by_nobody(server: RedisServer, when: str) -> None:
    async def check(members: list[Member]) -> None:
        a, b = members
        await a.ask_to_claim()
        if when == "granted":
            await quiet(a)
        a.store.drop(KEY)
        await quiet(a)
        assert a.store._claims == {}
        assert 0 < await b.store._redis.pttl(b.store._exchange(KEY)) <= LIFE_MS
        assert await b.claim() is Claim.KNOWN

    among(server, 2, check)


def test_claims_that_nobody_asks_for_again_are_bounded(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis, "MOST_KNOWN", 3)

    async def check(members: list[Member]) -> None:
        (a,) = members
        for n in range(5):
            await a.ask_to_claim((n, 0))
            await quiet(a)
        assert list(a.store._claims) == [(2, 0), (3, 0), (4, 0)]
        assert 0 < await a.store._redis.pttl(a.store._exchange((1, 0))) <= LIFE_MS
        assert await a.claim(key=(4, 0)) is Claim.GRANTED

    among(server, 1, check)


def test_a_full_redis_refuses_claims(server: RedisServer) -> None:
    async def check(members: list[Member]) -> None:
        (a,) = members
        await a.look()
        await a.store._redis.config_set("maxmemory", "1")
        try:
            assert await a.claim() is Claim.FULL
            await a.publish()
            await a.store._renew_once()
        finally:
            await a.store._redis.config_set("maxmemory", "0")
        assert await a.claim() is Claim.GRANTED

    among(server, 1, check)
