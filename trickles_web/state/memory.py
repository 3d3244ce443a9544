"""Soft state in the memory of one process."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Final, Generic, NamedTuple

from trickles_web.state.backing import MEMORY_BYTES, Disk
from trickles_web.state.ledger import Claim, Entry, Ledger
from trickles_web.state.prefixes import Prefix
from trickles_web.state.shares import Share, Shares
from trickles_web.state.spool import Spool
from trickles_web.state.store import Key, Part, Published, R

ENTRY_OVERHEAD: Final = 512
"""Bytes that a kept response costs beside its own: object, key, place in the table."""


class Limits(NamedTuple):
    """What a store may hold. `most_bytes` bounds what spools and responses have in memory together,
    `disk_bytes` what spools and the bodies that came of them have on disk, and `lent_bytes` what
    the large ones of them have in memory instead; `disk_files`: descriptors for that. Finished
    responses go after `ttl_ms`, spools after twice that.
    """

    most_bytes: int = 256 << 20
    most_responses: int = 4096
    ttl_ms: int = 60_000
    disk_bytes: int = 4 << 30
    lent_bytes: int = 0
    disk_files: int = 512


LIMITS: Final = Limits()


class _Slot(Generic[R]):
    """A response, when it was last touched (wall ms), the bytes it is accounted with, and where."""

    __slots__ = ("response", "share", "size", "touched")

    def __init__(self, response: R, share: Share, touched: int) -> None:
        self.response = response
        self.share = share
        self.size = 0
        self.touched = touched


class _Open:
    """A spool, when it was last touched (wall ms), the bytes it is accounted with in memory and on
    disk, and where.
    """

    __slots__ = ("on_disk", "share", "size", "spool", "touched")

    def __init__(self, spool: Spool, share: Share, touched: int) -> None:
        self.spool = spool
        self.share = share
        self.size = self.on_disk = 0
        self.touched = touched


class MemoryStore(Generic[R]):
    """Bounded in bytes, in the number of finished responses, and in age.

    What is too much goes from the client prefix that holds most, the least recently used first.
    A running response is never evicted, so whoever runs applications must watch `full_for`.
    """

    def __init__(
        self, random: bytes, limits: Limits = LIMITS, ledger: Ledger | None = None
    ) -> None:
        """`random`: at least 4 bytes."""
        self.most_bytes = limits.most_bytes
        self.most_responses = limits.most_responses
        self.ttl_ms = limits.ttl_ms
        self.used = 0
        self.disk = Disk(
            limits.disk_bytes, memory_bytes=limits.lent_bytes, most_files=limits.disk_files
        )
        self.ledger = ledger if ledger is not None else Ledger()
        self._running: dict[Key, _Slot[R]] = {}
        self._finished: OrderedDict[Key, _Slot[R]] = OrderedDict()
        self._spools: OrderedDict[Key, _Open] = OrderedDict()
        self._shares = Shares()
        self.owner = 0
        """This process among those that share the store; 0: it shares nothing."""
        self.id = int.from_bytes(random[:4], "big") or 1

    def wipe(self, random: bytes) -> None:
        """Lose everything and take a new id from `random` (at least 4 bytes)."""
        self._clear()
        self.ledger.clear()
        self.id = int.from_bytes(random[:4], "big") or 1

    def _clear(self) -> None:
        self._running.clear()
        self._finished.clear()
        for held in self._spools.values():
            held.spool.close()
        self._spools.clear()
        self._shares = Shares()
        self.used = 0

    def full_for(self, key: Key) -> bool:
        """True if the bound is exceeded even after all that can go has gone, or half of it by the
        prefix of the response to `key`.
        """
        if self.used > self.most_bytes:
            self._shrink(None)
            if self.used > self.most_bytes:
                return True
        slot = self._running.get(key)
        if slot is None or slot.share.prefix is None:
            return False
        return slot.share.used > self.most_bytes // 2

    def __len__(self) -> int:
        """Responses held, running and finished."""
        return len(self._running) + len(self._finished)

    @property
    def spools(self) -> int:
        """Spools held."""
        return len(self._spools)

    # Responses

    def response(self, key: Key, now: int) -> R | None:
        """The response to `key`, or None if there never was one, or it has gone."""
        slot = self._running.get(key)
        if slot is None:
            slot = self._finished.get(key)
            if slot is None:
                return None
            if slot.touched + self.ttl_ms < now:
                self._forget(key)
                return None
            self._finished.move_to_end(key)
            slot.share.finished.move_to_end(key)
        if now > slot.touched:
            slot.touched = now
        return slot.response

    def keep(self, key: Key, response: R, now: int, prefix: Prefix = None) -> None:
        """Hold `response` in place of whatever the key had."""
        share = self._shares.of(prefix)
        slot = _Slot(response, share, now)
        before = self._take(key)
        if response.running:
            self._running[key] = slot
        else:
            self._finished[key] = slot
            self._shares.finished(share, key)
        self._account(slot, response.size + ENTRY_OVERHEAD)
        if before is not None:  # only now, for a share that holds nothing goes
            self._account(before, 0)
        if not response.running:
            self._make_room(key, now)
        elif self.used > self.most_bytes:
            self._shrink(key)

    def _make_room(self, key: Key, now: int) -> None:
        """The response to `key` is new among the finished ones."""
        if len(self._finished) > self.most_responses:
            self._limit_responses(key)
        self._expire(now)
        if self.used > self.most_bytes:
            self._shrink(key)

    def replace(self, key: Key, running: R, finished: R, now: int) -> bool:
        """Hold the response that came of a running one; False if that is not held any more."""
        slot = self._running.get(key)
        if slot is None or slot.response is not running:
            return False
        del self._running[key]
        self._finished[key] = slot
        slot.response, slot.touched = finished, now
        self._shares.finished(slot.share, key)
        self._account(slot, finished.size + ENTRY_OVERHEAD)
        self._make_room(key, now)
        return True

    def finished(self) -> list[R]:
        """All responses that are held here and do not run."""
        return [slot.response for slot in self._finished.values()]

    def resized(self, key: Key, response: R) -> None:
        """Account for a change of `response.size`."""
        slot = self._running.get(key) or self._finished.get(key)
        if slot is None or slot.response is not response:
            return
        self._account(slot, response.size + ENTRY_OVERHEAD)
        if self.used > self.most_bytes:
            self._shrink(key)

    def drop(self, key: Key) -> None:
        """Forget response and spool."""
        self._forget(key)
        self.close_spool(key)

    def _forget(self, key: Key) -> None:
        slot = self._take(key)
        if slot is not None:
            self._account(slot, 0)

    def _take(self, key: Key) -> _Slot[R] | None:
        """Out of the tables, but still accounted for."""
        slot = self._finished.pop(key, None)
        if slot is None:
            return self._running.pop(key, None)
        del slot.share.finished[key]
        return slot

    def _account(self, entry: _Slot[R] | _Open, size: int) -> None:
        grown = size - entry.size
        entry.size = size
        self.used += grown
        self._shares.account(entry.share, grown)

    # Spools

    def spool(self, key: Key, now: int) -> Spool | None:
        """The spool of `key`, now the last to be evicted."""
        held = self._spools.get(key)
        if held is None:
            return None
        self._spools.move_to_end(key)
        held.share.spools.move_to_end(key)
        held.touched = max(now, held.touched)
        return held.spool

    def open_spool(self, key: Key, start: int, now: int, prefix: Prefix = None) -> Spool:
        """The spool of `key`, made if need be."""
        spool = self.spool(key, now)
        if spool is None:
            spool = Spool(start, self.disk)
            share = self._shares.of(prefix)
            self._spools[key] = held = _Open(spool, share, now)
            share.spools[key] = None
            self._account(held, spool.size)
            self._expire(now)
        return spool

    def write(self, key: Key, spool: Spool, offset: int, piece: bytes, limit: int) -> None:
        """Add bytes to a spool that `spool` or `open_spool` just gave. Raises Conflict."""
        held = self._spools.get(key)
        if held is not None and held.spool is spool:  # one that has gone has given back its file
            if self._has_its_half(held, len(piece)):
                spool.starved = "more than half of what requests may have on disk is of one network"
            spool.write(offset, piece, limit)
            self._account_disk(held, spool.data.disk_bytes)
            self._resized(key, held)

    def _has_its_half(self, held: _Open, more: int) -> bool:
        """Would it with so many bytes more get more of the disk than its prefix may have?

        Else one client could fill it, and no other could send a large request. Loopback may.
        """
        share, disk = held.share, self.disk
        if share.prefix is None or not (share.on_disk or share.files):
            return False
        if held.on_disk:
            return share.on_disk >= disk.most_bytes // 2
        beyond = share.on_disk >= disk.most_bytes // 2 or share.files >= disk.most_files // 2
        return beyond and held.size + more > MEMORY_BYTES

    @staticmethod
    def _account_disk(held: _Open, on_disk: int) -> None:
        held.share.files += (on_disk > 0) - (held.on_disk > 0)
        held.share.on_disk += on_disk - held.on_disk
        held.on_disk = on_disk

    def charge(self, key: Key, spool: Spool, reading_size: int) -> None:
        """Account for what reading the spool costs: `reading_size` bytes by now."""
        held = self._spools.get(key)
        if held is not None and held.spool is spool:
            spool.reading_size = reading_size
            self._resized(key, held)

    def _resized(self, key: Key, held: _Open) -> None:
        self._account(held, held.spool.size)
        if self.used > self.most_bytes:
            self._shrink(key)

    def close_spool(self, key: Key) -> None:
        """Forget request bytes."""
        held = self._spools.pop(key, None)
        if held is not None:
            del held.share.spools[key]
            self._account_disk(held, 0)
            self._account(held, 0)
            held.spool.close()

    # The ledger

    def claim(self, key: Key, digest: bytes, now: int, prefix: Prefix = None) -> Claim:
        """Reserve the one execution of an unsafe request."""
        return self.ledger.claim(key, digest, now, prefix)

    def claimed(self, key: Key) -> Entry | None:
        """The entry of an unsafe request that was started here."""
        return self.ledger.find(key)

    def ended(self, key: Key, now: int) -> None:
        """An unsafe request's execution is over."""
        self.ledger.ended(key, now)

    # What other processes would be told

    def knows(self, key: Key, now: int, owner: int = 0) -> bool:
        """There is nobody to ask."""
        return True

    def declare_unknown(self, key: Key) -> None:
        """There is nobody to tell: a claim without a response says it."""

    def settled(self, key: Key) -> bool:
        """Nothing takes time."""
        return True

    def alive(self, owner: int) -> bool:
        """There is nobody else."""
        return False

    def another(self) -> int:
        """There is nobody else."""
        return 0

    def elsewhere(self, key: Key) -> int:
        """Nobody else has anything."""
        return 0

    def announce(self, key: Key, now: int) -> None:
        """There is nobody to tell."""

    def append(self, key: Key, part: Part, piece: bytes, now: int) -> Part | None:
        """There is nobody to keep it for."""
        return None

    def give_up(self, key: Key) -> None:
        """Nothing was kept."""

    def publish(self, key: Key, response: Published, now: int) -> None:
        """There is nobody to tell."""

    def published(self, key: Key, now: int) -> Published | None:
        """Nobody has told anything."""
        return None

    # Eviction

    def _expire(self, now: int) -> None:
        # Two steps for each new entry are enough to outrun arrivals, and keep the worst case short.
        for _ in range(2):
            key = next(iter(self._finished), None)
            if key is None or self._finished[key].touched + self.ttl_ms >= now:
                break
            self._forget(key)
        for _ in range(2):
            key = next(iter(self._spools), None)
            if key is None or self._spools[key].touched + 2 * self.ttl_ms >= now:
                break
            self.close_spool(key)

    def _shrink(self, spare: Key | None) -> None:
        """Evict until the bound holds, but nothing of `spare`, which is in use: it goes later."""
        while self.used > self.most_bytes:
            share = self._shares.largest()
            if share is None or not (
                self._evict(share.finished, self._forget, spare)
                or self._evict(share.spools, self.close_spool, spare)
            ):
                return  # nobody else pays for what is left of this one

    def _limit_responses(self, spare: Key) -> None:
        """The same for their number."""
        while len(self._finished) > self.most_responses:
            share = self._shares.most_numerous()
            if share is None or not self._evict(share.finished, self._forget, spare):
                return

    @staticmethod
    def _evict(table: Iterable[Key], forget: Callable[[Key], None], spare: Key | None) -> bool:
        """Let go of the least recently used; False if there is none."""
        key = next((key for key in islice(table, 2) if key != spare), None)
        if key is None:
            return False
        forget(key)
        return True
