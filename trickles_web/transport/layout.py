"""Laying bytes out in packets: the same rule at the server, which fills them, and at the client,
which must know, before the answer comes, how much a claim can bring.

A packet carries bytes of one wanted range, and mostly those that follow, for it is full: `place`.
The first packet of a burst, and the last of a long one, carries the burst's continuation, so it
holds less of the response. The continuations that an answer carries are of one length, which the
continuation that was presented names: that is what makes the layout foreseeable. They name the
length of the next ones: so the application part can shrink as the exchange goes on, one round trip
later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from trickles_web.transport import continuation as sealing
from trickles_web.transport import note as notes
from trickles_web.transport import wire
from trickles_web.transport.continuation import Continuation
from trickles_web.transport.epochs import Span, bursts, carriers
from trickles_web.transport.keys import Keyring
from trickles_web.transport.nonces import nonces
from trickles_web.transport.note import Note
from trickles_web.transport.redeemed import Answer, Response, Train
from trickles_web.transport.wire import (
    DATA_HEADER_BYTES,
    DATA_PACKET,
    FLAG_NOTED,
    FLAG_PROBE,
    NOTE_LENGTH,
    Wants,
)

LARGEST_SEND: Final = 65_507
"""Bytes in one UDP_SEGMENT send: what fits an IPv4 datagram before it is cut."""
_NO_NONCE: Final = 0


def capacities(spans: Iterable[Span], size: int, carried: int) -> Iterator[int]:
    """Response bytes that each packet of the bursts holds; `carried` is a continuation's length."""
    for span in spans:
        rooms = [size - DATA_HEADER_BYTES] * (span.stop - span.start)
        for k in carriers(span):
            rooms[k - span.start] -= carried
        yield from rooms


def place(rooms: Iterable[int], wants: Wants, fill_below: int = 0) -> list[tuple[int, int]]:
    """(offset, length) of the bytes of each packet, until the wants are used up.

    fill_below: packets are to be full, with the bytes below this offset that follow a range which
    ends in one; one that cannot be filled is the last, and that of a short answer need not be. Else
    a window could grow by packets with next to nothing in them, which say little of what the path
    carries (RFC 3465 §2.1).
    """
    placed: list[tuple[int, int]] = []
    left = iter(rooms)
    stop = 0
    for start, stop in wants:
        at, end = start, stop if stop > fill_below else fill_below
        while at < stop:
            room = next(left, -1)
            if room < 0:
                return placed
            if room > end - at:
                placed.append((at, end - at))
                if fill_below:
                    return placed
                break
            placed.append((at, room))
            at += room
    if fill_below and placed and next(left, -1) > 0:
        offset, length = placed[-1]
        placed[-1] = (offset, min(length, stop - offset))
    return placed


def _readable(response: Response, wants: Wants) -> Wants:
    """The wanted ranges as far as they can be read now."""
    readable: list[tuple[int, int]] = []
    for start, stop in wants:
        if start < response.start:
            continue  # of an exchange that is over: the client has it
        if start >= response.available:
            break
        if stop > response.available:
            readable.append((start, response.available))
            break
        readable.append((start, stop))
    return tuple(readable)


def write_answer(
    answer: Answer,
    response: Response,
    count: int,
    *,
    flow: bytes,
    padding: int,
    keyring: Keyring,
    mint: Callable[[Span, int, bool], Continuation],
    ticket: bytes,
    probe: int,
) -> list[Train]:
    """At most `count` packets of the answer; [] when there is nothing to send.

    mint: the continuation of a burst, what its carriers' application part and note are padded to
    from now on, and whether other bursts of this answer follow it. ticket: of a private flow, it
    stands behind each continuation.
    """
    if count <= 0:
        return []
    wants = _readable(response, answer.wants)
    grant = (answer.epoch, answer.successor, answer.low, answer.low + count)
    reports = answer.successor is not None  # a loss: what it asks for is mostly what was lost
    progress = response.progress
    note = response.noted(response.available)
    while True:
        room = 0 if note is None else _room_for(note)
        settled = sealing.settled_padding(len(progress) + room)
        carried = sealing.OVERHEAD + max(padding, settled) + len(ticket)
        rooms = capacities(bursts(*grant), answer.size, carried)
        placed = place(rooms, wants, 0 if reports else response.available)
        stop = max((offset + length for offset, length in placed), default=0)
        if note is None or note.firm <= stop:
            break
        earlier = response.noted(stop)
        if earlier is None or earlier.firm >= note.firm:
            break
        note = earlier  # of the bytes that this answer brings
    if not placed:
        if response.end is None or response.end > answer.wants[0][0]:
            return []
        placed = [(response.end, 0)]  # nothing but the news that the response has ended
    dry = stop == response.available and not (reports and wants == answer.wants)
    ends = answer.ends or dry or len(placed) < answer.high - answer.low
    short = answer.low + len(placed) if ends else 0
    noted: bytes | None = None
    trains: list[Train] = []
    goes_on = False
    at = 0
    for span in bursts(*grant):
        packets = placed[at : at + span.stop - span.start]
        at += len(packets)
        if len(packets) < span.stop - span.start:
            span = Span(span.epoch, span.start, span.start + len(packets))
        c = mint(span, settled, at < len(placed))
        if note is not None and noted is None:
            noted = _sealed(note, keyring, c)
        blob = sealing.seal(keyring, c, progress, max(padding, settled) - room) + ticket
        writer = _BurstWriter(answer, span, c, flow, short, blob, noted, response)
        goes_on = writer.write(packets, keyring, c.minted, trains, goes_on)
        if at == len(placed):
            break
    if probe:
        trains.append(writer.probe(probe))
    return trains


