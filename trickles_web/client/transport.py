"""One flow behind the interface of an asyncio transport.

The Flow decides what is sent, the Driver when; this module is what the application sees of both.
Reading is paused by not taking bytes out of the flow, which then stops asking the server for more:
the flow control of the protocol is the application's own. Datagrams are received all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from trickles_web.client.driver import Driver
from trickles_web.client.remote import Remote
from trickles_web.client.tokens import TokenStore
from trickles_web.config import ClientConfig
from trickles_web.errors import FlowRefused
from trickles_web.transport.flow import Flow

READ_BYTES = 256 * 1024
"""Handed to the protocol at once at most, as asyncio's TCP does."""
HIGH_WATER_BYTES = 64 * 1024
"""As asyncio's: write() pauses the protocol when more than this awaits the server."""
CLOSE_PATIENCE_S = 5.0
"""close() waits for a server to take the last bytes as long as some are taken within this."""


class FlowTransport(asyncio.Transport):
    """Made by `connect`; see `open_transport`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        remote: Remote,
        protocol: asyncio.Protocol,
        *,
        config: ClientConfig,
        tokens: TokenStore,
        local_addr: tuple[str, int] | None = None,
        origin: bytes = b"",
    ) -> None:
        """Raises ConnectError if no address of the server has a route."""
        super().__init__()
        self._loop = loop
        self._protocol: asyncio.BaseProtocol = protocol
        self._reading_paused = False
        self._writing_paused = False
        self._high, self._low = HIGH_WATER_BYTES, HIGH_WATER_BYTES // 4
        self._eof = False
        self._finishing = False
        self._closing = False
        self._lost = False
        self._patience: asyncio.TimerHandle | None = None
        self._driver = Driver(
            loop,
            remote,
            self._advance,
            config=config,
            tokens=tokens,
            local_addr=local_addr,
            origin=origin,
        )
        self._flow = self._driver.flow
        self._last_ends = self._driver.ends()

    # The flow

    def _advance(self, now: float) -> None:
        """What cannot go on must not hang: its timer would never be armed again."""
        try:
            self._go_on(now)
        except Exception as error:
            self._report("Fatal error on a flow.", error)
            self._lose(error)

    def _go_on(self, now: float) -> None:
        """Hand on, send, arm: in this order, as bytes taken out are room to ask for more."""
        self._deliver()
        if self._lost:
            return
        self._driver.transmit(now)
        self._balance()
        self._settle()
        if not self._lost:
            self._driver.arm(now)

    def _deliver(self) -> None:
        flow = self._flow
        while self._closing or not self._reading_paused:
            data = flow.read(READ_BYTES)
            if not data:
                break
            if not self._closing and isinstance(self._protocol, asyncio.Protocol):
                try:
                    self._protocol.data_received(data)
                except Exception as error:  # the protocol's own fault, reported as asyncio does
                    self._report("Fatal error: protocol.data_received() call failed.", error)
                    self._lose(error)
            if self._lost:
                break

    def _balance(self) -> None:
        """Tell the protocol when to stop writing and when to go on."""
        size = self.get_write_buffer_size()
        try:
            if not self._writing_paused and size > self._high:
                self._writing_paused = True
                self._protocol.pause_writing()
            elif self._writing_paused and size <= self._low:
                self._writing_paused = False
                self._protocol.resume_writing()
        except Exception as error:
            self._report(
                "Fatal error: protocol.pause_writing or resume_writing() call failed.", error
            )

    def _settle(self) -> None:
        """Has the flow come to its end, or is it wanted no more?"""
        flow = self._flow
        if flow.error is not None:
            # Bytes that are right come before the error, unless somebody waits for it.
            waiting = self._closing or self._writing_paused or not self._reading_paused
            if waiting or not flow.readable():
                self._lose(self._driver.explain(flow.error))
        elif self._finishing and flow.open and not flow.untaken():
            self._end()
        elif flow.readable():
            pass
        elif flow.eof and not self._eof:
            self._eof = True
            self._on_eof()
        elif (self._closing and self._flushed()) or (self._finishing and flow.idle):
            self._end()

    def _on_eof(self) -> None:
        keep = False
        if not self._closing and isinstance(self._protocol, asyncio.Protocol):
            try:
                keep = bool(self._protocol.eof_received())
            except Exception as error:
                self._report("Fatal error: protocol.eof_received() call failed.", error)
                self._lose(error)
        if not keep:
            self._end()

    def _report(self, message: str, error: Exception) -> None:
        self._loop.call_exception_handler(
            {
                "message": message,
                "exception": error,
                "transport": self,
                "protocol": self._protocol,
            }
        )

    def _flushed(self) -> bool:
        """Nothing to wait for in close()."""
        return self._eof or self._flow.idle or not self.get_write_buffer_size()

    def _be_patient(self, before: int) -> None:
        """Come back in a while, and give up if no byte was taken in it; `before`: bytes to go."""
        size = self.get_write_buffer_size()
        if size >= before:
            self._end()
        else:
            self._patience = self._loop.call_later(CLOSE_PATIENCE_S, self._be_patient, size)

    def _end(self) -> None:
        """Nobody waits any more; the server hears of it if it is at work."""
        self._lose(None)

    def _lose(self, error: Exception | None) -> None:
        if self._lost:
            return
        self._lost = self._closing = True
        if self._patience is not None:
            self._patience.cancel()
        self._last_ends = self._driver.ends()
        flow = self._flow
        self._loop.call_soon(self._protocol.connection_lost, error)
        self._driver.close(cancel=not (flow.idle or flow.eof or flow.error is not None))

    # What asyncio's transports offer

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send request bytes. Dropped after close(); after the server's end the flow fails."""
        if not data or self._closing:
            return
        if self._finishing:
            raise RuntimeError("Cannot call write() after write_eof()")
        if self._eof or self._flow.eof:
            self._lose(FlowRefused("the server has ended this flow: it takes no further request"))
            return
        self._flow.write(bytes(data))
        self._balance()
        self._driver.schedule()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """No more requests: close as soon as no exchange is in progress and all was handed on.

        Or once the server has taken all bytes, and the request is open still: it stays unfinished.
        The server is not told: HTTP says where a request ends, and a flow has no half-close.
        """
        self._finishing = True
        self._driver.schedule()

    def pause_reading(self) -> None:
        self._reading_paused = True

    def resume_reading(self) -> None:
        if self._reading_paused:
            self._reading_paused = False
            self._driver.schedule()

    def is_reading(self) -> bool:
        return not self._reading_paused and not self._closing

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if high is None:
            high = HIGH_WATER_BYTES if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self._high, self._low = high, low
        self._balance()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def get_write_buffer_size(self) -> int:
        """Request bytes that no server has taken yet."""
        return self._flow.untaken()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """The keys "socket", "sockname", "peername", of the moment: a flow may change sockets."""
        ends = self._last_ends if self._lost else self._driver.ends()
        return ends.get(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        """Deliver the request bytes written so far, then close, cancelling a response under way.

        At once if a server has taken them all. What arrives meanwhile is discarded.
        """
        if self._closing:
            return
        self._closing = True
        if self._flushed():
            self._end()
        else:
            self._patience = self._loop.call_later(
                CLOSE_PATIENCE_S, self._be_patient, self.get_write_buffer_size()
            )
            self._driver.schedule()

    def abort(self) -> None:
        """Close now. The server is told by one datagram, sent before this returns."""
        self._end()

    @property
    def idle(self) -> bool:
        """No exchange is in progress, and everything that arrived was handed on."""
        return self._flow.idle and not self._flow.readable()

    @property
    def flow(self) -> Flow:
        """For its statistics."""
        return self._flow


def connect(
    remote: Remote,
    protocol: asyncio.Protocol,
    *,
    config: ClientConfig,
    tokens: TokenStore,
    local_addr: tuple[str, int] | None = None,
    origin: bytes = b"",
) -> FlowTransport:
    """A transport for one flow; connection_made was called already. Raises ConnectError.

    origin: for whom the flow is, where that is somebody else; see `transport.origin`.
    """
    loop = asyncio.get_running_loop()
    transport = FlowTransport(
        loop,
        remote,
        protocol,
        config=config,
        tokens=tokens,
        local_addr=local_addr,
        origin=origin,
    )
    protocol.connection_made(transport)
    return transport
