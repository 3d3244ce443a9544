"""The continuation: what a server would remember of a connection, sealed and kept by the client.

    transport part (fixed width, readable, authenticated) | AEAD nonce | ciphertext | tag

The client reads the transport part, because it computes its own grants with the same functions; it
cannot change a bit of it. The application part is opaque to it. One AEAD call seals both.
(NSDI'05 §2: "transport continuation" and "user continuation".)
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from trickles_web.errors import ContinuationError
from trickles_web.transport.epochs import LARGEST_WINDOW, LAST_NUMBER, Epoch
from trickles_web.transport.keys import SEAL_OVERHEAD, Keyring, Keys

FORMAT: Final = 1
HAS_END: Final = 1
"""The response's end is known and sealed."""
CLOSES: Final = 2
"""The flow ends with this response."""
REFRESHED: Final = 4
"""Proves an address and an age, but carries no window: it opens with at most 10 packets."""

COMPLETE: Final = 8
"""The exchange's request is whole: later request bytes belong to the next."""

OPEN: Final = 16
"""It is not, and more of it is taken while it is answered: what lies below `request_wanted` is
never asked for again."""

FOLLOWED: Final = 32
"""Bursts of the same answer follow this one: its end is not all that was sent."""

PRIVATE: Final = 64
"""Of a private flow: presented with a ticket of the same incarnation, or not at all."""

MOST_PROGRESS: Final = 768
"""Bytes of application part: a carrier of 1,200 bytes must still carry something else."""

TICKET_BYTES: Final = 72
"""Of what follows a continuation in a private flow, see `private.ticket`."""
COVER_BYTES: Final = 28
"""What a private datagram of a server is longer than what it says: a nonce and an AEAD tag."""
FLAGS_AT: Final = 1

UNMEASURED: Final = (1 << 16) - 1
"""The round trip of a flow that has presented nothing yet."""

_READABLE: Final = struct.Struct(">BBIIQIQQIIHHHHBIBIQIQHIQQIH")
_PLAIN: Final = struct.Struct(">H")
READABLE_BYTES: Final = _READABLE.size
OVERHEAD: Final = READABLE_BYTES + SEAL_OVERHEAD + _PLAIN.size
"""Bytes of a continuation beside its application part."""


@dataclass(slots=True, init=False)
class Continuation:
    """The transport part. Times are wall-clock ms, `authorised_at` seconds; offsets are of streams.

    `size` is that of its generation's datagrams; `padding` the length of the application part,
    and of a note with its length, in what a claim of it brings. The burst is [burst, stop); `paid`
    is the end of the claim that bought it, 0 for an opening: numbers after the burst's own answer
    are in flight only if a claim in [paid, stop) was served.
    `response_end` is -1 while unknown. `round_trip` is the shortest time, in ms, in which this flow
    has presented a continuation: a client can only make it longer.
    """

    flags: int
    key_generation: int
    replica: int
    incarnation: int
    ordinal: int
    generation: int
    epoch: Epoch
    size: int
    padding: int
    nonce_generation: int
    burst: int
    stop: int
    paid: int
    minted: int
    authorised_at: int
    host_tag: int
    port: int
    store: int
    request_wanted: int
    response_end: int
    edition: int
    round_trip: int

    def __init__(
        self,
        flags: int,
        key_generation: int,
        replica: int,
        incarnation: int,
        ordinal: int,
        generation: int,
        epoch: Epoch,
        size: int,
        padding: int,
        nonce_generation: int,
        burst: int,
        stop: int,
        paid: int,
        minted: int,
        authorised_at: int,
        host_tag: int,
        port: int,
        store: int,
        request_wanted: int,
        response_end: int,
        edition: int,
        round_trip: int,
    ) -> None:
        self.flags = flags
        self.key_generation = key_generation
        self.replica = replica
        self.incarnation = incarnation
        self.ordinal = ordinal
        self.generation = generation
        self.epoch = epoch
        self.size = size
        self.padding = padding
        self.nonce_generation = nonce_generation
        self.burst = burst
        self.stop = stop
        self.paid = paid
        self.minted = minted
        self.authorised_at = authorised_at
        self.host_tag = host_tag
        self.port = port
        self.store = store
        self.request_wanted = request_wanted
        self.response_end = response_end
        self.edition = edition
        self.round_trip = round_trip

    def renewed(
        self,
        flags: int,
        key_generation: int,
        replica: int,
        minted: int,
        host_tag: int,
        port: int,
        request_wanted: int,
        response_end: int,
        round_trip: int,
    ) -> Continuation:
        """The same, minted again: these are what it says by then."""
        return Continuation(
            flags,
            key_generation,
            replica,
            self.incarnation,
            self.ordinal,
            self.generation,
            self.epoch,
            self.size,
            self.padding,
            self.nonce_generation,
            self.burst,
            self.stop,
            self.paid,
            minted,
            self.authorised_at,
            host_tag,
            port,
            self.store,
            request_wanted,
            response_end,
            self.edition,
            round_trip,
        )

    @property
    def closes(self) -> bool:
        return bool(self.flags & CLOSES)

    @property
    def refreshed(self) -> bool:
        return bool(self.flags & REFRESHED)

    @property
    def open(self) -> bool:
        return bool(self.flags & OPEN)

    @property
    def private(self) -> bool:
        return bool(self.flags & PRIVATE)

    @property
    def carried(self) -> int:
        """Bytes that each carrier has of a continuation in what a claim of this one brings."""
        return OVERHEAD + self.padding + (TICKET_BYTES if self.flags & PRIVATE else 0)

    @property
    def followed(self) -> bool:
        return bool(self.flags & FOLLOWED)


