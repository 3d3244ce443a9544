"""Capture files in the newer format, as Wireshark and tshark write them.

a file is blocks:  type (4)  length of all (4)  content  length of all (4)

section header     byte order (4) ...                    interfaces count anew from here
interface          link type (2)  zeros (2)  most bytes (4)  options
enhanced packet    interface (4)  time (4, 4)  bytes here (4)  bytes there were (4)  bytes
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO, Final, NamedTuple

from trickles_web.trace.frames import LARGEST_FRAME, CaptureError, Frame, exactly

SECTION: Final = b"\n\r\r\n"
_INTERFACE, _PACKET = 1, 6
_ORDERS: Final = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}
_LARGEST_BLOCK: Final = 2 * LARGEST_FRAME
_RESOLUTION: Final = 9
"""Option of an interface: what its times count, microseconds unless told."""
_MOST_INTERFACES: Final = 4096


class _Interface(NamedTuple):
    link: int
    unit: float


def frames(file: BinaryIO, begun: bytes) -> Iterator[Frame]:
    """begun: what of the file was read already, 12 bytes. Raises CaptureError, OSError."""
    order, interfaces = _order(begun[8:12]), list[_Interface]()
    _content(file, order, begun[4:8], begun[8:12])
    while True:
        kind = exactly(file, 4)
        if not kind:
            return
        size = exactly(file, 4)
        if kind == SECTION:
            magic = exactly(file, 4)
            order, interfaces = _order(magic), []
            _content(file, order, size, magic)
            continue
        content = _content(file, order, size, b"")
        (number,) = struct.unpack(f"{order}I", kind)
        try:
            if number == _INTERFACE and len(interfaces) < _MOST_INTERFACES:
                interfaces.append(_interface(order, content))
            elif number == _PACKET:
                yield _frame(order, interfaces, content)
        except (struct.error, IndexError):
            raise CaptureError("the capture is damaged: a block of it is too short") from None


def _order(magic: bytes) -> str:
    order = _ORDERS.get(magic)
    if order is None:
        raise CaptureError("the capture is damaged: its byte order is none")
    return order


def _content(file: BinaryIO, order: str, size: bytes, begun: bytes) -> bytes:
    """Of a block whose size was read, and perhaps the first bytes of its content."""
    (length,) = struct.unpack(f"{order}I", size) if len(size) == 4 else (0,)
    left = length - 12 - len(begun)
    if length % 4 or not 0 <= left <= _LARGEST_BLOCK:
        raise CaptureError(f"the capture is damaged: it has a block of {length:,} bytes")
    content = exactly(file, left + 4)
    if len(content) < left + 4:
        raise CaptureError("the capture breaks off in the middle of a block")
    return begun + content[:left]


def _interface(order: str, content: bytes) -> _Interface:
    (link,) = struct.unpack_from(f"{order}H", content)
    at, unit = 8, 1e-6
    while at + 4 <= len(content):
        code, length = struct.unpack_from(f"{order}HH", content, at)
        if code == _RESOLUTION and length:
            said = content[at + 4]
            unit = 2.0 ** -(said & 127) if said & 128 else 10.0 ** -(said & 127)
        at += 4 + length + -length % 4
    return _Interface(link, unit)


def _frame(order: str, interfaces: list[_Interface], content: bytes) -> Frame:
    number, high, low, size, length = struct.unpack_from(f"{order}IIIII", content)
    interface = interfaces[number]
    return Frame(
        (high << 32 | low) * interface.unit, interface.link, content[20 : 20 + size], length
    )
