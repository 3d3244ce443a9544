"""A network in virtual time: seeded, lossy, reordering, duplicating, with replicas that die.

Nothing here knows the protocol: it carries datagrams between a client and `replicas` servers, each
packet to one chosen at random. Time is in seconds; the same seed gives the same run.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable
from dataclasses import dataclass

OVERHEAD = 28
"""Bytes of IPv4 and UDP header on the wire."""


@dataclass(frozen=True)
class Path:
    """`rate` in bytes per second, `delay` one way in seconds, `queue` in bytes (drop-tail)."""

    rate: float = 12_500_000.0
    delay: float = 0.010
    queue: float = 250_000.0
    loss: float = 0.0
    """Of packets to the client,"""
    request_loss: float = 0.0
    """and of packets to the server."""
    reorder: float = 0.0
    jitter: float = 0.004
    """A reordered packet comes later by up to this."""
    duplicate: float = 0.0
    corrupt: float = 0.0
    """A corrupted datagram fails its UDP checksum: the kernel drops it. Here it is also shown to
    the receiver's `inspect`, which must not mind."""


class Clock:
    """Virtual time and what is to happen when."""

    def __init__(self, seed: int) -> None:
        self.now = 0.0
        self.random = random.Random(seed)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def after(self, delay: float, action: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (self.now + delay, self._count, action))

    def next(self) -> float:
        """When something is to happen; infinity: never."""
        return self._events[0][0] if self._events else math.inf

    def run(self, until: Callable[[], bool], limit: float) -> bool:
        """Run until the condition holds; False when `limit` seconds or all events ran out first."""
        while not until():
            if not self._events or self._events[0][0] > limit:
                return False
            self.now, _, action = heapq.heappop(self._events)
            action()
        return True

    def step(self, until: float) -> None:
        """Let the next thing happen, if it is due by `until`; or let the time pass till then."""
        if self._events and self._events[0][0] <= until:
            self.now, _, action = heapq.heappop(self._events)
            action()
        else:
            self.now = until

    def bytes(self, count: int) -> bytes:
        return self.random.randbytes(count)


class Link:
    """One direction: loss, then a queue of finite size before a link of finite rate, then delay."""

    def __init__(self, clock: Clock, path: Path, loss: float) -> None:
        self._clock = clock
        self._path = path
        self._loss = loss
        self._free_at = 0.0
        self.carried = 0
        self.carried_bytes = 0
        self.dropped = 0

    def _loses(self) -> bool:
        """Does the next datagram vanish?"""
        return self._loss > 0 and self._clock.random.random() < self._loss

    def send(
        self,
        datagram: bytes,
        deliver: Callable[[bytes], None],
        inspect: Callable[[bytes], None] | None = None,
    ) -> bool:
        """False if it is lost."""
        clock, path, draw = self._clock, self._path, self._clock.random.random
        if self._loses():
            self.dropped += 1
            return False
        start = max(clock.now, self._free_at)
        if (start - clock.now) * path.rate > path.queue:
            self.dropped += 1
            return False
        size = len(datagram) + OVERHEAD
        self._free_at = start + size / path.rate
        self.carried += 1
        self.carried_bytes += size
        if path.corrupt and draw() < path.corrupt:
            if inspect is not None:
                damaged = bytearray(datagram)
                damaged[clock.random.randrange(len(damaged))] ^= 1 << clock.random.randrange(8)
                inspect(bytes(damaged))
            return False
        copies = 2 if path.duplicate and draw() < path.duplicate else 1
        for _ in range(copies):
            late = draw() * path.jitter if path.reorder and draw() < path.reorder else 0.0
            clock.after(self._free_at - clock.now + path.delay + late, lambda: deliver(datagram))
        return True
