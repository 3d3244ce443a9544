"""Trains: datagrams of one length that Linux takes and gives end to end, as one (<linux/udp.h>)."""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import Any, Final

SOL_UDP, UDP_SEGMENT, UDP_GRO = 17, 103, 104
"""`socket` lacks them."""
MOST_SEGMENTS: Final = 64
"""Datagrams in one segmented send (UDP_MAX_SEGMENTS of kernels before 6.9)."""
LARGEST_TRAIN: Final = 65_535
"""Bytes that a kernel hands over at once, at most."""
SEGMENT_SPACE: Final = socket.CMSG_SPACE(4)
"""Bytes of ancillary data that tell a train's segment."""

Received = tuple[bytes, list[tuple[int, int, bytes]], int, Any]

_SEGMENT: Final = struct.Struct("=H")


def can_segment(sock: socket.socket) -> bool:
    """Kernels that do not know UDP_SEGMENT ignore the control message, and would send one giant
    datagram.
    """
    try:
        sock.getsockopt(SOL_UDP, UDP_SEGMENT)
    except OSError:
        return False
    return True


def segmented(segment: int) -> tuple[int, int, bytes]:
    """The control message that cuts what is sent into datagrams of so many bytes."""
    return SOL_UDP, UDP_SEGMENT, _SEGMENT.pack(segment)


def take_trains(sock: socket.socket) -> None:
    """Receive trains from now on, with UDP_GRO; older kernels hand over one by one."""
    with contextlib.suppress(OSError):
        sock.setsockopt(SOL_UDP, UDP_GRO, 1)


def receive(sock: socket.socket, ancillary_bytes: int) -> Received | None:
    """What has come, as `recvmsg` gives it; None if nothing has. Raises OSError.

    The module stays interpreted for this: it takes compiled code ten microseconds to catch an
    exception, and one ends every drain of a socket.
    """
    try:
        return sock.recvmsg(LARGEST_TRAIN, ancillary_bytes)
    except (BlockingIOError, InterruptedError):
        return None
