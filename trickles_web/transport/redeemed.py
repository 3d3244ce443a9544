"""What passes between the server's two steps, and between the transport and what is above it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from trickles_web.transport.continuation import COVER_BYTES, UNMEASURED, Continuation
from trickles_web.transport.epochs import INITIAL_WINDOW, Epoch, window
from trickles_web.transport.note import Note
from trickles_web.transport.wire import Kind, Wants

Address = tuple[str, int]
UNLIMITED: Final = 1 << 62
LEAST_PACE: Final = 4
"""Datagrams a millisecond: the largest burst of a small window leaves at once."""


class Response(Protocol):
    """The upper side of the transport: bytes [x, y) of the response to one exchange.

    Offsets are of the flow's response stream, which runs on from exchange to exchange.
    """

    @property
    def progress(self) -> bytes:
        """The application part to seal, at most MOST_PROGRESS bytes."""

    @property
    def start(self) -> int:
        """Offset of the exchange's first response byte."""

    @property
    def available(self) -> int:
        """Bytes below this offset can be read now."""

    @property
    def end(self) -> int | None:
        """Where the response ends, once that is known."""

    @property
    def edition(self) -> int:
        """32 bits, not 0: names the byte string; two editions are never mixed."""

    @property
    def request_wanted(self) -> int:
        """Request-stream offset wanted next: the end of this request, or of what of it is here."""

    @property
    def open(self) -> bool:
        """Is more of the request taken while this is answered?"""

    @property
    def closes(self) -> bool:
        """Does the flow end with this response?"""

    @property
    def authorised_at(self) -> int:
        """Unix seconds when the application last allowed this response."""

    @property
    def joins(self) -> int:
        """This edition's bytes below are those of the edition that it continues; else `start`."""

    def noted(self, stop: int) -> Note | None:
        """How far bytes may be handed on, and with what another server could go on from there.

        The last such offset at or below `stop`, or the first there is; a note without an
        application part stands for none yet. None: an ordinary response.
        """

    def read(self, start: int, stop: int) -> bytes | memoryview:
        """Exactly these bytes; raises ResponseGone."""


class Channel(Protocol):
    """In which a private datagram came, and in which its answers go."""

    incarnation: int
    """Whose it is; 0 at first contact."""
    ticket: bytes
    """What stands behind each continuation."""

    def begin(self, incarnation: int, now: int) -> None:
        """The HELLO that came in it is to be answered: its flow is known from now on."""

    def seal(self, message: bytes) -> bytes:
        """The datagram that says it."""

    def sealed(self, trains: Sequence[Train]) -> list[Train]:
        """The same trains, each datagram sealed."""


# `__init__` is written out where it is called for each datagram: the one that `dataclass` makes is
# interpreted, even in a compiled module.
@dataclass(slots=True, init=False)
class Train:
    """`count` datagrams laid end to end, `segment` bytes each, but the last may be shorter."""

    segment: int
    count: int
    buffers: list[bytes | memoryview]

    def __init__(
        self,
        segment: int,
        count: int,
        buffers: list[bytes | memoryview],
    ) -> None:
        self.segment = segment
        self.count = count
        self.buffers = buffers

    def datagrams(self) -> list[bytes]:
        whole = b"".join(self.buffers)
        return [whole[i : i + self.segment] for i in range(0, len(whole), self.segment)]


@dataclass(slots=True, init=False)
class Answer:
    """What one claim or opening is worth: the packet numbers [low, high), not yet sent."""

    ordinal: int
    generation: int
    epoch: Epoch
    successor: Epoch | None
    low: int
    high: int
    wants: Wants
    size: int
    nonce_generation: int
    attempt: int
    paid: int
    """The end of the claim that buys it; 0 for an opening."""
    marks: tuple[bytes, ...]
    """Filter keys that are set when it is sent, beside those of the numbers that are claimed:"""
    reached: tuple[int, int]
    """these, from the first that the claim reaches back to, and the last one below `paid`."""
    absent: tuple[bytes, ...]
    """Filter keys that were not set when it was judged: while they are not, it is worth the same.
    """
    ends: bool
    """The line ends with this answer, even if the grant is used up."""

    def __init__(
        self,
        ordinal: int,
        generation: int,
        epoch: Epoch,
        successor: Epoch | None,
        low: int,
        high: int,
        wants: Wants,
        size: int,
        nonce_generation: int,
        attempt: int,
        paid: int,
        marks: tuple[bytes, ...],
        absent: tuple[bytes, ...],
        ends: bool = False,
        reached: tuple[int, int] = (0, 0),
    ) -> None:
        self.ordinal = ordinal
        self.generation = generation
        self.epoch = epoch
        self.successor = successor
        self.low = low
        self.high = high
        self.wants = wants
        self.size = size
        self.nonce_generation = nonce_generation
        self.attempt = attempt
        self.paid = paid
        self.marks = marks
        self.absent = absent
        self.ends = ends
        self.reached = reached


