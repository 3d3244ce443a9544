"""The request stream at the client, and its congestion control: the one sender that is no server.

The client keeps all request bytes of an exchange until its response is whole, because any replica
may ask for them again (NEED). They fly up under ordinary sender-side NewReno (RFC 9002 §7); the
server acknowledges without remembering.
"""

from __future__ import annotations

import hashlib
from collections import deque
from itertools import takewhile

from trickles_web.config import BASE_DATAGRAM
from trickles_web.transport import wire
from trickles_web.transport.epochs import INITIAL_WINDOW, LARGEST_WINDOW, MINIMUM_WINDOW
from trickles_web.transport.kept import Kept, KeptInMemory
from trickles_web.transport.ranges import RangeSet
from trickles_web.transport.rtt import RoundTrip

NO_LIMIT = 1 << 62
PROBE_ROOM = 1000
"""Bytes that are sent even if there is no room for them, in case the news of some was lost: they
are repeated at the pace of silence (RFC 9293 §3.8.6.1, "zero-window probing")."""
_REORDERING = 3
_DIGEST_STEP = 65_536
"""Bytes read at once for a digest only."""


class RequestStream:
    """Request bytes from `start` (of the exchange in progress) to `end`."""

    __slots__ = ("_hash", "_kept", "_sent", "end", "start")

    def __init__(self, kept: Kept | None = None) -> None:
        self.start = self.end = 0
        self._kept = KeptInMemory() if kept is None else kept
        self._hash: hashlib.blake2b | None = hashlib.blake2b(digest_size=8)
        self._sent = 0
        """Bytes below it were read one after the other, and are in the hash."""

    @property
    def unsent(self) -> int:
        """Bytes that were not in any datagram yet."""
        return self.end - self._sent

    def write(self, data: bytes) -> None:
        """Raises FlowError if they cannot be kept."""
        self.end += len(data)  # in any case: what is not taken stops the writer, also at the end
        self._kept.append(data)

    def read(self, start: int, stop: int) -> bytes:
        """For a datagram. Raises FlowError if they cannot be had any more."""
        piece = self._kept.read(start, stop)
        if start <= self._sent < stop:
            # Now, as they are at hand: a long request is neither read twice nor hashed in one go.
            if self._hash is not None:
                self._hash.update(memoryview(piece)[self._sent - start :])
            self._sent = stop
        return piece

    def digest(self) -> bytes | None:
        """BLAKE2b-64 of everything from `start` to `end`; None once a part was released.

        Raises as `read`.
        """
        if self._hash is None:
            return None
        while self._sent < self.end:
            self.read(self._sent, min(self._sent + _DIGEST_STEP, self.end))
        return self._hash.copy().digest()

    def discard(self, offset: int) -> None:
        """The exchange before `offset` is over. Raises as `read`."""
        offset = min(max(offset, self.start), self.end)
        self._kept.forget(offset)
        self.start = self._sent = offset
        self._hash = hashlib.blake2b(digest_size=8)

    def release(self, offset: int) -> None:
        """The bytes below are a server's for good, and the exchange goes on. Raises as `read`."""
        offset = min(max(offset, self.start), self.end)
        self._kept.forget(offset)
        self.start, self._sent = offset, max(self._sent, offset)
        self._hash = None


class _Flight:
    __slots__ = ("at", "start", "stop")

    def __init__(self, start: int, stop: int, at: float) -> None:
        self.start = start
        self.stop = stop
        self.at = at


