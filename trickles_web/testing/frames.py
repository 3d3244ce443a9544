"""Messages between the processes of a test, over a socket: each one pickled, behind its length.

Both ends are forks of one process, so what is unpickled is trusted.
"""

from __future__ import annotations

import asyncio
import pickle
import socket
import struct
from collections.abc import Callable
from typing import Any

_LENGTH = struct.Struct(">I")

Frame = tuple[Any, ...]


def packed(*frame: Any) -> bytes:
    content = pickle.dumps(frame, pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(content)) + content


def read_frame(sock: socket.socket) -> Frame | None:
    """The next frame of a blocking socket; None at its end."""
    head = _read(sock, _LENGTH.size)
    content = _read(sock, _LENGTH.unpack(head)[0]) if head is not None else None
    if content is None:
        return None
    frame: Frame = pickle.loads(content)
    return frame


def _read(sock: socket.socket, size: int) -> bytes | None:
    pieces, missing = [], size
    while missing:
        piece = sock.recv(missing)
        if not piece:
            return None
        pieces.append(piece)
        missing -= len(piece)
    return b"".join(pieces)


class Frames(asyncio.Protocol):
    """One end, in an event loop."""

    def __init__(self, taken: Callable[[Frame], None], lost: Callable[[], None]) -> None:
        """taken(frame): one that came. lost(): the other end is closed, or this one."""
        self._taken = taken
        self._lost = lost
        self._buffer = bytearray()
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._lost()

    def data_received(self, data: bytes) -> None:
        buffer, at = self._buffer, 0
        buffer += data
        while len(buffer) - at >= _LENGTH.size:
            start = at + _LENGTH.size
            stop = start + _LENGTH.unpack_from(buffer, at)[0]
            if len(buffer) < stop:
                break
            self._taken(pickle.loads(memoryview(buffer)[start:stop].tobytes()))
            at = stop
        del buffer[:at]

    def write(self, *frame: Any) -> None:
        """Send a frame, or lose it if the connection is lost. Raises what pickle does."""
        data = packed(*frame)
        if self._transport is not None:
            self._transport.write(data)

    def close(self) -> None:
        """What was written goes out first."""
        if self._transport is not None:
            self._transport.close()


async def connect(
    sock: socket.socket, taken: Callable[[Frame], None], lost: Callable[[], None]
) -> Frames:
    """The end that `sock` is."""
    loop = asyncio.get_running_loop()
    _, frames = await loop.create_connection(lambda: Frames(taken, lost), sock=sock)
    return frames
