"""What a lying client keeps of its lines: everything."""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import NamedTuple

from trickles_web.transport.continuation import Continuation
from trickles_web.transport.epochs import Epoch, window


class Held(NamedTuple):
    """A continuation at hand. It sorts by the end of its burst."""

    stop: int
    serial: int
    continuation: Continuation
    blob: bytes
    line: Line | None
    at: float


class Received:
    """What has arrived of one epoch, and what of it can be proven."""

    __slots__ = ("epoch", "highest", "later", "lost", "nonces", "proofs", "reach", "told")

    def __init__(self, epoch: Epoch) -> None:
        self.epoch = epoch
        self.nonces: dict[int, int] = {}
        self.proofs = {epoch.base: 0}
        self.reach = epoch.base
        """All numbers from the base to here have arrived."""
        self.highest = epoch.base - 1
        self.later = 0
        """How many have arrived behind the first gap."""
        self.lost = -1
        """What is reported as lost; -1: nothing."""
        self.told = -1
        """The last gap that the program was told of."""

    def take(self, k: int, nonce: int) -> None:
        if k in self.nonces:
            return
        self.nonces[k] = nonce
        self.highest = max(self.highest, k)
        self.later += k > self.reach
        moved = self.reach
        while self.reach in self.nonces:
            proof = self.proofs[self.reach] ^ self.nonces[self.reach]
            self.reach += 1
            self.proofs[self.reach] = proof
        if moved != self.reach:
            self.later = sum(1 for _ in islice((n for n in self.nonces if n > self.reach), 4))


class Line:
    """One generation, as far as it came here."""

    def __init__(self, ordinal: int) -> None:
        self.ordinal = ordinal
        self.received: dict[tuple[int, int, int, int], Received] = {}
        self.held: list[Held] = []
        self.accounted = 0
        self.claims: deque[tuple[int, int]] = deque(maxlen=8)
        self.ended = -1
        self.dry = False

    def of(self, epoch: Epoch) -> Received:
        return self.received.setdefault(epoch.numbers, Received(epoch))


def lost_as_told(kind: str, r: Received, stop: int) -> int:
    """What is said to be lost; -1: nothing."""
    w = window(r.epoch, r.reach)
    return {
        "true": r.reach,
        "none": -1,
        "stop": stop,
        "base": r.epoch.base,
        "early": max(r.epoch.base, r.reach - 3),
        "late": r.reach + 3,
        "window": max(r.epoch.base, r.reach - w),
    }[kind]
