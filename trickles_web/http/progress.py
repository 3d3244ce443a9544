"""How far an HTTP exchange has come: the application part of a continuation.

It rides in every burst, so the common cases stay under 64 bytes:

    receiving   29 bytes: the request is not whole yet, or the application was never called for it
    responding  46 bytes, then by kind
      pending    4: the owner; the application was called, nothing was answered yet
      memory    12: the owner, edition, and the digest of the whole response, where a re-run can
                    be held to it; 2 more for a page of the server's own, which says all of it
      checkpoint 8: owner and edition; what to go on from is in a note, apart
      file      16 and the path, and the response head for as long as the client may still need it;
                8 more for the offset in the file, where that is not 0
    either       7 or 19 more, where a gateway says for whom it speaks

Only servers of the service can make these bytes (they are sealed), yet decoding trusts none.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from http import HTTPStatus
from typing import Final, NamedTuple

from trickles_web.errors import TricklesError
from trickles_web.transport.origin import ORIGIN_BYTES

MOST_PROGRESS: Final = 700
"""Bytes. A continuation must leave room in a 1,200-byte datagram."""

MOST_RERUNS: Final = 3
UNKNOWN: Final = -1
"""An end that is not known yet."""

_RECEIVING: Final = struct.Struct(">BIQQIII")
_RESPONDING: Final = struct.Struct(">BBIQIQqI8s")
_PENDING: Final = struct.Struct(">I")
_MEMORY: Final = struct.Struct(">II4s")
_CHECKPOINT: Final = struct.Struct(">II")
_FILE: Final = struct.Struct(">I8sHH")
_OFFSET: Final = struct.Struct(">Q")
_PAGE: Final = struct.Struct(">H")

_PHASE: Final = 1
_UNSAFE: Final = 2
_CLOSES: Final = 4
_REPRODUCIBLE: Final = 8
_DOUBTFUL: Final = 4
_CONTINUED: Final = 8
"""These two are the same bits, while receiving."""
_KIND_SHIFT: Final = 4
_PART: Final = 64
_ORIGIN: Final = 128
_RERUNS: Final = 3
_STREAMED: Final = 4
_OWN_PAGE: Final = 8
_HEAD_ONLY: Final = 16
"""These four are in the byte behind the flags."""
_OUTCOME_UNKNOWN: Final = 1 << 15
"""In the two bytes of a page, above its status."""

_ERROR_STATUSES: Final = frozenset(status.value for status in HTTPStatus if status >= 400)

_MOST_OFFSET: Final = 1 << 62

MOST_RECEIVED: Final = 1 << 61
"""No client can have got so many bytes; offsets that follow from less can be sealed."""


class ProgressError(TricklesError):
    """Bytes that are no HTTP progress, or a progress too large to be sealed."""


class Phase(IntEnum):
    RECEIVING = 0
    RESPONDING = 1


class Body(IntEnum):
    """How the bytes of a response can be had."""

    PENDING = 0
    MEMORY = 1
    FILE = 2
    CHECKPOINT = 3


_KINDS: Final = tuple(Body)


class Page(NamedTuple):
    """A page of this server's own: what it says follows from this, so any replica can say it."""

    status: int
    unknown: bool = False
    """It says that the outcome of the request is unknown."""