def _is_none_yet(note: Note) -> bool:
    return not note.progress and note.firm < notes.UNBOUND


def _room_for(note: Note) -> int:
    """Bytes of a note in a carrier, with its length."""
    return NOTE_LENGTH.size + (0 if _is_none_yet(note) else notes.OVERHEAD + len(note.progress))


def _sealed(note: Note, keyring: Keyring, c: Continuation) -> bytes:
    """What a carrier has of it behind its continuation `c`."""
    blob = b"" if _is_none_yet(note) else notes.seal(keyring, note, c.incarnation, c.minted)
    return NOTE_LENGTH.pack(len(blob)) + blob


class _BurstWriter:
    """One burst: its constant header, its continuation, and its packets."""

    __slots__ = ("_answer", "_carried", "_length", "_prefix", "_response", "_span")

    def __init__(
        self,
        answer: Answer,
        span: Span,
        c: Continuation,
        flow: bytes,
        short: int,
        blob: bytes,
        noted: bytes | None,
        response: Response,
    ) -> None:
        self._answer = answer
        self._span = span
        self._length = len(blob)
        self._carried = blob + (noted or b"")
        self._response = response
        self._prefix = self._header(c, flow, short, 0 if noted is None else FLAG_NOTED)

    def _header(self, c: Continuation, flow: bytes, short: int, flags: int) -> bytes:
        answer, span = self._answer, self._span
        e = span.epoch
        return wire.data_prefix(
            flow,
            answer.ordinal,
            answer.generation & 0xFFFF_FFFF,
            e.start,
            e.base,
            e.cwnd0,
            e.ssthresh,
            answer.attempt,
            flags,
            c.replica & 0xFFFF,
            c.edition,
            span.start,
            span.stop - span.start,
            min(short - span.start, 0xFFFF) if short else 0,
        )

    def write(
        self,
        packets: list[tuple[int, int]],
        keyring: Keyring,
        now: int,
        trains: list[Train],
        goes_on: bool,
    ) -> bool:
        """Add the packets to `trains`: to the last of them, if it `goes_on`. Does it still?

        A kernel takes a train at once, whatever bursts it is of.
        """
        answer, span = self._answer, self._span
        _, keys = keyring.of_nonces(answer.nonce_generation, now)
        values = nonces(keys, span.epoch.key, span.start, span.stop)
        payloads = self._payloads(packets)
        size, prefix, carried = answer.size, self._prefix, self._carried
        most = max(1, LARGEST_SEND // size)
        pack, last = DATA_PACKET.pack, len(packets) - 1
        train = trains[-1] if goes_on else Train(size, 0, [])
        carrying = carriers(span)
        for i, (offset, length) in enumerate(packets):
            if not train.count:
                trains.append(train)
            train.count += 1
            buffers = train.buffers
            room = size - DATA_HEADER_BYTES - length
            # A burst that ended before its time has a last packet laid out to be full; where one is
            # not, it carries the continuation at no cost.
            if (span.start + i in carrying or i == last) and room >= len(carried):
                room -= len(carried)
                buffers.append(prefix + pack(i, values[i], offset, self._length) + carried)
            else:
                buffers.append(prefix + pack(i, values[i], offset, 0))
            if length:
                buffers.append(payloads[i])
            if room or train.count == most:
                train = Train(size, 0, [])
        return train.count > 0

    def _payloads(self, packets: list[tuple[int, int]]) -> list[bytes | memoryview]:
        """The bytes of each packet; neighbours are read at once."""
        if len(packets) == 1:
            start, length = packets[0]
            return [self._response.read(start, start + length) if length else b""]
        payloads: list[bytes | memoryview] = []
        i = 0
        while i < len(packets):
            start, length = packets[i]
            stop = start + length
            j = i + 1
            while j < len(packets) and packets[j][0] == stop:
                stop += packets[j][1]
                j += 1
            whole = memoryview(self._response.read(start, stop) if stop > start else b"")
            payloads += [whole[o - start : o - start + n] for o, n in packets[i:j]]
            i = j
        return payloads

    def probe(self, size: int) -> Train:
        """A packet that carries nothing but its own length."""
        at = 1 + wire.FLOW_ID_BYTES + 21
        flagged = self._prefix[:at] + bytes([FLAG_PROBE]) + self._prefix[at + 1 :]
        header = flagged + DATA_PACKET.pack(0, _NO_NONCE, 0, 0)
        return Train(size, 1, [header.ljust(size, b"\0")])
