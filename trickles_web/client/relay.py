"""Bytes of a TCP connection over a flow, and back; nothing is parsed.

The two sides are protocols that write to each other's transport; each pauses the other's reading
while its own buffer is full: a slow reader at either end slows the other end, and little is held.

How ends are passed on:

    TCP client                 flow
    closes, resets             cancelled
    half-closes (FIN)          goes on until no exchange is in progress, then both close; or until
                               a request is all there and open still, as a WebSocket is: cancelled
    FIN after the last byte    ends in order
    reset (SO_LINGER 0)        fails: a truncated body must never look complete
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from collections.abc import Callable
from typing import cast

from trickles_web.client.transport import FlowTransport

HIGH_WATER_BYTES = 256 * 1024
"""Held for a TCP client that reads slowly, beside one hand-over of the flow."""
LINGER_S = 5.0
"""After our FIN the client's last bytes are read and dropped this long: closing a socket with
unread bytes resets it, and the reset may overtake the end of the response (RFC 9112 §9.6)."""
HALF_CLOSED_CHECK_S = 5.0
KEEPALIVE_IDLE_S = 60
KEEPALIVE_INTERVAL_S = 15
WARNING_INTERVAL_S = 1.0

_TCP_CLOSE = 7
"""State in Linux's tcp_info: the peer has reset."""
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)

OpenFlow = Callable[[asyncio.Protocol], FlowTransport]
"""Makes the flow of a connection, for the protocol that is its side. Raises OSError."""
OnFailure = Callable[[Exception], None]
"""Hears why a connection is about to be reset."""


class Warnings:
    """One warning a second at most: a dead server makes every connection fail alike."""

    def __init__(self, logger: logging.Logger, clock: Callable[[], float]) -> None:
        self._logger = logger
        self._clock = clock
        self._warned_at, self._unwarned = 0.0, 0

    def warn(self, message: str) -> None:
        now = self._clock()
        if now - self._warned_at < WARNING_INTERVAL_S:
            self._unwarned += 1
            self._logger.debug("%s", message)
            return
        more = f" (and {self._unwarned} more before)" if self._unwarned else ""
        self._warned_at, self._unwarned = now, 0
        self._logger.warning("%s%s", message, more)