# `__init__` is written out where it is called for each datagram: the one that `dataclass` makes is
# interpreted, even in a compiled module.
@dataclass(slots=True, init=False)
class Progress:
    """Offsets are of the flow's streams. Fields below the gap are meant for RESPONDING only."""

    exchange: int
    request_start: int
    response_start: int
    phase: Phase
    unsafe: bool
    held: int
    """Receiving: some server has said that it holds the request's bytes below this offset."""
    store: int
    """Receiving: id of the store that this exchange began at; an unsafe request runs there only."""
    doubtful: bool
    """Receiving: the request may have been here long ago, when the continuation was young."""
    continued: bool
    """Receiving: the client was told to go on (100 Continue)."""
    origin: bytes
    """Who speaks through a gateway, see `transport.origin`; b"": whoever sent it."""
    owner: int
    """The process that spools the request, runs the application, or has the response; 0: none."""

    request_end: int
    response_end: int
    reruns: int
    streamed: bool
    """The request was, or is, taken while it is answered. Its digest is that of its head only, and
    what the owner has of it is never asked for again: no other process can run it."""
    head_only: bool
    """The method is HEAD: whatever is answered has no body."""
    kind: Body
    closes: bool
    request_digest: bytes
    """8 bytes over the request."""
    date: int
    """Unix seconds of the response's Date: a regenerated head is byte-identical."""
    edition: int
    reproducible: bool
    """The digest of the whole response is known: its first 4 bytes are the edition."""
    response_check: bytes
    """The other 4."""
    page: Page | None
    validator: bytes
    head_length: int
    offset: int
    """Of the file's first byte that is served."""
    path: bytes
    head: bytes

    def __init__(
        self,
        exchange: int = 0,
        request_start: int = 0,
        response_start: int = 0,
        phase: Phase = Phase.RECEIVING,
        unsafe: bool = False,
        held: int = 0,
        store: int = 0,
        doubtful: bool = False,
        continued: bool = False,
        origin: bytes = b"",
        owner: int = 0,
        request_end: int = 0,
        response_end: int = UNKNOWN,
        reruns: int = 0,
        streamed: bool = False,
        head_only: bool = False,
        kind: Body = Body.PENDING,
        closes: bool = False,
        request_digest: bytes = b"",
        date: int = 0,
        edition: int = 0,
        reproducible: bool = False,
        response_check: bytes = b"\0\0\0\0",
        page: Page | None = None,
        validator: bytes = b"\0" * 8,
        head_length: int = 0,
        offset: int = 0,
        path: bytes = b"",
        head: bytes = b"",
    ) -> None:
        self.exchange = exchange
        self.request_start = request_start
        self.response_start = response_start
        self.phase = phase
        self.unsafe = unsafe
        self.held = held
        self.store = store
        self.doubtful = doubtful
        self.continued = continued
        self.origin = origin
        self.owner = owner
        self.request_end = request_end
        self.response_end = response_end
        self.reruns = reruns
        self.streamed = streamed
        self.head_only = head_only
        self.kind = kind
        self.closes = closes
        self.request_digest = request_digest
        self.date = date
        self.edition = edition
        self.reproducible = reproducible
        self.response_check = response_check
        self.page = page
        self.validator = validator
        self.head_length = head_length
        self.offset = offset
        self.path = path
        self.head = head

    @property
    def whole_digest(self) -> bytes:
        """That of all of the request, b"" if only its head is named."""
        return b"" if self.streamed else self.request_digest


def first_contact(origin: bytes, store: int) -> bytes:
    """What is sealed of a flow that has just begun at this store: b"" if nobody is spoken for."""
    return encode(Progress(store=store, origin=origin)) if origin else b""


def called(p: Progress, request_end: int, request_digest: bytes, date: int) -> Progress:
    """Exchange `p` from the application's call on: nothing is answered yet."""
    return Progress(
        exchange=p.exchange,
        request_start=p.request_start,
        response_start=p.response_start,
        phase=Phase.RESPONDING,
        request_end=request_end,
        request_digest=request_digest,
        head_only=p.head_only,
        date=date,
        origin=p.origin,
    )


def encode(p: Progress) -> bytes:
    """Bytes to be sealed. Raises ProgressError if they would be more than 700."""
    if not p.origin:
        return _encode(p, 0)
    data = _encode(p, _ORIGIN)
    return b"".join((data[:1], bytes((len(p.origin),)), p.origin, data[1:]))


def _encode(p: Progress, flags: int) -> bytes:
    """Without the origin."""
    flags |= p.phase | p.unsafe << 1 | p.kind << _KIND_SHIFT
    if p.phase is Phase.RECEIVING:
        return _RECEIVING.pack(
            flags | p.doubtful * _DOUBTFUL | p.continued * _CONTINUED,
            p.exchange,
            p.request_start,
            p.response_start,
            max(0, p.held - p.request_start),
            p.store,
            p.owner,
        )
    fixed = _RESPONDING.pack(
        flags | p.closes << 2 | p.reproducible << 3 | _PART * (p.offset > 0),
        p.reruns
        | p.streamed * _STREAMED
        | _OWN_PAGE * (p.page is not None)
        | p.head_only * _HEAD_ONLY,
        p.exchange,
        p.request_start,
        p.request_end - p.request_start,
        p.response_start,
        p.response_end,
        p.date,
        p.request_digest,
    )
    if p.kind is Body.PENDING:
        return fixed + _PENDING.pack(p.owner)
    if p.kind is Body.MEMORY:
        memory = fixed + _MEMORY.pack(p.owner, p.edition, p.response_check)
        if p.page is None:
            return memory
        return memory + _PAGE.pack(p.page.status | p.page.unknown * _OUTCOME_UNKNOWN)
    if p.kind is Body.CHECKPOINT:
        return fixed + _CHECKPOINT.pack(p.owner, p.edition)
    tail = _FILE.pack(p.edition, p.validator, p.head_length, len(p.path))
    if p.offset:
        tail += _OFFSET.pack(p.offset)
    room = MOST_PROGRESS - len(fixed) - len(tail) - (len(p.origin) and 1 + len(p.origin))
    if len(p.path) + len(p.head) > room:
        raise ProgressError("path and head do not fit")
    return b"".join((fixed, tail, p.path, p.head))


