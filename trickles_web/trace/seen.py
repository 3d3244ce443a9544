"""What a trace consists of: a datagram, when it was seen, and between whom."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from trickles_web.errors import ContinuationError, WireError
from trickles_web.transport import continuation as sealing
from trickles_web.transport import wire
from trickles_web.transport.continuation import Continuation
from trickles_web.transport.wire import Kind

Address = tuple[str, int]
"""Host and port."""

Message = (
    wire.Hello
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

_DECODE: Final[dict[int, Callable[[bytes], Any]]] = {
    Kind.HELLO: wire.decode_hello,
    Kind.REQUEST: wire.decode_request,
    Kind.UPLOAD: wire.decode_upload,
    Kind.CANCEL: wire.decode_cancel,
    Kind.DATA: wire.decode_data,
    Kind.ACK: wire.decode_ack,
    Kind.NEED: wire.decode_need,
    Kind.WAIT: wire.decode_wait,
    Kind.REFUSED: wire.decode_refused,
    Kind.PREFERRED: wire.decode_preferred,
}


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
        decode = _DECODE.get(wire.kind_of(datagram))
        return None if decode is None else decode(datagram)
    except WireError:
        return None


def continuation_of(message: Message) -> Continuation | None:
    """The transport part of the one that it carries; nothing in it is authenticated."""
    blob = message.token if isinstance(message, wire.Hello) else _carried(message)
    try:
        return sealing.parse(blob) if blob else None
    except ContinuationError:
        return None


def _carried(message: Message) -> bytes:
    if isinstance(message, (wire.Need, wire.Wait, wire.Refused, wire.Preferred, wire.Hello)):
        return b""
    return message.continuation
