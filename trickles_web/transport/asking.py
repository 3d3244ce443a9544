"""What a client's HELLO and REQUESTs say: which bytes it wants, and what it has."""

from __future__ import annotations

from trickles_web.config import BASE_DATAGRAM
from trickles_web.transport import wire
from trickles_web.transport.claim import Held, Terms
from trickles_web.transport.edition import Edition
from trickles_web.transport.opener import WANTS_WITH_NOTE, Opener
from trickles_web.transport.reassembly import Reassembly
from trickles_web.transport.upload import RequestStream
from trickles_web.transport.wire import MOST_WANTS, Earlier, Wants


class Asking:
    """Writes them. `hello`: what the flow says of itself, but for attempt, size and request.

    No opener is longer than what any path carries, whatever it has with it.
    """

    __slots__ = ("_edition", "_hello", "_hello_bytes", "_requests", "_stream")

    def __init__(
        self,
        hello: wire.Hello,
        requests: RequestStream,
        stream: Reassembly,
        edition: Edition,
        hello_bytes: int,
    ) -> None:
        self._hello = hello
        self._hello_bytes = hello_bytes
        self._requests = requests
        self._stream = stream
        self._edition = edition

    def room(self, held: Held | None, opener: Opener | None, note: bytes | None) -> int:
        """Request bytes that fit an opener from `held`, HELLO if that is None."""
        if held is None:
            return wire.hello_room(self._hello, self._hello_bytes)
        wants = min(
            len(opener.wants) if opener else MOST_WANTS, WANTS_WITH_NOTE if note else MOST_WANTS
        )
        size = BASE_DATAGRAM - held.cover
        return max(0, wire.request_room(held.blob, size, wants, note))

    def hello(self, attempt: int, size: int, carried: bytes) -> bytes:
        """`carried`: the first bytes of the request."""
        hello = self._hello._replace(attempt=attempt, size=size, request=carried)
        return wire.encode_hello(hello, self._hello_bytes)

    def request(
        self,
        held: Held,
        terms: Terms,
        wants: Wants,
        *,
        opens: bool = False,
        repeated: bool = False,
        attempt: int = 0,
        size: int = 0,
        earlier: tuple[Earlier, ...] = (),
        carried: bytes = b"",
        note: bytes | None = None,
        padded: bool = False,
    ) -> bytes:
        """As `wire.Request` has it, of the continuation `held`."""
        edition = self._edition
        message = wire.Request(
            self._hello.flow,
            opens,
            edition.handed_on,
            repeated,
            attempt,
            size,
            terms.proof,
            edition.number,
            terms.lost,
            terms.start,
            self._stream.received,
            held.blob,
            wants,
            earlier,
            self._requests.start,
            carried,
            None,
            note,
        )
        pad_to = BASE_DATAGRAM - held.cover if padded else 0
        return wire.encode_request(message, pad_to) + held.ticket
