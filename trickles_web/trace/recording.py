"""Recording what a client's flows send and receive, into a capture file.

    with open("flow.pcap", "wb") as file:
        config = ClientConfig(recorder=Recording(file))

Response bytes and long request bodies are left out; the heads of requests are in it.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, Final

from trickles_web.errors import UsageError, WireError
from trickles_web.trace import pcap
from trickles_web.trace.packets import frame_of
from trickles_web.trace.seen import Address
from trickles_web.transport import wire
from trickles_web.transport.private.cover import is_private
from trickles_web.transport.wire import Kind

_LENGTH: Final = struct.Struct(">H")
_DATA_LENGTH_AT: Final = wire.DATA_HEADER_BYTES - _LENGTH.size
_UPLOAD_LENGTH_AT: Final = 29
_UPLOAD_HEADER_BYTES: Final = 33


def wall_clock() -> Callable[[], int]:
    """Nanoseconds since 1970 that never go back, whatever is done to the wall clock meanwhile."""
    begun = time.time_ns() - time.monotonic_ns()
    return lambda: begun + time.monotonic_ns()


class Recording:
    """A `config.Recorder`. `file` is its maker's, who closes it when the flows are over.

    Raises nothing: when the file cannot be written, the recording ends, and `error` says why.
    """

    def __init__(self, file: BinaryIO, clock: Callable[[], int] | None = None) -> None:
        """clock: nanoseconds since 1970; the wall clock unless told."""
        self.error: UsageError | None = None
        self._file = file
        self._clock = clock or wall_clock()
        self._write(pcap.header())

    def sent(self, datagrams: Sequence[bytes], local: Any, remote: Any) -> None:
        for datagram in datagrams:
            self._record(datagram, local, remote)

    def received(self, train: bytes, segment: int, local: Any, remote: Any) -> None:
        for at in range(0, len(train), segment or 1):
            self._record(train[at : at + segment], remote, local)

    def _record(self, datagram: bytes, source: Any, target: Any) -> None:
        kept = _worth_keeping(datagram)
        data, length = frame_of(_end(source), _end(target), datagram, kept)
        self._write(pcap.frame(self._clock(), data, length))

    def _write(self, data: bytes) -> None:
        if self.error is None:
            try:
                self._file.write(data)
            except OSError as error:
                self.error = UsageError(f"the trace cannot be written: {error.strerror}")


def _end(address: Any) -> Address:
    """As the socket module has it, without what IPv6 adds."""
    return address[0], address[1]


def _worth_keeping(datagram: bytes) -> int:
    """Its bytes, but for those of a response, or of a request that is uploaded."""
    if is_private(datagram):
        return wire.START_BYTES  # nobody can read the rest
    kind = datagram[0] & 15 if datagram else 0
    try:
        if kind == Kind.UPLOAD:
            (carried,) = _LENGTH.unpack_from(datagram, _UPLOAD_LENGTH_AT)
            return _UPLOAD_HEADER_BYTES + int(carried)
        if kind == Kind.DATA:
            (carried,) = _LENGTH.unpack_from(datagram, _DATA_LENGTH_AT)
            noted = len(wire.decode_data(datagram).note) + _LENGTH.size if carried else 0
            return wire.DATA_HEADER_BYTES + int(carried) + noted
    except (struct.error, WireError):
        pass
    return len(datagram)
