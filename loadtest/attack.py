"""Datagrams that nobody honest would send: random, mutated from real ones, and replayed."""

from __future__ import annotations

import contextlib
import os
import random
import select
import socket
import time
from collections import Counter
from types import TracebackType

from loadtest.flows import LARGEST_DATAGRAM, Crowd
from trickles_web.transport.wire import VERSION, Kind, kind_of

Address = tuple[str, int]
Recorded = dict[Kind, list[bytes]]

MOST_RECORDED = 2_000
BATCH = 32
PAUSE_S = 0.008
"""Between batches: some 4,000 datagrams/s, so that the honest client's share of two cores stays."""
SIZES = (0, 1, 8, 9, 10, 60, 200, 300, 1_200, 1_452, 9_000, 16_384, 16_385, 40_000)
LARGEST_SENT = 60_000
SHOTS_AT_ONCE = 100
SHOT_PATIENCE_S = 0.3
"""Silence after which no more replies are expected; an answer takes a millisecond."""
CLIENT_KINDS = (Kind.HELLO, Kind.REQUEST, Kind.UPLOAD, Kind.CANCEL)


def record(server: Address, target: bytes, upload_bytes: int) -> Recorded:
    """Real datagrams of every kind that a client sends, from flows of our own."""
    found: Recorded = {kind: [] for kind in CLIENT_KINDS}

    def note(datagram: bytes) -> None:
        kept = found[Kind(kind_of(datagram))]
        if len(kept) < MOST_RECORDED:
            kept.append(datagram)

    get = b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n"
    head = b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % upload_bytes
    for request in (get, head + os.urandom(upload_bytes)):
        crowd = Crowd(server, sockets=2, keep_every=1, request=request)
        crowd.on_datagram = note
        crowd.open(4)
        crowd.again()
        crowd.cancel_kept()
        crowd.close()
    missing = [kind.name for kind, kept in found.items() if not kept]
    if missing:
        raise RuntimeError(f"recorded no {missing}")
    return found


class Attack:
    """Sends from sockets of its own, one for each entry of `sources`; counts what comes back."""

    def __init__(
        self, server: Address, sources: list[str], recorded: Recorded, chance: random.Random
    ) -> None:
        self.sent: Counter[str] = Counter()
        """Datagrams by kind."""
        self.sent_bytes: Counter[str] = Counter()
        self._to: Counter[str] = Counter()
        """Bytes of payload by source address, to the server and back."""
        self._back: Counter[str] = Counter()
        self._peaks: dict[str, float] = {}
        self.shot_peaks: dict[str, float] = {}
        """By kind, the most bytes that a single datagram brought for each of its own."""
        self.shot_ratios: list[float] = []
        self._server = server
        self._recorded = [datagram for kept in recorded.values() for datagram in kept]
        self._by_kind = [kept for kept in recorded.values() if kept]
        self._chance = chance
        self._sockets = []
        for source in sources:
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind((source, 0))
            sock.setblocking(False)
            self._sockets.append((source, sock))

    def __enter__(self) -> Attack:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for _, sock in self._sockets:
            sock.close()

    @property
    def received(self) -> int:
        return self._back.total()

    def amplification(self, source: str) -> float:
        """Bytes that came to this address for each byte sent from it."""
        return self._back[source] / max(1, self._to[source])

    def peak(self, source: str) -> float:
        """The highest that the ratio ever was."""
        return self._peaks.get(source, 0.0)

    def run(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for _ in range(BATCH):
                kind, datagram = self._next()
                source, sock = self._chance.choice(self._sockets)
                with contextlib.suppress(OSError):
                    sock.sendto(datagram, self._server)
                    self.sent[kind] += 1
                    self.sent_bytes[kind] += len(datagram)
                    self._to[source] += len(datagram)
            self._collect(PAUSE_S)
        self._collect(0.2)

    def shots(self, count: int) -> None:
        """Single datagrams, each from an address that sends no other: what does each bring back?

        In the flood a large datagram that brings nothing would hide a small one that brings much.
        """
        for first in range(0, count, SHOTS_AT_ONCE):
            with contextlib.ExitStack() as stack:
                sent: dict[socket.socket, tuple[str, int]] = {}
                for number in range(min(SHOTS_AT_ONCE, count - first)):
                    address = f"127.1.{first // SHOTS_AT_ONCE % 256}.{number + 1}"
                    sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                    sock.bind((address, 0))
                    kind, datagram = self._next()
                    with contextlib.suppress(OSError):
                        sock.sendto(datagram, self._server)
                        sent[sock] = (kind, len(datagram))
                self._count_shots(sent)

    def _count_shots(self, sent: dict[socket.socket, tuple[str, int]]) -> None:
        back: Counter[socket.socket] = Counter()
        while readable := select.select(list(sent), [], [], SHOT_PATIENCE_S)[0]:
            for sock in readable:
                back[sock] += len(sock.recv(LARGEST_DATAGRAM))
        for sock, (kind, size) in sent.items():
            ratio = back[sock] / size if size else float(back[sock])
            self.shot_peaks[kind] = max(self.shot_peaks.get(kind, 0.0), ratio)
            self.shot_ratios.append(ratio)

    def _collect(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        sockets = {sock: source for source, sock in self._sockets}
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                return
            readable, _, _ = select.select(list(sockets), [], [], left)
            for sock in readable:
                source = sockets[sock]
                with contextlib.suppress(OSError):
                    self._back[source] += len(sock.recv(LARGEST_DATAGRAM))
                self._peaks[source] = max(self.peak(source), self.amplification(source))

    def _next(self) -> tuple[str, bytes]:
        chance = self._chance
        draw = chance.random()
        if draw < 0.3:
            return "random", self._random()
        datagram = chance.choice(chance.choice(self._by_kind))
        if draw < 0.5:
            return "replayed", datagram
        name, mutate = chance.choice(
            [
                ("bits flipped", self._flipped),
                ("truncated", self._truncated),
                ("extended", self._extended),
                ("spliced", self._spliced),
                ("readdressed", self._readdressed),
            ]
        )
        return name, mutate(datagram)

    def _random(self) -> bytes:
        chance = self._chance
        datagram = chance.randbytes(chance.choice(SIZES))
        if datagram and chance.random() < 0.8:  # past the first check
            datagram = bytes([VERSION << 4 | chance.randrange(16)]) + datagram[1:]
        return datagram

    def _flipped(self, datagram: bytes) -> bytes:
        flipped = bytearray(datagram)
        # Mostly in the head and the continuation; what lies behind is payload.
        reach = min(len(flipped), 300) if self._chance.random() < 0.8 else len(flipped)
        for _ in range(self._chance.choice((1, 1, 1, 2, 8))):
            flipped[self._chance.randrange(reach)] ^= 1 << self._chance.randrange(8)
        return bytes(flipped)

    def _truncated(self, datagram: bytes) -> bytes:
        return datagram[: self._chance.randrange(len(datagram))]

    def _extended(self, datagram: bytes) -> bytes:
        return (datagram + self._chance.randbytes(self._chance.choice(SIZES)))[:LARGEST_SENT]

    def _spliced(self, datagram: bytes) -> bytes:
        other = self._chance.choice(self._recorded)
        cut = self._chance.randrange(min(len(datagram), len(other)))
        return datagram[:cut] + other[cut:]

    def _readdressed(self, datagram: bytes) -> bytes:
        """Another flow id, attempt and flags around a continuation that is real."""
        head = bytes([datagram[0]]) + self._chance.randbytes(8)
        return head + bytes([datagram[9] ^ self._chance.randrange(256)]) + datagram[10:]
