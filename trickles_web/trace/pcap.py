"""Capture files in the format of libpcap, as tcpdump writes and reads them.

magic (4)  version 2.4 (2, 2)  zeros (8)  most bytes of a frame (4)  link type (4)
for each frame: seconds (4)  micro- or nanoseconds (4)  bytes here (4)  bytes there were (4)
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO, Final

from trickles_web.trace import pcapng
from trickles_web.trace.frames import LARGEST_FRAME, CaptureError, Frame, exactly

LINK_RAW: Final = 101
"""Frames begin with the header of IPv4 or IPv6."""
_MICROSECONDS, _NANOSECONDS = 0xA1B2C3D4, 0xA1B23C4D
_HEADER: Final = "IHHQII"
_FIRST_BYTES: Final = 12
"""Enough to tell the two formats apart."""
_FRAME: Final = "IIII"
_OURS: Final = struct.Struct(f"<{_FRAME}")


def header() -> bytes:
    """What our files begin with: nanoseconds, and frames without a link's header."""
    return struct.pack(f"<{_HEADER}", _NANOSECONDS, 2, 4, 0, LARGEST_FRAME, LINK_RAW)


def frame(at_ns: int, data: bytes, length: int) -> bytes:
    """A frame of our files."""
    seconds, rest = divmod(at_ns, 1_000_000_000)
    return _OURS.pack(seconds, rest, len(data), length) + data


def frames(file: BinaryIO) -> Iterator[Frame]:
    """Those of a capture, of this format or of the newer one. Raises CaptureError, OSError."""
    first = exactly(file, _FIRST_BYTES)
    if first.startswith(pcapng.SECTION) and len(first) == _FIRST_BYTES:
        yield from pcapng.frames(file, first)
        return
    first += exactly(file, struct.calcsize(f"<{_HEADER}") - _FIRST_BYTES)
    for order in "<>":
        magic, *_, link = struct.unpack(f"{order}{_HEADER}", first) if len(first) == 24 else (0, 0)
        if magic in (_MICROSECONDS, _NANOSECONDS):
            break
    else:
        raise CaptureError("this is no capture file: tcpdump -w makes one, trickles-trace --save")
    unit = 1e-9 if magic == _NANOSECONDS else 1e-6
    yield from _following(file, struct.Struct(f"{order}{_FRAME}"), unit, link & 0xFFFF)


def _following(file: BinaryIO, head: struct.Struct, unit: float, link: int) -> Iterator[Frame]:
    while prefix := exactly(file, head.size):
        if len(prefix) < head.size:
            raise CaptureError("the capture breaks off in the middle of a frame")
        seconds, fraction, size, length = head.unpack(prefix)
        if size > LARGEST_FRAME:
            raise CaptureError(f"the capture is damaged: it has a frame of {size:,} bytes")
        data = exactly(file, size)
        if len(data) < size:
            raise CaptureError("the capture breaks off in the middle of a frame")
        yield Frame(seconds + fraction * unit, link, data, length)
