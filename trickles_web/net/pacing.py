"""Large answers leave little by little, so many datagrams each millisecond to each peer.

So an answer does not overrun a queue on its way: neither does it lose much at a time then, which
would be to the harm of flows that lose packets one by one.

A pace is found from the age of what the client presents. That includes the time for which the
answer before had to wait here; were it not taken off again, a flow would be the slower the longer
it waits, and wait the longer the slower it is.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

from trickles_web.transport.redeemed import LEAST_PACE, Train

PACE_SECONDS: Final = 0.001
LATEST_PACE: Final = 4
"""A timer may be late by so many turns, whose datagrams then leave together."""
PACED_BYTES = 8 << 20

Pace = Callable[[int], int]
"""Datagrams a millisecond, if what leaves now has waited for so many milliseconds."""
To = TypeVar("To")


class _Queue(Generic[To]):
    """What waits for one peer, and since when."""

    __slots__ = ("credit", "pace", "waited", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[tuple[Train, To, float]] = deque()
        self.pace = 0
        self.credit = 0.0
        """Datagrams that might have left by now."""
        self.waited = 0.0
        """Seconds, of what left last."""


class Pacer(Generic[To]):
    """Gives trains to `send`, at once or later; each must leave in one piece or in several."""

    def __init__(self, loop: asyncio.AbstractEventLoop, send: Callable[[Train, To], None]) -> None:
        self.bytes = 0
        """That wait, of all peers."""
        self._loop = loop
        self._send = send
        self._queues: dict[Hashable, _Queue[To]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._turned_at = 0.0

    def add(self, trains: list[Train], to: To, peer: Hashable, pace: Pace) -> None:
        """Sends one answer, by and by.

        None overtakes the one before it: to the client that would look like loss.
        """
        queue = self._queues.get(peer)
        if queue is None:
            count = sum(train.count for train in trains)
            if count <= LEAST_PACE or count <= pace(0):
                for train in trains:
                    self._send(train, to)
                return
            queue = self._queues[peer] = _Queue()
            queue.credit = float(pace(0))
            if self._timer is None:
                self._turned_at = self._loop.time()
                self._timer = self._loop.call_later(PACE_SECONDS, self._turn)
        now = self._loop.time()
        queue.pace = pace(int(queue.waited * 1000))
        for train in trains:
            # In bytes of their own: what waits must not change under way.
            kept = Train(train.segment, train.count, [b"".join(train.buffers)])
            queue.waiting.append((kept, to, now))
            self.bytes += train.segment * train.count
        if self.bytes > PACED_BYTES:
            queue.credit = math.inf
        self._release(peer, queue, now)

    def close(self) -> None:
        """What waits is dropped."""
        self._queues.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _turn(self) -> None:
        now = self._loop.time()
        turns = min((now - self._turned_at) / PACE_SECONDS, LATEST_PACE)
        self._turned_at = now
        for peer, queue in list(self._queues.items()):
            queue.credit += queue.pace * turns
            self._release(peer, queue, now)
        self._timer = None
        if self._queues:
            self._timer = self._loop.call_later(PACE_SECONDS, self._turn)

    def _release(self, peer: Hashable, queue: _Queue[To], now: float) -> None:
        """Send as much as there is credit for."""
        waiting = queue.waiting
        while waiting and queue.credit >= 1:
            train, to, since = waiting.popleft()
            queue.waited = now - since
            if train.count > queue.credit:
                train, rest = _cut(train, int(queue.credit))
                waiting.appendleft((rest, to, since))
            queue.credit -= train.count
            self.bytes -= train.segment * train.count
            self._send(train, to)
        if not waiting:
            del self._queues[peer]


def _cut(train: Train, count: int) -> tuple[Train, Train]:
    """Its first `count` datagrams, and the others."""
    whole = memoryview(train.buffers[0])
    at = count * train.segment
    rest = Train(train.segment, train.count - count, [whole[at:]])
    return Train(train.segment, count, [whole[:at]]), rest
