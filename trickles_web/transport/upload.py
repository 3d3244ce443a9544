"""The request stream at the client, and its congestion control: the one sender that is no server.

The client keeps all request bytes of an exchange until its response is whole, because any replica
may ask for them again (NEED). They fly up under ordinary sender-side NewReno (RFC 9002 §7); the
server acknowledges without remembering.
"""

from __future__ import annotations

import hashlib
from heapq import heappop, heappush
from itertools import takewhile
from typing import Final

from trickles_web.config import BASE_DATAGRAM
from trickles_web.transport import wire
from trickles_web.transport.continuation import COVER_BYTES
from trickles_web.transport.epochs import INITIAL_WINDOW, LARGEST_WINDOW, MINIMUM_WINDOW
from trickles_web.transport.kept import Kept, KeptInMemory
from trickles_web.transport.ranges import RangeSet
from trickles_web.transport.rtt import RoundTrip

NO_LIMIT: Final = 1 << 62
PROBE_ROOM: Final = 1000
"""Bytes that are sent even if there is no room for them, in case the news of some was lost: they
are repeated at the pace of silence (RFC 9293 §3.8.6.1, "zero-window probing")."""
STEADY: Final = 8
"""Acknowledgements in a row from one replica that make it the one that gathers the request."""
SILENT_FLIGHTS: Final = 3
"""Flights lost whole, one after the other, that put the size of their datagrams in doubt."""
_REORDERING: Final = 3
_DIGEST_STEP: Final = 65_536
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
        assert self.start <= start <= stop <= self.end, "bytes that are not kept"
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
        self._again: list[tuple[int, int]] = []
        """A heap. Lowest offsets first: a server has little room behind a gap."""
        self._held = RangeSet()
        self._next_number = 0
        self._next_offset = 0
        self._limit = NO_LIMIT
        self._attempt = 0
        self._last_sent = 0.0
        self._small = False
        """Larger datagrams than any path must carry seem to vanish."""
        self._replica, self._streak = -1, 0
        """Who sent the last acknowledgement, and how many in a row,"""
        self._gatherer = -1
        """and who was the last to send many."""
        self.active = False

    def begin(self, offset: int, limit: int = NO_LIMIT) -> None:
        """A server holds the request up to `offset`, and waits for more, up to `limit`.

        With a limit the request is open: what was held of it before, beyond `offset`, is not.
        """
        stream = self._stream
        done = not self._flights and not self._again and self._next_offset >= stream.end
        if not self.active or limit < NO_LIMIT == self._limit:
            self.stop()
            self.active = True
            self._next_offset, self._limit = offset, limit
        elif done and offset < stream.end:
            # All was acknowledged, and is not held any more: soft state was lost.
            self.needed(((offset, stream.end),))
        if self._limit < limit < NO_LIMIT:
            self._have_room(limit)
        self._held.add(stream.start, offset)

    def _have_room(self, limit: int) -> None:
        """What was sent as a probe, and perhaps not taken, has its place now."""
        probes = [n for n, flight in self._flights.items() if flight.start >= self._limit]
        for number in probes:
            flight = self._flights.pop(number)
            heappush(self._again, (flight.start, flight.stop))
        if probes:
            self._attempt = 0
        self._limit = limit

    def stop(self) -> None:
        """The request is whole, or the exchange over."""
        self.active = False
        self._flights.clear()
        self._again.clear()
        self._held.clear()
        self._limit = NO_LIMIT
        self._attempt = 0
        self._small = False
        self._replica = self._gatherer = -1

    def needed(self, ranges: tuple[tuple[int, int], ...]) -> None:
        """A server does not hold these: whatever was acknowledged, send them again."""
        self._held.clear()
        self._flights.clear()
        self._again.clear()
        stream = self._stream
        for start, stop in ranges:
            start, stop = max(start, stream.start), min(stop, stream.end)
            if start < stop:
                heappush(self._again, (start, stop))
        self._next_offset = max(self._next_offset, min(ranges[-1][1], stream.end))
        self.active = True

    def awaits(self, numbers: tuple[int, ...]) -> bool:
        """Is any of these packets in flight?"""
        return any(number in self._flights for number in numbers)

    def acknowledged(
        self, numbers: tuple[int, ...], held: int, now: float, replica: int = -1
    ) -> None:
        """An ACK for these client packet numbers; `held` is what a server holds in one piece.

        replica: who says so, -1 if that is not known.
        """
        if self.active and replica >= 0:
            self._hear(replica, held)
        self._held.add(self._stream.start, min(held, self._stream.end))
        filled = len(self._flights) >= self._window
        for number in numbers:
            flight = self._flights.pop(number, None)
            if flight is None:
                continue
            if not self._attempt:
                self._round_trip.sample(now - flight.at)
            self._attempt = 0
            self._held.add(flight.start, flight.stop)
            if filled:  # RFC 9002 §7.8: a window that is not used says nothing of the path
                self._grow(number)
            self._detect_losses(number)

    def _hear(self, replica: int, held: int) -> None:
        """Another replica gathers the request now, with less of it: it gets what it lacks first.

        Of replicas that take turns none does: whoever runs the request will say NEED.
        """
        self._streak = self._streak + 1 if replica == self._replica else 1
        self._replica = replica
        if self._streak < STEADY or replica == self._gatherer:
            return
        before, self._gatherer = self._gatherer, replica
        gap = next(self._held.missing(self._stream.start, self._next_offset), None)
        known = self._next_offset if gap is None else gap[0]
        if before >= 0 and held < known and self._limit == NO_LIMIT:
            self.needed(((held, self._next_offset),))

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
            heappush(self._again, (flight.start, flight.stop))
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

    def transmit(
        self,
        flow: bytes,
        continuation: bytes,
        now: float,
        size: int = BASE_DATAGRAM,
        ticket: bytes = b"",
    ) -> list[bytes]:
        """The UPLOADs that may leave now, of up to `size` bytes, which the path seems to carry."""
        deadline = self.deadline()
        if deadline is not None and now >= deadline:
            self._time_out()
        out: list[bytes] = []
        size = (BASE_DATAGRAM - COVER_BYTES * bool(ticket) if self._small else size) - len(ticket)
        room = wire.upload_room(continuation, size)
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
            upload = wire.Upload(flow, number, start, digest, continuation, payload)
            out.append(wire.encode_upload(upload) + ticket)
        return out

    def _time_out(self) -> None:
        """RFC 9002 §6.2: silence says that everything in flight may be lost."""
        self._attempt = min(self._attempt + 1, 6)
        lost = [(flight.start, flight.stop) for flight in self._flights.values()]
        for piece in lost:
            heappush(self._again, piece)
        self._flights.clear()
        self._small = self._small or self._attempt >= SILENT_FLIGHTS
        if min(lost)[0] >= self._limit:
            return  # probes: there was no room for them, and that is no congestion
        self._recover = self._next_number - 1
        self._ssthresh = max(MINIMUM_WINDOW, self._window // 2)
        self._window = MINIMUM_WINDOW

    def _next_piece(self, room: int) -> tuple[int, int] | None:
        stream = self._stream
        while self._again:
            start, stop = heappop(self._again)
            piece = self._piece(start, stop, room)
            if piece is not None:
                if piece[1] < stop:
                    heappush(self._again, (piece[1], stop))
                return piece
            if next(self._held.missing(max(start, stream.start), stop), None) is not None:
                self._next_offset = min(self._next_offset, start)  # its turn comes with more room
        piece = self._piece(self._next_offset, stream.end, room)
        if piece is not None:
            self._next_offset = piece[1]
        return piece

    def _piece(self, start: int, stop: int, room: int) -> tuple[int, int] | None:
        """The first bytes of [start, stop) that are not held and may be sent, up to `room`."""
        first = max(start, self._stream.start)
        missing = next(self._held.missing(first, stop), None)
        if missing is None:
            return None
        first, last = missing
        limit = self._limit
        if first >= limit:
            limit = max(limit, self._stream.start + PROBE_ROOM)
        last = min(first + room, last, limit)
        return (first, last) if first < last else None
