"""Capture files in the format of libpcap, as tcpdump writes and reads them.

magic (4)  version 2.4 (2, 2)  zeros (8)  most bytes of a frame (4)  link type (4)
for each frame: seconds (4)  micro- or nanoseconds (4)  bytes here (4)  bytes there were (4)
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO, Final, NamedTuple

from trickles_web.errors import UsageError

LINK_RAW: Final = 101
"""Frames begin with the header of IPv4 or IPv6."""
LARGEST_FRAME: Final = 1 << 18
"""tcpdump's own limit."""
_MICROSECONDS, _NANOSECONDS = 0xA1B2C3D4, 0xA1B23C4D
_PCAPNG = b"\n\r\r\n"
_HEADER: Final = "IHHQII"
_FRAME: Final = "IIII"
_OURS: Final = struct.Struct(f"<{_FRAME}")


class CaptureError(UsageError):
    """The file is no capture, or is damaged; what came before in it is right."""


class Frame(NamedTuple):
    """`at` in seconds since 1970; `data` may be cut short of the `length` that was on the wire."""

    at: float
    link: int
    data: bytes
    length: int


def header() -> bytes:
    """What our files begin with: nanoseconds, and frames without a link's header."""
    return struct.pack(f"<{_HEADER}", _NANOSECONDS, 2, 4, 0, LARGEST_FRAME, LINK_RAW)


def frame(at_ns: int, data: bytes, length: int) -> bytes:
    """A frame of our files."""
    seconds, rest = divmod(at_ns, 1_000_000_000)
    return _OURS.pack(seconds, rest, len(data), length) + data


def frames(file: BinaryIO) -> Iterator[Frame]:
    """Raises CaptureError, OSError."""
    first = _exactly(file, struct.calcsize(f"<{_HEADER}"))
    if first.startswith(_PCAPNG):
        raise CaptureError(
            "this is a pcapng file; make a pcap file of it: editcap -F pcap FILE OTHER"
        )
    for order in "<>":
        magic, *_, link = struct.unpack(f"{order}{_HEADER}", first) if len(first) == 24 else (0, 0)
        if magic in (_MICROSECONDS, _NANOSECONDS):
            break
    else:
        raise CaptureError("this is no capture file: tcpdump -w makes one, trickles-trace --save")
    unit = 1e-9 if magic == _NANOSECONDS else 1e-6
    yield from _following(file, struct.Struct(f"{order}{_FRAME}"), unit, link & 0xFFFF)


def _following(file: BinaryIO, head: struct.Struct, unit: float, link: int) -> Iterator[Frame]:
    while prefix := _exactly(file, head.size):
        if len(prefix) < head.size:
            raise CaptureError("the capture breaks off in the middle of a frame")
        seconds, fraction, size, length = head.unpack(prefix)
        if size > LARGEST_FRAME:
            raise CaptureError(f"the capture is damaged: it has a frame of {size:,} bytes")
        data = _exactly(file, size)
        if len(data) < size:
            raise CaptureError("the capture breaks off in the middle of a frame")
        yield Frame(seconds + fraction * unit, link, data, length)


def _exactly(file: BinaryIO, size: int) -> bytes:
    """As many bytes, less only at the end. A pipe gives them bit by bit."""
    data = file.read(size)
    while data and len(data) < size and (more := file.read(size - len(data))):
        data += more
    return data
