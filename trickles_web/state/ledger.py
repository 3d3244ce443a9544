"""The ledger of unsafe requests: which were started, so that none is started twice.

An entry is live until its execution has ended and every continuation that could start the request
again has lost its freshness (claim + 60 s + twice the clock skew). A live entry is never dropped:
when all places are live, new claims fail. So no client prefix may have more than half of them, or
one client could keep all others from being served. Entries past that linger while there is room,
because a very late repeat is then still recognised.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from enum import IntEnum

from trickles_web.state.prefixes import PerPrefix, Prefix
from trickles_web.state.store import Key

LIFE_MS = 70_000
"""60 s of freshness and twice the 5 s by which clocks of replicas may differ."""


class Claim(IntEnum):
    """What came of a claim."""

    GRANTED = 1
    KNOWN = 2
    CONFLICT = 3
    FULL = 4
    """No room, or none for this prefix, so it was not granted to anybody."""
    DOWN = 5
    """The store cannot be asked: nobody knows whether it was granted before."""
    ASKED = 6
    """The answer comes later."""


class Entry:
    """One unsafe request. `ended` is wall-clock ms, 0 while the application runs."""

    __slots__ = ("claimed", "digest", "ended", "prefix")

    def __init__(self, digest: bytes, claimed: int, prefix: Prefix = None) -> None:
        self.digest = digest
        self.claimed = claimed
        self.ended = 0
        self.prefix = prefix


class Ledger:
    """Entries by key, at most `capacity` of them, of which at most `lingering` past their life."""

    __slots__ = ("_ends", "_entries", "_live", "_past", "capacity", "forgotten", "lingering")

    def __init__(self, capacity: int = 65_536, lingering: int = 8_192) -> None:
        self.capacity = capacity
        self.lingering = lingering
        self._entries: dict[Key, Entry] = {}
        self._ends: deque[tuple[Key, Entry]] = deque()
        self._past: OrderedDict[Key, None] = OrderedDict()
        self._live = PerPrefix(capacity // 2)
        self.forgotten: Callable[[Key], None] | None = None
        """Told of every entry that is dropped for its age."""

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, key: Key) -> Entry | None:
        """The entry of a request that was started here."""
        return self._entries.get(key)

    def claim(self, key: Key, digest: bytes, now: int, prefix: Prefix = None) -> Claim:
        """Reserve the one execution of request `key`, whose bytes have `digest`; now: wall ms.

        prefix: of the client.
        """
        entry = self._entries.get(key)
        if entry is not None:
            return Claim.KNOWN if entry.digest == digest else Claim.CONFLICT
        self._retire(now)
        if self._live.full(prefix):
            return Claim.FULL
        if len(self._entries) >= self.capacity:
            if not self._past:
                return Claim.FULL
            self._forget_oldest()
        self._entries[key] = Entry(digest, now, prefix)
        self._live.add(prefix)
        return Claim.GRANTED

    def withdraw(self, key: Key) -> None:
        """Take back a claim just granted: another process had it first, or none could be told."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._live.remove(entry.prefix)

    def ended(self, key: Key, now: int) -> None:
        """The execution is over, whatever came of it."""
        entry = self._entries.get(key)
        if entry is not None and not entry.ended:
            entry.ended = max(now, 1)
            self._ends.append((key, entry))

    def clear(self) -> None:
        """Forget everything: only together with a new store id."""
        self._entries.clear()
        self._ends.clear()
        self._past.clear()
        self._live = PerPrefix(self.capacity // 2)

    def _retire(self, now: int) -> None:
        # Ends come in the order of time, so the first one still live ends the search. An entry
        # claimed late and ended early waits behind others for a while: that errs to the safe side.
        while self._ends:
            key, entry = self._ends[0]
            if max(entry.claimed, entry.ended) + LIFE_MS > now:
                break
            self._ends.popleft()
            self._live.remove(entry.prefix)
            self._past[key] = None
        while len(self._past) > self.lingering:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        key, _ = self._past.popitem(last=False)
        del self._entries[key]
        if self.forgotten is not None:
            self.forgotten(key)
