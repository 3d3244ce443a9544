"""Replicas whose responses live in one process, and are made otherwise by the next one.

A response is a chain of records: its number, the name of the run that made it, and a digest over
the record and the digest before. The state after a record is its number and digest. So whatever is
lost, repeated or mixed breaks the chain, and any two runs differ from their first record on.
"""

from __future__ import annotations

import hashlib
import struct

from tests.sim.world import _PROGRESS, Client, Progress, Replica, World
from trickles_web.http.checkpoints import Checkpoints
from trickles_web.transport.note import Note
from trickles_web.transport.redeemed import Redeemed
from trickles_web.transport.wire import Kind

_RECORD = struct.Struct(">I8s12s")
RECORD_BYTES = _RECORD.size


def chained(before: bytes, number: int, run: bytes) -> bytes:
    return hashlib.blake2b(before + run + number.to_bytes(4, "big"), digest_size=12).digest()


class Made:
    """A transport.Response: what one run has made by now."""

    open = closes = False
    authorised_at = 0

    def __init__(self, world: World, p: Progress, spacing: int, note: Note | None) -> None:
        self.progress = _PROGRESS.pack(*p)
        self.start = p.response_start
        self.request_wanted = p.request_end
        self.end: int | None = None
        self.run = world.clock.bytes(8)
        self.edition = int.from_bytes(self.run[:4], "big") or 1
        self.begun = world.clock.now
        self.joins = self.start if note is None else note.firm
        self.data = b""
        self.number, self.digest = 0, bytes(12)
        self.first = 0
        self._count = p.length // RECORD_BYTES
        self._pause = p.pause_ms / 1000
        self._spacing = spacing
        self.checkpoints = Checkpoints(self.start, self.joins)
        if note is not None:
            self.number = self.first = int.from_bytes(note.progress[:4], "big")
            self.digest = note.progress[4:16]
            self.checkpoints.add(self.joins, note.progress)

    def go_on(self, now: float) -> float | None:
        """Make the records that are due; returns when the next one is."""
        due = self._count
        if self._pause:
            due = min(due, self.first + 1 + int((now - self.begun) / self._pause))
        made = []
        while self.number < due:
            self.digest = chained(self.digest, self.number, self.run)
            made.append(_RECORD.pack(self.number, self.run, self.digest))
            self.number += 1
            if self.number % self._spacing == 0:
                at = self.joins + (self.number - self.first) * RECORD_BYTES
                state = self.number.to_bytes(4, "big") + self.digest
                self.checkpoints.add(at, state.ljust(16 + self.number % 400, b"."))
        self.data += b"".join(made)
        if self.number == self._count:
            self.end = self.available
            return None
        return self.begun + (self.number - self.first) * self._pause + 1e-6

    @property
    def available(self) -> int:
        return self.joins + len(self.data)

    def noted(self, stop: int) -> Note | None:
        return self.checkpoints.at(stop)

    def read(self, start: int, stop: int) -> bytes:
        assert self.joins <= start <= stop <= self.available
        return self.data[start - self.joins : stop - self.joins]


class Resuming(Replica):
    """Forwards to the process that runs a response, while that one lives."""

    spacing = 1

    def start(self) -> None:
        super().start()
        self.made: dict[tuple[int, int], Made] = {}

    def wipe(self) -> None:
        super().wipe()
        self.made.clear()

    def serve(self, redeemed: Redeemed) -> None:
        p = self.understand(redeemed)
        if redeemed.kind not in (Kind.HELLO, Kind.REQUEST) or not isinstance(p, Progress):
            super().serve(redeemed)
            return
        key = (redeemed.incarnation, p.request_start)
        for other in self.world.replicas:
            assert isinstance(other, Resuming)
            if other is not self and other.alive and key in other.made and key not in self.made:
                other.receive(redeemed.datagram, redeemed.address)
                return
        made = self.response(redeemed, p, key)
        if made is None:
            return
        next_at = made.go_on(self.world.clock.now)
        trains = self.server.burst(redeemed, made, self.world.wall())
        for train in trains:
            for datagram in train.datagrams():
                self.world.down(datagram, redeemed.address)
        if not trains and redeemed.starved:
            self.say(self.server.come_back(redeemed, self.world.wall()), redeemed)
        elif not trains and redeemed.answers and next_at is not None:
            self.park(redeemed, next_at)

    def say(self, reply: bytes | None, redeemed: Redeemed) -> None:
        if reply is not None:
            self.world.down(reply, redeemed.address)

    def response(self, r: Redeemed, p: Progress, key: tuple[int, int]) -> Made | None:
        """What is there, or made again from the client's note."""
        made = self.made.get(key)
        if made is not None and (not r.handed_on or r.edition in (0, made.edition)):
            return made
        if r.handed_on and not r.noted:
            need = self.server.need(r, [(p.request_start, p.request_end)])
            self.say(need, r)
            return None
        assert r.note is not None or not r.handed_on, "handed on without a note"
        firm = p.response_start if r.note is None else r.note.firm
        if made is not None and firm <= made.joins:
            return made if firm == made.joins else None
        made = self.made[key] = Made(self.world, p, self.spacing, r.note)
        return made


class Reader(Client):
    """Checks the chain."""

    def __init__(self, world: World, name: int, exchanges: list[tuple[int, int, int]]) -> None:
        super().__init__(world, name, exchanges)
        self.runs: list[bytes] = []
        self.total = 0
        """Records read, of all responses."""
        self._chain()

    def _chain(self) -> None:
        self.number, self.digest, self.rest = 0, bytes(12), b""

    def following(self) -> None:
        self._chain()
        super().following()

    def take(self, data: bytes) -> None:
        self.rest += data
        while len(self.rest) >= RECORD_BYTES:
            number, run, digest = _RECORD.unpack_from(self.rest)
            self.rest = self.rest[RECORD_BYTES:]
            if number != self.number or digest != chained(self.digest, number, run):
                self.wrong += 1
            self.number, self.digest = number + 1, digest
            self.total += 1
            if run not in self.runs:
                self.runs.append(run)