@dataclass(slots=True, init=False)
class Redeemed:
    """One valid client datagram. Nothing is spent yet."""

    kind: Kind
    flow: bytes
    """Routing only, chosen by the client: never a key."""
    incarnation: int
    """Minted by a server: the key of all soft state."""
    address: Address
    progress: bytes
    """The application part, as last sealed; b"" at first contact."""
    origin: bytes
    """For whom the sender has said that it speaks, see `transport.origin`: said in a HELLO; from
    then on what is above the transport knows it."""
    request_offset: int
    request_bytes: bytes
    request_digest: bytes | None
    """BLAKE2b-64 of the request stream from the exchange's start to the end of `request_bytes`."""
    wants: Wants
    received: int
    """The client holds every response byte below this offset."""
    edition: int
    """The edition of which the client holds bytes; 0: none."""
    handed_on: bool
    """Some byte of this exchange's response was handed to the reader."""
    repeated: bool
    """These request bytes were sent before, under a continuation that was young then."""
    noted: bool
    """The client says which note it has:"""
    note: Note | None
    """this one, or none."""
    validated: bool
    """The address is proven: requests may be spooled and, if `fresh`, be unsafe."""
    may_run: bool
    """Application code may run for it."""
    fresh: bool
    """The continuation is within the replay horizon."""
    store: int
    authorised_at: int
    hops: int
    """From process to process, on its way here."""
    told: bool
    """What its request bytes came to was acknowledged; an answer is still due."""

    # What follows is the transport's own.
    datagram: bytes
    """As it came,"""
    message: bytes
    """and what it says: the same, unless it is private."""
    channel: Channel | None
    """None: it came in clear."""
    cover: int
    """Bytes that each datagram of the answer gets on its way."""
    at: int
    """When it was redeemed, wall-clock ms,"""
    marks: int
    """and how many keys the replay filter had been given by then."""
    continuation: Continuation | None
    answers: tuple[Answer, ...]
    allowance: int
    """Bytes that may still be sent to this address for this datagram."""
    padding: int
    """The application part is padded to this, so that the client can foresee the layout."""
    host_tag: int
    attempt: int
    asked_size: int
    numbers: tuple[int, ...]
    """The client's packets that these bytes came in, if they were UPLOADs."""

    def __init__(
        self,
        kind: Kind,
        flow: bytes,
        incarnation: int,
        address: Address,
        progress: bytes,
        origin: bytes = b"",
        request_offset: int = 0,
        request_bytes: bytes = b"",
        request_digest: bytes | None = None,
        wants: Wants = (),
        received: int = 0,
        edition: int = 0,
        handed_on: bool = False,
        repeated: bool = False,
        noted: bool = False,
        note: Note | None = None,
        validated: bool = False,
        may_run: bool = False,
        fresh: bool = False,
        store: int = 0,
        authorised_at: int = 0,
        hops: int = 0,
        told: bool = False,
        datagram: bytes = b"",
        message: bytes = b"",
        channel: Channel | None = None,
        at: int = 0,
        marks: int = 0,
        continuation: Continuation | None = None,
        answers: tuple[Answer, ...] = (),
        allowance: int = UNLIMITED,
        padding: int = 0,
        host_tag: int = 0,
        attempt: int = 0,
        asked_size: int = 0,
        numbers: tuple[int, ...] = (),
    ) -> None:
        self.kind = kind
        self.flow = flow
        self.incarnation = incarnation
        self.address = address
        self.progress = progress
        self.origin = origin
        self.request_offset = request_offset
        self.request_bytes = request_bytes
        self.request_digest = request_digest
        self.wants = wants
        self.received = received
        self.edition = edition
        self.handed_on = handed_on
        self.repeated = repeated
        self.noted = noted
        self.note = note
        self.validated = validated
        self.may_run = may_run
        self.fresh = fresh
        self.store = store
        self.authorised_at = authorised_at
        self.hops = hops
        self.told = told
        self.datagram = datagram
        self.message = message
        self.channel = channel
        self.cover = 0 if channel is None else COVER_BYTES
        self.at = at
        self.marks = marks
        self.continuation = continuation
        self.answers = answers
        self.allowance = allowance
        self.padding = padding
        self.host_tag = host_tag
        self.attempt = attempt
        self.asked_size = asked_size
        self.numbers = numbers

    def pace(self, waited: int) -> int:
        """Datagrams a millisecond at which the answer is to leave: a window and a quarter in a
        round trip, or two in slow start.

        waited: milliseconds that answers lately waited for being paced. The continuation was minted
        a round trip ago and that, or earlier: what its own delay did not slow down gets no slower.
        """
        c = self.continuation
        if c is None or not self.answers:
            return LEAST_PACE
        epoch = self.answers[-1].successor or self.answers[-1].epoch
        w = window(epoch, self.answers[-1].low)
        quarters = 8 * w if w < epoch.ssthresh else 5 * w
        return max(LEAST_PACE, -(-quarters // (4 * max(1, self.at - c.minted - waited))))

    @property
    def round_trip(self) -> int:
        """Milliseconds: the shortest time in which this flow has presented a continuation."""
        c = self.continuation
        return UNMEASURED if c is None else min(c.round_trip, max(0, self.at - c.minted))

    @property
    def first_flight(self) -> int:
        """Response bytes that a first answer brings, of a window with which any flow may begin.

        A quarter, roughly and at most, is headers and continuations.
        """
        if not self.answers:
            return 0
        answer = self.answers[0]
        room = self.allowance // (answer.size + self.cover)
        count = min(INITIAL_WINDOW, answer.high - answer.low, room)
        return count * answer.size * 3 // 4

    @property
    def room(self) -> int:
        """Bytes of a message that is no longer, on its way, than what it answers."""
        return len(self.datagram) - self.cover

    @property
    def starved(self) -> bool:
        """May not even one packet of the answer go to this address for this datagram?"""
        return bool(self.answers) and self.allowance < self.answers[-1].size + self.cover


class Refusal(NamedTuple):
    """A datagram that is not served, or was but a question who is here. `reply`, when there is one,
    is never longer than it was.
    """

    reason: str
    reply: bytes | None = None
