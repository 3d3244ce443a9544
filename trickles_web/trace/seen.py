"""What a trace consists of: a datagram, when it was seen, and between whom."""

from __future__ import annotations

from typing import NamedTuple

from trickles_web.errors import ContinuationError, WireError
from trickles_web.transport import continuation as sealing
from trickles_web.transport import wire
from trickles_web.transport.continuation import Continuation
from trickles_web.transport.private.cover import is_private
from trickles_web.transport.wire import Kind

Address = tuple[str, int]
"""Host and port."""


class Sealed(NamedTuple):
    """A datagram of a private flow: what it says only client and servers can read."""

    kind: Kind
    size: int


Message = (
    Sealed
    | wire.Identify
    | wire.Identity
    | wire.Hello
    | wire.Request
    | wire.Upload
    | wire.Cancel
    | wire.Data
    | wire.Ack
    | wire.Need
    | wire.Wait
    | wire.Refused
    | wire.Preferred
)


class Seen(NamedTuple):
    """`at` in seconds since 1970. Who is client and who server follows from the kind."""

    at: float
    client: Address
    server: Address
    datagram: bytes

    @property
    def up(self) -> bool:
        return is_up(self.datagram)


def is_up(datagram: bytes) -> bool:
    """Is it a client's?"""
    return datagram[0] & 15 < Kind.DATA


def decoded(datagram: bytes) -> Message | None:
    """None if it is no datagram of ours."""
    try:
        if is_private(datagram):
            return Sealed(Kind(datagram[0] & 15), len(datagram))
        decode = wire.DECODERS.get(wire.kind_of(datagram))
        return None if decode is None else decode(datagram)
    except (WireError, ValueError):
        return None


def continuation_of(message: Message) -> Continuation | None:
    """The transport part of the one that it carries; nothing in it is authenticated."""
    blob = message.token if isinstance(message, wire.Hello) else _carried(message)
    try:
        return sealing.parse(blob) if blob else None
    except ContinuationError:
        return None


def _carried(message: Message) -> bytes:
    return getattr(message, "continuation", b"")
