"""Soft state that several machines share: a Redis server between them.

    PREFIX:x:KEY    hash of one exchange: d digest, o owner, t time of its claim; a owner announced;
                    r response, whole; p key of its part, if its bytes are there; u set when its
                    outcome was declared unknown
    PREFIX:x:KEY:OWNER-N  a part: the bytes of a large response, appended as OWNER produces them
    PREFIX:id       the name of the store
    PREFIX:owners   sorted set: until when (Redis's clock, ms) each process is taken to be alive
    PREFIX:peers    hash: where each process takes datagrams from the others

What Redis is asked takes a round trip, and nothing here waits for one: `knows` says whether the
answer is here, and if not `found(incarnation)` is called when it is. A Redis that does not answer
counts as one that knows nothing, but then no claim is granted either.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

import redis.asyncio
from redis.exceptions import RedisError

from trickles_web.state import scripts
from trickles_web.state.known import Known
from trickles_web.state.ledger import LIFE_MS, Claim, Entry
from trickles_web.state.memory import LIMITS, Limits, MemoryStore
from trickles_web.state.parts import Parts
from trickles_web.state.peers import Peers
from trickles_web.state.prefixes import Prefix
from trickles_web.state.store import EMPTY, Key, Part, Published, R

LEASE_MS: Final = 6_000
RENEW_S: Final = 2.0
"""A process that missed two renewals in a row is still alive to the others."""
TIMEOUT_S: Final = 1.0
"""For one question. Requests wait for it, so it is short."""
LOOKED_UP_MS: Final = 1_000
"""How long what Redis said holds, and how long one that is down is left alone."""
LONGEST_CLAIM_MS: Final = 3_600_000
"""A claim whose process died goes after this."""
MOST_KNOWN = 8_192
MOST_ASKED: Final = 1_024
"""Questions at a time; who finds no place is not answered, and so asks again."""
MOST_PUBLISHED: Final = 16 << 20
"""Bytes of one response: more would keep Redis, and whoever looks it up, too long."""

logger = logging.getLogger("trickles.error")


class RedisStore(MemoryStore[R]):
    """The store of one process, to be started. `found` and `renewed` are called in the loop."""

    def __init__(
        self,
        url: str,
        service: str,
        random: bytes,
        limits: Limits = LIMITS,
        *,
        clock: Callable[[], int],
    ) -> None:
        """`random`: 8 bytes. clock: wall-clock ms.

        Raises ValueError for a bad URL.
        """
        super().__init__(random, limits)
        self.owner = int.from_bytes(random[4:8], "big") or 1
        self.peer = ""
        """Where this process takes datagrams from the others: host, blank, port."""
        self.found: Callable[[int], None] = lambda incarnation: None
        self.renewed: Callable[[int], None] = lambda ident: None
        self._clock = clock
        self._prefix = f"trickles:{service}"
        self._redis = redis.asyncio.from_url(
            url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S
        )
        self._known: OrderedDict[Key, Known] = OrderedDict()
        self._asking: set[Key] = set()
        self._publishing: set[Key] = set()
        self._claims: dict[Key, Claim] = {}
        """What came of claims that were asked for, until it is used."""
        self.peers = Peers(self.owner)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closing = self._closed = False
        self._renewing: asyncio.Task[None] | None = None
        self._down_until = 0
        self._down = False
        script = self._redis.register_script
        self._find, self._claim = script(scripts.FIND), script(scripts.CLAIM_ONCE)
        self._publish, self._ended = script(scripts.PUBLISH), script(scripts.ENDED)
        self._announce, self._drop = script(scripts.ANNOUNCE), script(scripts.DROP)
        self._renew, self._append = script(scripts.RENEW), script(scripts.APPEND)
        self._parts = Parts(self.owner, self.most_bytes // 2, self._tell_part, self._do)

    # Life

    async def start(self) -> None:
        """Take a lease, and learn the store's id. Goes on without, if Redis does not answer."""
        await self._renew_once()
        self._renewing = self._do(self._keep_renewing())

    async def close(self) -> None:
        """Give the lease back: what this process ran has ended, and nothing more is told."""
        self._closing = True
        if self._renewing is not None:
            self._renewing.cancel()
        # A question cut off in the middle would leave its connection to the garbage collector.
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=2 * TIMEOUT_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._closed = True
        with contextlib.suppress(RedisError, OSError):
            await self._redis.zrem(f"{self._prefix}:owners", f"{self.owner:08x}")
        await self._redis.aclose()

    async def _keep_renewing(self) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            await self._renew_once()

    async def _renew_once(self) -> None:
        keys = [f"{self._prefix}:{name}" for name in ("owners", "peers", "id")]
        # A Redis that came back without its contents must not get the name that it had with them.
        name = int.from_bytes(os.urandom(4), "big") or 1
        arguments: list[Any] = [f"{self.owner:08x}", LEASE_MS, self.peer, name]
        try:
            answer = await self._ask(lambda: self._renew(keys=keys, args=arguments))
        except RedisError as error:  # out of memory; perhaps not for ever
            logger.error("Redis refuses a lease: %s", error)
            return
        if answer is None:
            return
        *pairs, ident = cast(list[bytes], answer)
        self.peers.learn(pairs)
        if int(ident) != self.id:
            self.id = int(ident)
            # Others may be granted the same ones now.
            self._claims = dict.fromkeys(self._claims, Claim.DOWN)
            self.renewed(self.id)

    def wipe(self, random: bytes) -> None:
        """Lose what memory holds, but for the ledger. Redis outlives any process."""
        self._clear()
        self._known.clear()
        self._parts.clear()

    # What Redis knows

    def knows(self, key: Key, now: int, owner: int = 0) -> bool:
        """True if what follows can be asked about both; else `found` will be called."""
        known = self._known.get(key)
        fresh = known is not None and known.at + LOOKED_UP_MS > now
        if fresh and not self.peers.strangers(owner):
            return True
        if now < self._down_until:
            self._remember(key, Known(now, failed=True))
            return True
        if key not in self._asking and len(self._asking) < MOST_ASKED:
            self._asking.add(key)
            self._do(self._look_up(key, owner))
        return False

    async def _look_up(self, key: Key, owner: int = 0) -> None:
        try:
            keys = [self._exchange(key), f"{self._prefix}:owners"]
            answer = await self._ask(lambda: self._find(keys=keys))
            now = self._clock()
            known = Known(now, failed=True) if answer is None else Known.told_by(answer, now)
            self._remember(key, known)
            strangers = self.peers.strangers(owner, known.owner, known.announced)
            if strangers and not known.failed:
                await self._renew_once()
                self.peers.asked_for(strangers)
        finally:
            self._asking.discard(key)
        self.found(key[0])

    def _remember(self, key: Key, known: Known) -> None:
        self._known[key] = known
        self._known.move_to_end(key)
        if len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)

    def alive(self, owner: int) -> bool:
        """Is `owner` another process whose lease had not run out lately?"""
        return self.peers.alive(owner)

    def another(self) -> int:
        """Another process whose lease had not run out lately, 0 if none."""
        return self.peers.another()

    def elsewhere(self, key: Key) -> int:
        """Another process that lives and has the exchange `key`, 0 if none."""
        known = self._known.get(key)
        owner = (known.owner or known.announced) if known is not None else 0
        return owner if self.alive(owner) else 0

    def published(self, key: Key, now: int) -> Published | None:
        """The whole response to `key`, whoever produced it."""
        known = self._known.get(key)
        data = known.response if known is not None else None
        if known is None or data is None:
            return None
        appended = known.appended
        known.response, known.appended = None, b""  # it is kept in memory from here on
        response = Published.unpack(data)
        if response is None or response.part == EMPTY:
            return response
        return response.joined(appended)

    # What Redis is told

    def announce(self, key: Key, now: int) -> None:
        """Tell the others that this process has the exchange."""
        known = self._telling(key, now)
        if known.announced != self.owner:
            known.announced = self.owner
            arguments: list[Any] = [f"{self.owner:08x}", LONGEST_CLAIM_MS]
            self._tell(lambda: self._announce(keys=[self._exchange(key)], args=arguments))

    def _telling(self, key: Key, now: int) -> Known:
        known = self._known.get(key)
        if known is None:
            known = Known(now)
            self._remember(key, known)
        known.told = True
        return known

    def append(self, key: Key, part: Part, piece: bytes, now: int) -> Part | None:
        """Keep bytes that were produced after those of `part`; Redis is told soon."""
        if part == EMPTY:
            self.give_up(key)
        self._telling(key, now)
        longer = None if now < self._down_until else self._parts.append(key, part, piece)
        if longer is None:
            self.give_up(key)
        return longer

    def give_up(self, key: Key) -> None:
        """Nothing that was appended of `key` will be published."""
        part = self._parts.give_up(key)
        if part is not None:
            self._tell(lambda: self._redis.delete(self._part(key, part)))

    async def _tell_part(self, key: Key, part: Part, piece: bytes) -> bool:
        """Have Redis keep the last piece of a part; False if there is no such part any more."""
        arguments: list[Any] = [piece, part.length, self.ttl_ms]
        with contextlib.suppress(RedisError):  # it has no room
            keys = [self._part(key, part)]
            return bool(await self._ask(lambda: self._append(keys=keys, args=arguments)))
        return False

    def publish(self, key: Key, response: Published, now: int) -> None:
        """Put a whole response where the others find it."""
        if sum(map(len, response.data)) > MOST_PUBLISHED:
            return
        self._telling(key, now)
        part = response.part
        keys = [self._exchange(key)] + [self._part(key, part)] * (part != EMPTY)
        data = b"".join(response.pack())
        arguments: list[Any] = [data, self.ttl_ms, LIFE_MS, part.length]
        self._publishing.add(key)
        self._do(self._publish_it(key, keys, arguments))

    async def _publish_it(self, key: Key, keys: list[str], arguments: list[Any]) -> None:
        try:
            await self._parts.told(key)
            with contextlib.suppress(RedisError):  # it has no room
                await self._ask(lambda: self._publish(keys=keys, args=arguments))
        finally:
            self._publishing.discard(key)
        self.found(key[0])

    def settled(self, key: Key) -> bool:
        """False while Redis has not said that it keeps the response to `key`."""
        return key not in self._publishing

    def _forget(self, key: Key) -> None:
        super()._forget(key)
        if key not in self._publishing:
            self.give_up(key)

    def drop(self, key: Key) -> None:
        """Forget the response and the spool of `key`, here and in Redis."""
        super().drop(key)
        self.give_up(key)
        self._give_claim_up(key)
        known = self._known.pop(key, None)
        if known is not None and known.told:
            self._tell(lambda: self._drop(keys=[self._exchange(key)]))

    # The ledger

    def claim(self, key: Key, digest: bytes, now: int, prefix: Prefix = None) -> Claim:
        """Reserve the one execution of an unsafe request; ASKED until Redis has said."""
        answer, known = self._claims.get(key), self._known.get(key)
        if answer is Claim.ASKED:
            return answer
        if answer is not None:
            if self._claims.pop(key) is Claim.GRANTED:
                answer = self.ledger.claim(key, digest, now, prefix)
            return answer
        if known is None or known.failed or now < self._down_until:
            return Claim.DOWN
        if known.digest:
            return Claim.KNOWN if known.digest == digest else Claim.CONFLICT
        if key not in self._asking and len(self._asking) < MOST_ASKED:
            self._asking.add(key)
            self._claims[key] = Claim.ASKED
            if len(self._claims) > MOST_KNOWN:
                self._give_claim_up(next(iter(self._claims)))
            self._do(self._claim_it(key, digest, now))
        return Claim.ASKED

    async def _claim_it(self, key: Key, digest: bytes, now: int) -> None:
        ident, claim = self.id, Claim.DOWN
        keys = [self._exchange(key), f"{self._prefix}:id"]
        arguments: list[Any] = [digest, f"{self.owner:08x}", LONGEST_CLAIM_MS, now, ident]
        self._telling(key, now)
        try:
            answer = await self._ask(lambda: self._claim(keys=keys, args=arguments), nothing=b"")
            if answer == 0:  # it came back without its contents
                await self._renew_once()
            elif answer:  # since it was looked up; there may be a response already
                self._claims.pop(key, None)
                await self._look_up(key)
                return
            elif answer is None and ident == self.id:
                claim = Claim.GRANTED
        except RedisError as error:  # out of memory: it answers, and has no room
            logger.error("Redis refuses claims: %s", error)
            claim = Claim.FULL
        finally:
            self._asking.discard(key)
        wanted, self._claims[key] = key in self._claims, claim
        if not wanted:
            self._give_claim_up(key)
        self.found(key[0])

    def _give_claim_up(self, key: Key) -> None:
        """Nobody will use it. It goes when nobody can start the request any more: a claim that is
        taken back at once could be a later one, when Redis hears of it late.
        """
        if self._claims.pop(key, None) is Claim.GRANTED:
            self._tell(lambda: self._ended(keys=[self._exchange(key)], args=[LIFE_MS]))

    def claimed(self, key: Key) -> Entry | None:
        """The entry of an unsafe request that was started by any process."""
        entry = self.ledger.find(key)
        known = self._known.get(key)
        unused = self._claims.get(key) is Claim.GRANTED  # it was looked up after that
        if entry is None and known is not None and known.digest and not unused:
            entry = Entry(known.digest, known.claimed)
        return entry

    def ended(self, key: Key, now: int) -> None:
        """An unsafe request's execution is over."""
        super().ended(key, now)
        self._tell(lambda: self._ended(keys=[self._exchange(key)], args=[LIFE_MS]))

    def declare_unknown(self, key: Key) -> None:
        """From now on no process publishes a response to `key`."""
        self._tell(lambda: self._redis.hset(self._exchange(key), "u", 1))

    # Redis

    def _exchange(self, key: Key) -> str:
        return f"{self._prefix}:x:{key[0]:x}-{key[1]:x}"

    def _part(self, key: Key, part: Part) -> str:
        return f"{self._exchange(key)}:{part.owner:08x}-{part.serial:x}"

    def _do(self, work: Awaitable[Any]) -> asyncio.Task[Any]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _tell(self, command: Callable[[], Awaitable[Any]]) -> None:
        """Send, and do not wait: what is not heard is only soft state that is missing."""

        async def send() -> None:
            with contextlib.suppress(RedisError):
                await self._ask(command)

        if not self._closing:
            self._do(send())

    async def _ask(self, command: Callable[[], Awaitable[Any]], nothing: Any = None) -> Any:
        """Redis's answer; `nothing` if there is none. Raises RedisError if it refuses."""
        if self._closed:
            return nothing  # or a connection would be made that nobody closes
        question = self._do(command())
        question.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        # Not cancelled if it takes too long: within a connect, that would leave a socket behind.
        done, _ = await asyncio.wait((question,), timeout=TIMEOUT_S)
        try:
            if not done:
                raise redis.exceptions.TimeoutError("no answer in time")
            answer = question.result()
        except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError) as error:
            self._down_until = self._clock() + LOOKED_UP_MS
            if not self._down:
                self._down = True
                why = str(error) or type(error).__name__
                logger.error("Redis does not answer (%s): unsafe requests get 503", why)
            return nothing
        if self._down:
            self._down = False
            logger.warning("Redis answers again")
        return answer