def decode(data: bytes) -> Progress:
    """The progress in `data`; b"" is that of a flow's first contact. Raises ProgressError only."""
    if not data:
        return Progress()
    try:
        p = _decode(data)
    except (struct.error, ValueError) as error:
        raise ProgressError("malformed progress") from error
    _validate(p)
    return p


def _decode(data: bytes) -> Progress:
    flags = data[0]
    origin = b""
    if flags & _ORIGIN:
        data, origin = _split_origin(data)
    if not flags & _PHASE:
        if flags & ~(_UNSAFE | _DOUBTFUL | _CONTINUED | _ORIGIN):
            raise ProgressError("flags of another phase")
        _, exchange, start, response, held, store, owner = _RECEIVING.unpack(data)
        return Progress(
            exchange,
            start,
            response,
            Phase.RECEIVING,
            flags & _UNSAFE != 0,
            start + held,
            store,
            flags & _DOUBTFUL != 0,
            flags & _CONTINUED != 0,
            origin,
            owner,
        )
    _, more, exchange, start, length, response, end, date, name = _RESPONDING.unpack_from(data)
    if more & ~(_RERUNS | _STREAMED | _OWN_PAGE | _HEAD_ONLY):
        raise ProgressError("unknown flags")
    p = Progress(
        exchange,
        start,
        response,
        Phase.RESPONDING,
        flags & _UNSAFE != 0,
        start + length,
        origin=origin,
        request_end=start + length,
        response_end=end,
        reruns=more & _RERUNS,
        streamed=more & _STREAMED != 0,
        head_only=more & _HEAD_ONLY != 0,
        kind=_KINDS[flags >> _KIND_SHIFT & 3],
        closes=flags & _CLOSES != 0,
        request_digest=name,
        date=date,
        reproducible=flags & _REPRODUCIBLE != 0,
    )
    rest = _decode_kind(p, data, _RESPONDING.size, more & _OWN_PAGE != 0, flags & _PART != 0)
    if rest != len(data):
        raise ProgressError("trailing bytes")
    return p


def _split_origin(data: bytes) -> tuple[bytes, bytes]:
    """All but the origin, which stands behind the flags with its length before it; and that."""
    size = data[1] if len(data) > 1 else 0
    if size not in ORIGIN_BYTES or len(data) < 2 + size:
        raise ProgressError("malformed origin")
    return data[:1] + data[2 + size :], data[2 : 2 + size]


def _decode_kind(p: Progress, data: bytes, at: int, page: bool, part: bool) -> int:
    """What follows by kind, from `at` on; where that ends."""
    if (page and p.kind is not Body.MEMORY) or (part and p.kind is not Body.FILE):
        raise ProgressError("a flag of another kind")
    if p.kind is Body.MEMORY:
        p.owner, p.edition, p.response_check = _MEMORY.unpack_from(data, at)
        at += _MEMORY.size
        if page:
            (word,) = _PAGE.unpack_from(data, at)
            at += _PAGE.size
            p.page = Page(word & ~_OUTCOME_UNKNOWN, word & _OUTCOME_UNKNOWN != 0)
        return at
    if p.kind is Body.PENDING:
        (p.owner,) = _PENDING.unpack_from(data, at)
        return at + _PENDING.size
    if p.kind is Body.CHECKPOINT:
        p.owner, p.edition = _CHECKPOINT.unpack_from(data, at)
        return at + _CHECKPOINT.size
    p.edition, p.validator, p.head_length, path = _FILE.unpack_from(data, at)
    at += _FILE.size
    if part:
        (p.offset,) = _OFFSET.unpack_from(data, at)
        at += _OFFSET.size
        if not p.offset:
            raise ProgressError("a part that begins with the file")
    p.path = data[at : at + path]
    p.head = data[at + path :]
    if len(p.path) != path or len(p.head) not in (0, p.head_length):
        raise ProgressError("truncated path or head")
    return len(data)


def _validate(p: Progress) -> None:
    if max(p.request_end, p.held, p.response_start) >= _MOST_OFFSET:
        raise ProgressError("offset out of range")
    if p.phase is Phase.RECEIVING:
        return
    if p.response_end != UNKNOWN and not p.response_start <= p.response_end < _MOST_OFFSET:
        raise ProgressError("response ends before it starts")
    if p.kind is not Body.PENDING and not p.edition:
        raise ProgressError("bytes without an edition")
    if p.page is not None and p.page.status not in _ERROR_STATUSES:
        raise ProgressError("a page that this server does not have")
    if p.reproducible and p.kind is not Body.MEMORY:
        raise ProgressError("a digest of nothing")
    if p.kind is Body.FILE:
        file_length = p.response_end - p.response_start - p.head_length
        if p.offset + max(0, file_length) >= _MOST_OFFSET:
            raise ProgressError("offset out of range")
        if p.response_end == UNKNOWN or file_length < 0 or b"\0" in p.path or not p.path:
            raise ProgressError("a file that is none")
