"""Bytes of a connection, of TCP or of a flow, for coroutines; of neither direction is much held."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import cast

from trickles_web.client.relay import HIGH_WATER_BYTES, LINGER_S, prepare, reset_on_close


class Stream(asyncio.Protocol):
    """The protocol of a transport; `on_lost` is called when that is gone."""

    def __init__(self, on_lost: Callable[[], object] | None = None) -> None:
        self.transport: asyncio.Transport
        self._on_lost = on_lost
        self._arrived: list[bytes] = []
        self._size = 0
        self._ended = False
        self._error: Exception | None = None
        self._readable = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    # What the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._arrived.append(data)
        self._size += len(data)
        self._readable.set()
        if self._size > HIGH_WATER_BYTES:
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        self._ended = True
        self._readable.set()
        return True  # the other direction goes on

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.fail(exc)
        if self._on_lost is not None:
            self._on_lost()

    # What coroutines call

    @property
    def ended(self) -> bool:
        """No further byte will come."""
        return self._ended

    def fail(self, error: Exception | None) -> None:
        """It is over; whoever reads hears of the first error, after the bytes before it."""
        self._error = self._error or error
        self._ended = True
        self._readable.set()
        self._writable.set()

    async def read(self) -> bytes:
        """What has arrived, b"" at the end. Raises what broke it off, which is an OSError unless
        `fail` was given another."""
        await self._readable.wait()
        if not self._arrived:
            if self._error is not None:
                raise self._error
            return b""
        data = self._arrived[0] if len(self._arrived) == 1 else b"".join(self._arrived)
        self._arrived.clear()
        if self._size > HIGH_WATER_BYTES and not self._ended:
            self.transport.resume_reading()
        self._size = 0
        if not self._ended:
            self._readable.clear()
        return data

    async def peek(self) -> bytes:
        """What `read` would return, or the first part of it."""
        await self._readable.wait()
        return self._arrived[0] if self._arrived else b""

    async def write(self, data: bytes) -> None:
        """Returns when there is room for more. Nothing is raised if it is over: a reader hears."""
        self.transport.write(data)
        await self._writable.wait()

    def write_eof(self) -> None:
        """Nothing more comes from here."""
        if not self.transport.is_closing():
            with contextlib.suppress(OSError):  # reset, and the loop has not heard of that yet
                self.transport.write_eof()

    def abort(self) -> None:
        """Close at once; a flow's server is told that nobody waits."""
        self.transport.abort()

    # What only TCP knows

    def prepare(self) -> None:
        """Set the socket up, once there is one."""
        prepare(self.transport.get_extra_info("socket"))

    def reset(self) -> None:
        """RST: nobody may take what was sent for the whole."""
        reset_on_close(self.transport.get_extra_info("socket"))
        self.transport.abort()

    async def finish(self) -> None:
        """FIN behind the last byte, then drop what still comes for a while: closing a socket with
        unread bytes resets it, and the reset may overtake the response (RFC 9112 §9.6)."""
        self.transport.set_write_buffer_limits(high=0)
        await self._writable.wait()
        self.write_eof()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(LINGER_S):
                while await self.read():
                    pass
        self.transport.abort()
