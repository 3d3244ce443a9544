"""The replay filter: what makes a continuation redeemable once.

Soft state, in two Bloom filters that take turns. What it promises, and what it does not:

* a *false positive* (about one in a million) refuses a claim that was never made: to the client it
  looks like a lost packet, and is recovered as one;
* a *false negative* happens only after a restart, and to keys older than the elder filter.
  Continuations minted before `remembers_from` count as old: they open a small window, once per
  flow, instead of being redeemed. A process that has just started honours those of the last
  RESTART_GRACE_MS, so that a restart costs flows in progress nothing: what a lying client can get
  twice is what it got in that time.

The clock is the wall's, which may be set. Forward, the filters take turns sooner. Back, to before
the younger began: what is minted from then on must count, and what was minted in the time that is
gone through again, and is forgotten, can be redeemed once more.

One process has one filter; the workers of a machine are steered by flow id, so a flow meets one.
Across R machines a continuation can be spent once on each: a client that lies can get each number R
times, and so hide what is lost unless all R copies are (PROTOCOL.md, section 8).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from rbloom import Bloom

FALSE_POSITIVES: Final = 1e-6
RESTART_GRACE_MS: Final = 3000
"""Longer than a process takes to be started again, much shorter than the replay horizon."""


class ReplayFilter:
    """Keys are bytes. Which of them collide is chance, and so an argument: see `hash_key`."""

    __slots__ = (
        "_added",
        "_capacity",
        "_floor",
        "_forgets",
        "_known_from",
        "_new",
        "_newest",
        "_old",
        "_since",
        "_span_ms",
        "marks",
        "remembers_from",
    )

    def __init__(
        self, capacity: int, span_ms: int, hash_key: Callable[[bytes], int] | None = None
    ) -> None:
        """`capacity` keys each, for `span_ms`: the replay horizon and twice the clock skew.

        `hash_key` gives 128 bits, signed; without it, Python's own `hash` is used, which is
        salted per process, so that no one can aim at the filter.
        """
        self._capacity = capacity
        self._span_ms = span_ms
        self._new = Bloom(capacity, FALSE_POSITIVES, hash_key)
        self._old = Bloom(capacity, FALSE_POSITIVES, hash_key)
        self._new.clear()  # writes to every page: the memory is taken now, not when it is used
        self._old.clear()
        self._added = 0
        self._since: int | None = None
        self._newest = 0
        """The latest time while the younger filter was in use."""
        self._forgets = 0
        """The latest while the elder was: what goes with it was spent by then."""
        self._known_from = 0
        """All that was spent from then on is still known."""
        self._floor = 0
        """The same of what was spent since the clock was set back: it counts until the clock is
        where it was."""
        self.remembers_from = 0
        """Wall-clock ms: all that was spent from then on is still known, but for a restart, and a
        clock that is behind."""
        self.marks = 0
        """Keys added in all: as long as it stands still, what was tested still holds."""

    def turn(self, now: int) -> bool:
        """Let the filters take turns when the younger is old enough, or full: True if that is why.

        A filter that is full before its time remembers less than the horizon: it is too small.
        """
        is_full = False
        if self._since is None:  # the first datagram since the start
            self._since = self._newest = now
            self._known_from = self._floor = now - RESTART_GRACE_MS
            self._forgets = self._known_from - 1
        elif now < self._since:  # the clock was set back
            self._since, self._floor = now, now + 1
        elif self._added >= self._capacity or now - self._since >= self._span_ms:
            is_full = now - self._since < self._span_ms
            self._old, self._new = self._new, self._old
            self._new.clear()  # reuses the memory, so a server's size stays what it was
            self._known_from = max(self._known_from, self._forgets + 1)
            if self._forgets <= now:
                self._floor = max(self._floor, self._forgets + 1)
            self._forgets, self._newest = max(self._newest, now), now
            self._since = now
            self._added = 0
        self._newest = max(self._newest, now)
        is_behind = now < self._known_from - 1
        self.remembers_from = self._floor if is_behind else self._known_from
        return is_full

    def __contains__(self, key: bytes) -> bool:
        return key in self._new or key in self._old

    def has_any(self, keys: Iterable[bytes]) -> bool:
        """Is any of these keys in the filter?"""
        new, old = self._new, self._old
        return any(key in new or key in old for key in keys)

    def add(self, key: bytes) -> None:
        self._new.add(key)
        self._added += 1
        self.marks += 1

    def wipe(self) -> None:
        """Forget everything, as a restart does."""
        self._new.clear()
        self._old.clear()
        self._added = 0
        self._since = None