class Relay:
    """The connections of one loop; `on_forgotten` is called whenever one of them is over."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_forgotten: Callable[[], None]) -> None:
        self.connections: set[Inbound] = set()
        self._loop = loop
        self._on_forgotten = on_forgotten
        self._opening: set[asyncio.Task[None]] = set()
        self._half_closed: set[Inbound] = set()
        self._sweep: asyncio.TimerHandle | None = None

    def take(self, sock: socket.socket, open_flow: OpenFlow, on_failure: OnFailure) -> None:
        """Carry this connection from now on, a non-blocking socket which then is the relay's own.

        The flow opens with the client's first bytes, not before.
        """
        inbound = Inbound(self, open_flow, on_failure)
        self.connections.add(inbound)
        task = self._loop.create_task(self._adopt(inbound, sock))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _adopt(self, inbound: Inbound, sock: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: inbound, sock)
        except OSError:  # gone before it was here
            sock.close()
            self.forget(inbound)

    def forget(self, inbound: Inbound) -> None:
        """The connection is over."""
        self.connections.discard(inbound)
        self._half_closed.discard(inbound)
        self._on_forgotten()

    async def settle(self, patience_s: float) -> None:
        """End what is still being taken up, and the watch."""
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for task in self._opening:
            task.cancel()
        if self._opening:
            await asyncio.wait(self._opening, timeout=patience_s)

    def watch_half_closed(self, inbound: Inbound) -> None:
        """Look after it now and then; there is no timer while nobody needs one."""
        self._half_closed.add(inbound)
        if self._sweep is None:
            self._sweep_half_closed()

    def _sweep_half_closed(self) -> None:
        self._sweep = None
        for inbound in [one for one in self._half_closed if one.peer_is_gone()]:
            inbound.reset()
            self._half_closed.discard(inbound)
        if self._half_closed:
            self._sweep = self._loop.call_later(HALF_CLOSED_CHECK_S, self._sweep_half_closed)


class Inbound(asyncio.Protocol):
    """The TCP side of one connection; see `Relay.take`."""

    __slots__ = ("flow", "half_closed", "linger", "on_failure", "open_flow", "relay", "tcp")

    def __init__(self, relay: Relay, open_flow: OpenFlow, on_failure: OnFailure) -> None:
        self.relay = relay
        self.open_flow = open_flow
        self.on_failure = on_failure
        self.tcp: asyncio.Transport | None = None
        self.flow: FlowTransport | None = None
        self.linger: asyncio.TimerHandle | None = None
        self.half_closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.tcp = cast(asyncio.Transport, transport)
        self.tcp.set_write_buffer_limits(high=HIGH_WATER_BYTES)
        prepare(transport.get_extra_info("socket"))

    def data_received(self, data: bytes) -> None:
        if self.linger is not None:
            return
        if self.flow is None:
            try:
                self.flow = self.open_flow(Outbound(self))
            except OSError as error:
                self.fail(error)
                return
        self.flow.write(data)

    def eof_received(self) -> bool:
        if self.linger is not None or self.flow is None or self.flow.idle:
            return False  # closes the connection
        self.half_closed = True
        self.relay.watch_half_closed(self)
        self.flow.write_eof()
        return True

    def pause_writing(self) -> None:
        if self.flow is not None:
            self.flow.pause_reading()

    def resume_writing(self) -> None:
        if self.linger is not None:
            asyncio.get_running_loop().call_soon(self._write_eof)
        elif self.flow is not None:
            self.flow.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.linger is not None:
            self.linger.cancel()
        self.tcp = None
        if self.flow is not None:
            self.flow.abort()
        self.relay.forget(self)

    def finish(self) -> None:
        """The flow has ended in order: FIN behind the last byte, then wait for the client's."""
        if self.tcp is not None and self.half_closed:
            self.tcp.close()
        elif self.tcp is not None and not self.tcp.is_closing():
            self._linger()
            self.tcp.set_write_buffer_limits(high=0)  # `resume_writing` comes when all is written
            if not self.tcp.get_write_buffer_size():
                self._write_eof()
            self.tcp.resume_reading()

    def _write_eof(self) -> None:
        """Only while nothing waits to be written: asyncio reports what fails behind that."""
        if self.tcp is not None and not self.tcp.is_closing():
            try:
                self.tcp.write_eof()
            except OSError:  # it has reset, and the loop has not heard of that yet
                self.tcp.abort()

    def _linger(self) -> None:
        self.linger = asyncio.get_running_loop().call_later(LINGER_S, self._linger_over)

    def _linger_over(self) -> None:
        if self.tcp is not None and self.tcp.get_write_buffer_size():
            self._linger()  # a slow reader still has our bytes to fetch
        elif self.tcp is not None:
            self.tcp.close()

    def fail(self, error: Exception) -> None:
        """No more can come over the flow, and whoever reads must not take it for the end."""
        if self.tcp is not None:
            self.on_failure(error)
            self.reset()

    def reset(self) -> None:
        """RST: nobody may take what was sent for the whole."""
        if self.tcp is not None:
            sock = self.tcp.get_extra_info("socket")
            reset_on_close(sock)
            self.tcp.abort()

    def end(self) -> None:
        """Close an idle connection, reset one with a response under way."""
        idle = self.flow is None or self.flow.idle
        if self.tcp is not None and idle and not self.tcp.get_write_buffer_size():
            self.tcp.abort()
        else:
            self.reset()

    def peer_is_gone(self) -> bool:
        """After its FIN nothing is read, so only the kernel can tell that the peer has left."""
        if self.tcp is None:
            return True
        sock = self.tcp.get_extra_info("socket")
        with contextlib.suppress(OSError):
            return bool(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _TCP_CLOSE)
        return False


class Outbound(asyncio.Protocol):
    """The flow's side."""

    __slots__ = ("inbound",)

    def __init__(self, inbound: Inbound) -> None:
        self.inbound = inbound

    def data_received(self, data: bytes) -> None:
        if self.inbound.tcp is not None:
            self.inbound.tcp.write(data)

    def eof_received(self) -> bool:
        return False  # closes the flow: connection_lost(None) follows

    def pause_writing(self) -> None:
        if self.inbound.tcp is not None:
            self.inbound.tcp.pause_reading()

    def resume_writing(self) -> None:
        if self.inbound.tcp is not None:
            self.inbound.tcp.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is None:
            self.inbound.finish()
        else:
            self.inbound.fail(exc)


def reset_on_close(sock: socket.socket) -> None:
    """Closing it sends RST from now on."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)


def prepare(sock: socket.socket) -> None:
    """No Nagle (whole responses come at once), and probes that find clients which vanished."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S)
