"""What a client sends: HELLO, REQUEST, UPLOAD, CANCEL, IDENTIFY."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, NamedTuple

from trickles_web.errors import WireError
from trickles_web.transport.origin import ORIGIN_BYTES
from trickles_web.transport.wire.common import (
    FIRST_BYTE,
    MOST_EARLIER,
    MOST_EARLIER_WANTS,
    MOST_WANTS,
    NOTE_LENGTH,
    WANT,
    Kind,
    Wants,
    exactly,
    pack_wants,
    unpack_note,
    unpack_wants,
)

_HELLO: Final = struct.Struct(">B8sBHHHB")
_REQUEST: Final = struct.Struct(">B8sBBHQIIIQBBHH")
_REQUEST_BYTES: Final = struct.Struct(">Q8s")
_EARLIER: Final = struct.Struct(">IIB")
_UPLOAD: Final = struct.Struct(">B8sIQ8sHH")
_CANCEL: Final = struct.Struct(">B8sH")
_IDENTIFY: Final = struct.Struct(">B8sH")
_OPENS: Final = 1
_HANDED_ON: Final = 2
_LOST: Final = 4
_PADDED: Final = 8
_REPEATED: Final = 16
_NOTED: Final = 32
_NO_DIGEST: Final = bytes(8)


class Earlier(NamedTuple):
    """A claim repeated because its request may have been lost."""

    start: int
    stop: int
    wants: Wants


class Hello(NamedTuple):
    """First contact. `origin`: for whom a gateway speaks, see `transport.origin`; b"": nobody."""

    flow: bytes
    attempt: int
    size: int
    token: bytes
    request: bytes
    origin: bytes = b""


@dataclass(slots=True, init=False)
class Request:
    """Redeems a continuation. `lost` is -1 when no loss is reported.

    `note`: None if it does not say which one is at hand; b"" if there is none.
    """

    flow: bytes
    opens: bool
    handed_on: bool
    repeated: bool
    attempt: int
    size: int
    proof: int
    edition: int
    lost: int
    start: int
    received: int
    continuation: bytes
    wants: Wants
    earlier: tuple[Earlier, ...]
    request_offset: int
    request: bytes
    digest: bytes | None
    note: bytes | None

    def __init__(
        self,
        flow: bytes,
        opens: bool,
        handed_on: bool,
        repeated: bool,
        attempt: int,
        size: int,
        proof: int,
        edition: int,
        lost: int,
        start: int,
        received: int,
        continuation: bytes,
        wants: Wants,
        earlier: tuple[Earlier, ...] = (),
        request_offset: int = 0,
        request: bytes = b"",
        digest: bytes | None = None,
        note: bytes | None = None,
    ) -> None:
        self.flow = flow
        self.opens = opens
        self.handed_on = handed_on
        self.repeated = repeated
        self.attempt = attempt
        self.size = size
        self.proof = proof
        self.edition = edition
        self.lost = lost
        self.start = start
        self.received = received
        self.continuation = continuation
        self.wants = wants
        self.earlier = earlier
        self.request_offset = request_offset
        self.request = request
        self.digest = digest
        self.note = note


class Upload(NamedTuple):
    flow: bytes
    number: int
    offset: int
    digest: bytes | None
    continuation: bytes
    request: bytes


class Cancel(NamedTuple):
    flow: bytes
    continuation: bytes


class Identify(NamedTuple):
    """Asks for a server's credentials, from this offset on. Padded, for the answer is no longer."""

    flow: bytes
    offset: int


def encode_hello(message: Hello, pad_to: int) -> bytes:
    m = message
    lengths = (len(m.token), len(m.request), len(m.origin))
    head = _HELLO.pack(FIRST_BYTE[Kind.HELLO], m.flow, m.attempt, m.size, *lengths)
    return (head + m.token + m.origin + m.request).ljust(pad_to, b"\0")


def hello_room(message: Hello, size: int) -> int:
    """Request bytes that fit a HELLO of `size` bytes, whatever request bytes `message` has."""
    return size - _HELLO.size - len(message.token) - len(message.origin)


def decode_hello(datagram: bytes) -> Hello:
    try:
        _, flow, attempt, size, *lengths = _HELLO.unpack_from(datagram)
    except struct.error:
        raise WireError("truncated") from None
    token_bytes, request_bytes, origin_bytes = lengths
    if origin_bytes and origin_bytes not in ORIGIN_BYTES:
        raise WireError("origin")
    origin_at = _HELLO.size + token_bytes
    request_at = origin_at + origin_bytes
    stop = request_at + request_bytes
    if stop > len(datagram):
        raise WireError("truncated")
    token, origin = datagram[_HELLO.size : origin_at], datagram[origin_at:request_at]
    return Hello(flow, attempt, size, token, datagram[request_at:stop], origin)


