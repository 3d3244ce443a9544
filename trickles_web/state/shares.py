"""Which client prefix holds most of a store, so that what goes is taken from there.

    Shares --by prefix--> Share   bytes it holds, and what can go of it, least recently used first
       └── Ranking            the share that holds most, without looking at all of them

No prefix is made to give way by others while it holds no more than an equal share: when all
together are too much, the one that holds most has more than that.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from trickles_web.state.prefixes import Prefix
from trickles_web.state.store import Key

FEW: Final = 64
"""Superseded places in a ranking that are not worth the work to remove them."""


class Share:
    """What one prefix holds. `used`: bytes of everything, also of what cannot go; `on_disk`: bytes
    of its spools there, which are in `files` files.
    """

    __slots__ = ("bounds", "files", "finished", "number", "on_disk", "prefix", "spools", "used")

    def __init__(self, prefix: Prefix, number: int) -> None:
        self.prefix = prefix
        self.number = number
        self.used = self.on_disk = self.files = 0
        self.finished: OrderedDict[Key, None] = OrderedDict()
        self.spools: OrderedDict[Key, None] = OrderedDict()
        self.bounds = [0, 0]
        """Of what it holds by each ranking; 0: it is not in there."""


class Ranking:
    """Shares by what they hold of something.

    A heap of bounds: no share holds more than its bound says. A bound is raised with some room
    above, so that a share that grows in small steps costs little, and lowered when it would win.
    """

    __slots__ = ("_heap", "_held", "_which", "_within")

    def __init__(self, which: int, held: Callable[[Share], int]) -> None:
        """which: its place in `Share.bounds`. held(share): how much that is; 0: not to be found."""
        self._which = which
        self._held = held
        self._within: dict[int, Share] = {}
        """By number."""
        self._heap: list[tuple[int, int]] = []
        """-bound and number of each of them; also superseded ones."""

    def changed(self, share: Share, most: int) -> None:
        """The share may hold up to `most` now."""
        which = self._which
        if most > share.bounds[which]:
            share.bounds[which] = bound = most + most // 8
            self._within[share.number] = share
            heapq.heappush(self._heap, (-bound, share.number))
            if len(self._heap) > 2 * len(self._within) + FEW:
                self._heap = [(-s.bounds[which], number) for number, s in self._within.items()]
                heapq.heapify(self._heap)

    def forget(self, share: Share) -> None:
        """The share holds nothing."""
        if self._within.pop(share.number, None) is not None:
            share.bounds[self._which] = 0

    def first(self) -> Share | None:
        """The share that holds most; of equals the oldest."""
        heap, which = self._heap, self._which
        while heap:
            negative, number = heap[0]
            share = self._within.get(number)
            if share is None or share.bounds[which] != -negative:
                heapq.heappop(heap)
                continue
            held = self._held(share)
            if held == -negative:
                return share
            if held:
                share.bounds[which] = held
                heapq.heapreplace(heap, (-held, number))
            else:
                self.forget(share)
        return None


def _bytes(share: Share) -> int:
    return share.used if share.finished or share.spools else 0


def _responses(share: Share) -> int:
    return len(share.finished)


class Shares:
    """The shares of all prefixes that hold something."""

    def __init__(self) -> None:
        self._shares: dict[Prefix, Share] = {}
        self._made = 0
        self._by_bytes = Ranking(0, _bytes)
        self._by_responses = Ranking(1, _responses)

    def of(self, prefix: Prefix) -> Share:
        """The share of this prefix; it is to hold something at once."""
        share = self._shares.get(prefix)
        if share is None:
            self._made += 1
            share = self._shares[prefix] = Share(prefix, self._made)
        return share

    def account(self, share: Share, grown: int) -> None:
        """It holds so many bytes more, or less."""
        share.used = used = share.used + grown
        if used > share.bounds[0]:
            self._by_bytes.changed(share, used)
        elif not used:
            del self._shares[share.prefix]
            self._by_bytes.forget(share)
            self._by_responses.forget(share)

    def finished(self, share: Share, key: Key) -> None:
        """One of its responses is finished."""
        share.finished[key] = None
        self._by_responses.changed(share, len(share.finished))

    def largest(self) -> Share | None:
        """Of those from which something can go, the one that holds most bytes."""
        return self._by_bytes.first()

    def most_numerous(self) -> Share | None:
        """The one that holds most finished responses."""
        return self._by_responses.first()