def _readable(c: Continuation) -> bytes:
    e = c.epoch
    return _READABLE.pack(
        FORMAT,
        c.flags | (HAS_END if c.response_end >= 0 else 0),
        c.key_generation,
        c.replica,
        c.incarnation,
        c.ordinal,
        c.generation,
        e.key,
        e.start,
        e.base,
        e.cwnd0,
        e.ssthresh,
        c.size,
        c.padding,
        c.nonce_generation & 0xFF,
        c.burst,
        c.stop - c.burst,
        c.paid,
        c.minted,
        c.authorised_at,
        c.host_tag,
        c.port,
        c.store,
        c.request_wanted,
        max(c.response_end, 0),
        c.edition,
        c.round_trip,
    )


def parse(blob: bytes) -> Continuation:
    """Read the transport part. Nothing is authenticated: a client may, a server must `unseal`."""
    try:
        (
            version,
            flags,
            key_generation,
            replica,
            incarnation,
            ordinal,
            generation,
            key,
            start,
            base,
            cwnd0,
            ssthresh,
            size,
            padding,
            nonce_generation,
            burst,
            length,
            paid,
            minted,
            authorised_at,
            host_tag,
            port,
            store,
            request_wanted,
            response_end,
            edition,
            round_trip,
        ) = _READABLE.unpack_from(blob)
    except struct.error:
        raise ContinuationError("truncated") from None
    if version != FORMAT or len(blob) > OVERHEAD + MOST_PROGRESS:
        raise ContinuationError("forged")
    if burst + length > LAST_NUMBER or base > LAST_NUMBER + LARGEST_WINDOW or not cwnd0:
        raise ContinuationError("forged")  # no numbers of ours
    return Continuation(
        flags & ~HAS_END,
        key_generation,
        replica,
        incarnation,
        ordinal,
        generation,
        Epoch(key, start, base, cwnd0, ssthresh),
        size,
        padding,
        nonce_generation,
        burst,
        burst + length,
        paid,
        minted,
        authorised_at,
        host_tag,
        port,
        store,
        request_wanted,
        response_end if flags & HAS_END else -1,
        edition,
        round_trip,
    )


def parse_told(told: bytes) -> tuple[Continuation, bytes, bytes]:
    """What a client gets: the continuation, read and as it is, and the ticket of a private flow.

    Raises ContinuationError.
    """
    if len(told) > FLAGS_AT and told[FLAGS_AT] & PRIVATE:
        blob, ticket = told[:-TICKET_BYTES], told[-TICKET_BYTES:]
        return parse(blob), blob, ticket
    return parse(told), told, b""


def seal(keyring: Keyring, c: Continuation, progress: bytes, pad_to: int) -> bytes:
    """Seal. The application part is padded to `pad_to` bytes: a line's carriers are all alike."""
    readable = _readable(c)
    plain = _PLAIN.pack(len(progress)) + progress.ljust(pad_to, b"\0")
    return readable + keyring.current(c.minted).seal(plain, readable)


def unseal(keys: Keys, blob: bytes) -> bytes:
    """Authenticate `blob`, sealed with these keys; returns the application part.

    Raises ContinuationError("forged").
    """
    plain = keys.unseal(blob[READABLE_BYTES:], blob[:READABLE_BYTES])
    (length,) = _PLAIN.unpack_from(plain)
    return plain[_PLAIN.size : _PLAIN.size + length]


def settled_padding(length: int) -> int:
    """What an application part and note that are now so long are padded to: they may grow."""
    return -(-length // 8) * 8