class Uploader:
    """Sends the rest of a request that did not fit its first datagram."""

    def __init__(self, stream: RequestStream, round_trip: RoundTrip) -> None:
        self._stream = stream
        self._round_trip = round_trip
        self._window = INITIAL_WINDOW
        self._ssthresh = LARGEST_WINDOW
        self._grown = 0
        self._recover = -1
        self._flights: dict[int, _Flight] = {}
        self._again: deque[tuple[int, int]] = deque()
        self._held = RangeSet()
        self._next_number = 0
        self._next_offset = 0
        self._limit = 0
        self._attempt = 0
        self._last_sent = 0.0
        self.active = False

    def begin(self, offset: int, limit: int = NO_LIMIT) -> None:
        """A server holds the request up to `offset`, and waits for more, up to `limit`."""
        done = not self._flights and not self._again and self._next_offset >= self._stream.end
        if not self.active:
            self.active = True
            self._next_offset, self._limit = offset, limit
        elif done and offset < self._stream.end:
            # All was acknowledged, and is not held any more: soft state was lost.
            self.needed(((offset, self._stream.end),))
        self._limit = max(self._limit, limit)
        self._held.add(self._stream.start, offset)

    def stop(self) -> None:
        """The request is whole, or the exchange over."""
        self.active = False
        self._flights.clear()
        self._again.clear()
        self._held.clear()
        self._attempt = 0

    def needed(self, ranges: tuple[tuple[int, int], ...]) -> None:
        """A server does not hold these: whatever was acknowledged, send them again."""
        self._held.clear()
        self._flights.clear()
        self._again.clear()
        stream = self._stream
        for start, stop in ranges:
            start, stop = max(start, stream.start), min(stop, stream.end)
            if start < stop:
                self._again.append((start, stop))
        self._next_offset = max(self._next_offset, min(ranges[-1][1], stream.end))
        self.active = True

    def acknowledged(self, numbers: tuple[int, ...], held: int, now: float) -> None:
        """An ACK for these client packet numbers; `held` is what a server holds in one piece."""
        self._held.add(self._stream.start, min(held, self._stream.end))
        for number in numbers:
            flight = self._flights.pop(number, None)
            if flight is None:
                continue
            if not self._attempt:
                self._round_trip.sample(now - flight.at)
            self._attempt = 0
            self._held.add(flight.start, flight.stop)
            self._grow(number)
            self._detect_losses(number)

    def _grow(self, number: int) -> None:
        if number <= self._recover:
            return
        if self._window < self._ssthresh:
            self._window += 1
            return
        self._grown += 1
        if self._grown >= self._window:
            self._grown = 0
            self._window += 1

    def _detect_losses(self, newest: int) -> None:
        lost = list(takewhile(lambda n: n <= newest - _REORDERING, self._flights))
        for number in lost:
            flight = self._flights.pop(number)
            self._again.append((flight.start, flight.stop))
        if lost and max(lost) > self._recover:
            self._recover = self._next_number - 1
            self._ssthresh = self._window = max(MINIMUM_WINDOW, self._window // 2)

    @property
    def held_bytes(self) -> int:
        """Request bytes that a server holds; 0 while there is nothing to upload."""
        return sum(stop - start for start, stop in self._held) if self.active else 0

    def deadline(self) -> float | None:
        if not self._flights:
            return None
        return self._last_sent + self._round_trip.probe_timeout(self._attempt)

    def transmit(self, flow: bytes, continuation: bytes, now: float) -> list[bytes]:
        """The UPLOADs that may leave now."""
        deadline = self.deadline()
        if deadline is not None and now >= deadline:
            self._time_out()
        out: list[bytes] = []
        room = wire.upload_room(continuation, BASE_DATAGRAM)
        while len(self._flights) < self._window:
            piece = self._next_piece(room)
            if piece is None:
                break
            start, stop = piece
            payload = self._stream.read(start, stop)
            digest = self._stream.digest() if stop == self._stream.end else None
            number = self._next_number & 0xFFFF_FFFF
            self._next_number += 1
            self._flights[number] = _Flight(start, stop, now)
            self._last_sent = now
            out.append(
                wire.encode_upload(wire.Upload(flow, number, start, digest, continuation, payload))
            )
        return out

    def _time_out(self) -> None:
        """RFC 9002 §6.2: silence says that everything in flight may be lost."""
        self._attempt = min(self._attempt + 1, 6)
        self._again.extend((f.start, f.stop) for f in self._flights.values())
        self._flights.clear()
        self._recover = self._next_number - 1
        self._ssthresh = max(MINIMUM_WINDOW, self._window // 2)
        self._window = MINIMUM_WINDOW

    def _next_piece(self, room: int) -> tuple[int, int] | None:
        stream = self._stream
        while self._again:
            start, stop = self._again.popleft()
            start = max(start, stream.start)
            missing = next(iter(self._held.missing(start, stop)), None) if start < stop else None
            if missing is None:
                continue
            first, last = missing
            piece_stop = min(first + room, last)
            if piece_stop < stop:
                self._again.appendleft((piece_stop, stop))
            return first, piece_stop
        end = min(stream.end, self._limit)
        start = max(self._next_offset, stream.start)
        if start < end:
            self._next_offset = min(start + room, end)
            return start, self._next_offset
        return None
