"""What captures consist of."""

from __future__ import annotations

from typing import BinaryIO, Final, NamedTuple

from trickles_web.errors import UsageError

LARGEST_FRAME: Final = 1 << 18
"""tcpdump's own limit."""


class CaptureError(UsageError):
    """The file is no capture, or is damaged; what came before in it is right."""


class Frame(NamedTuple):
    """`at` in seconds since 1970; `data` may be cut short of the `length` that was on the wire."""

    at: float
    link: int
    data: bytes
    length: int


def exactly(file: BinaryIO, size: int) -> bytes:
    """As many bytes, less only at the end. A pipe gives them bit by bit."""
    data = file.read(size)
    while data and len(data) < size and (more := file.read(size - len(data))):
        data += more
    return data