def encode_request(message: Request, pad_to: int = 0) -> bytes:
    m = message
    flags = m.opens * _OPENS | m.handed_on * _HANDED_ON | (m.lost >= 0) * _LOST
    flags |= m.repeated * _REPEATED
    earlier = b"".join(
        _EARLIER.pack(e.start, e.stop, len(e.wants)) + pack_wants(e.wants) for e in m.earlier
    )
    carried = b""
    if m.request:
        carried = _REQUEST_BYTES.pack(m.request_offset, m.digest or _NO_DIGEST) + m.request
    if m.note is not None:
        flags |= _NOTED
        carried += NOTE_LENGTH.pack(len(m.note)) + m.note
    tail = m.continuation + pack_wants(m.wants) + earlier + carried
    if _REQUEST.size + len(tail) < pad_to:
        flags |= _PADDED
    head = _REQUEST.pack(
        FIRST_BYTE[Kind.REQUEST],
        m.flow,
        flags,
        m.attempt,
        m.size,
        m.proof,
        m.edition,
        max(m.lost, 0),
        m.start,
        m.received,
        len(m.wants),
        len(m.earlier),
        len(m.continuation),
        len(m.request),
    )
    return (head + tail).ljust(pad_to, b"\0")


def request_room(continuation: bytes, size: int, wants: int = 1, note: bytes | None = None) -> int:
    """Request bytes that fit a REQUEST of `size` bytes."""
    head = _REQUEST.size + _REQUEST_BYTES.size + wants * WANT.size
    noted = 0 if note is None else NOTE_LENGTH.size + len(note)
    return size - head - len(continuation) - noted


def decode_request(datagram: bytes) -> Request:
    try:
        (
            _,
            flow,
            flags,
            attempt,
            size,
            proof,
            edition,
            lost,
            start,
            received,
            want_count,
            earlier_count,
            continuation_bytes,
            request_bytes,
        ) = _REQUEST.unpack_from(datagram)
        at = _REQUEST.size + continuation_bytes
        continuation = datagram[_REQUEST.size : at]
        if want_count > MOST_WANTS or earlier_count > MOST_EARLIER:
            raise WireError("wants")
        wants = unpack_wants(datagram, at, want_count)
        at += want_count * WANT.size
        earlier = []
        for _ in range(earlier_count):
            first, stop, count = _EARLIER.unpack_from(datagram, at)
            if count > MOST_EARLIER_WANTS:
                raise WireError("wants")
            at += _EARLIER.size
            earlier.append(Earlier(first, stop, unpack_wants(datagram, at, count)))
            at += count * WANT.size
        offset, digest, request = 0, None, b""
        if request_bytes:
            offset, digest = _REQUEST_BYTES.unpack_from(datagram, at)
            at += _REQUEST_BYTES.size
            request = datagram[at : at + request_bytes]
            at += request_bytes
        note = None
        if flags & _NOTED:
            note, at = unpack_note(datagram, at)
    except struct.error:
        raise WireError("truncated") from None
    if at > len(datagram):
        raise WireError("truncated")
    if at < len(datagram) and not flags & _PADDED:
        raise WireError("trailing")
    return Request(
        flow,
        bool(flags & _OPENS),
        bool(flags & _HANDED_ON),
        bool(flags & _REPEATED),
        attempt,
        size,
        proof,
        edition,
        lost if flags & _LOST else -1,
        start,
        received,
        continuation,
        wants,
        tuple(earlier),
        offset,
        request,
        None if digest == _NO_DIGEST else digest,
        note,
    )


def encode_upload(message: Upload) -> bytes:
    flow, number, offset, digest, continuation, request = message
    head = _UPLOAD.pack(
        FIRST_BYTE[Kind.UPLOAD],
        flow,
        number,
        offset,
        digest or _NO_DIGEST,
        len(continuation),
        len(request),
    )
    return head + continuation + request


def upload_room(continuation: bytes, size: int) -> int:
    """Request bytes that fit an UPLOAD of `size` bytes."""
    return size - _UPLOAD.size - len(continuation)


def decode_upload(datagram: bytes) -> Upload:
    try:
        _, flow, number, offset, digest, a, b = _UPLOAD.unpack_from(datagram)
    except struct.error:
        raise WireError("truncated") from None
    at = _UPLOAD.size
    exactly(datagram, at + a + b)
    return Upload(
        flow,
        number,
        offset,
        None if digest == _NO_DIGEST else digest,
        datagram[at : at + a],
        datagram[at + a :],
    )


def encode_cancel(message: Cancel) -> bytes:
    return (
        _CANCEL.pack(FIRST_BYTE[Kind.CANCEL], message.flow, len(message.continuation))
        + message.continuation
    )


def decode_cancel(datagram: bytes) -> Cancel:
    try:
        _, flow, n = _CANCEL.unpack_from(datagram)
    except struct.error:
        raise WireError("truncated") from None
    exactly(datagram, _CANCEL.size + n)
    return Cancel(flow, datagram[_CANCEL.size :])


def encode_identify(message: Identify, pad_to: int) -> bytes:
    head = _IDENTIFY.pack(FIRST_BYTE[Kind.IDENTIFY], message.flow, message.offset)
    return head.ljust(pad_to, b"\0")


def decode_identify(datagram: bytes) -> Identify:
    try:
        _, flow, offset = _IDENTIFY.unpack_from(datagram)
    except struct.error:
        raise WireError("truncated") from None
    return Identify(flow, offset)
