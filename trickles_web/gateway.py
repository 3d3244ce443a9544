"""TCP in, Trickles out: every TCP connection is one flow, byte for byte.

HTTP is never parsed, so whatever speaks HTTP over TCP works unchanged. The two sides are protocols
that write to each other's transport; each pauses the other's reading while its own buffer is full,
so a slow reader at either end slows the other end, and the gateway holds little.

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
import errno
import logging
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

from trickles_web.client.sockets import Remote, SocketAddress, resolve
from trickles_web.client.streams import default_tokens
from trickles_web.client.tokens import TokenStore
from trickles_web.client.transport import FlowTransport, connect
from trickles_web.client.url import join_authority
from trickles_web.config import ClientConfig
from trickles_web.errors import BindError, UsageError
from trickles_web.transport.origin import pack_origin

logger = logging.getLogger("trickles.gateway")

MAX_CONNECTIONS = 10_000
BACKLOG = 2048
ACCEPT_BATCH = 64
"""Connections taken in one wake-up."""
HIGH_WATER_BYTES = 256 * 1024
"""Held for a TCP client that reads slowly, beside one hand-over of the flow."""
ACCEPT_PAUSE_S = 0.5
"""After the process ran out of descriptors."""
LINGER_S = 5.0
"""After our FIN the client's last bytes are read and dropped this long: closing a socket with
unread bytes resets it, and the reset may overtake the end of the response (RFC 9112 §9.6)."""
HALF_CLOSED_CHECK_S = 5.0
KEEPALIVE_IDLE_S = 60
KEEPALIVE_INTERVAL_S = 15
WARNING_INTERVAL_S = 1.0
CLOSE_GRACE_S = 1.0

_TCP_CLOSE = 7
"""State in Linux's tcp_info: the peer has reset."""
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class _Inbound(asyncio.Protocol):
    """The TCP side of one connection. The flow opens with the client's first bytes, not before.

    `peer`: the address from `accept`, not from the socket: who resets at once has none any more,
    and a request that came from nowhere would count as the gateway's own.
    """

    __slots__ = ("flow", "gateway", "half_closed", "linger", "origin", "peer", "tcp")

    def __init__(self, gateway: Gateway, peer: SocketAddress) -> None:
        self.gateway = gateway
        self.peer = join_authority(peer[0], peer[1])
        self.origin = pack_origin(peer[0], peer[1])
        self.tcp: asyncio.Transport | None = None
        self.flow: FlowTransport | None = None
        self.linger: asyncio.TimerHandle | None = None
        self.half_closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.tcp = cast(asyncio.Transport, transport)
        self.tcp.set_write_buffer_limits(high=HIGH_WATER_BYTES)
        _prepare(transport.get_extra_info("socket"))

    def data_received(self, data: bytes) -> None:
        if self.linger is not None:
            return
        if self.flow is None:
            try:
                self.flow = self.gateway.open_flow(self)
            except OSError as error:
                self.gateway.warn(f"{error}; resetting {self.peer}")
                self.reset()
                return
        self.flow.write(data)

    def eof_received(self) -> bool:
        if self.linger is not None or self.flow is None or self.flow.idle:
            return False  # closes the connection
        self.half_closed = True
        self.gateway.watch_half_closed(self)
        self.flow.finish()
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
        self.gateway.forget(self)

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

    def reset(self) -> None:
        """RST: nobody may take what was sent for the whole."""
        if self.tcp is not None:
            sock = self.tcp.get_extra_info("socket")
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self.tcp.abort()

    def end(self) -> None:
        """The gateway stops: an idle connection closes, one with a response under way is reset."""
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


class _Outbound(asyncio.Protocol):
    """The flow's side."""

    __slots__ = ("inbound",)

    def __init__(self, inbound: _Inbound) -> None:
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
        elif self.inbound.tcp is not None:
            self.inbound.gateway.warn(f"{exc}; resetting {self.inbound.peer}")
            self.inbound.reset()


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """Where a gateway listens, and for whom."""

    host: str
    """The Trickles server's, a name or an address."""
    port: int
    """Its UDP port."""
    listen: Sequence[tuple[str, int]] = (("127.0.0.1", 8080),)
    """TCP (host, port) pairs; an empty host is every interface, port 0 any free one."""
    max_connections: int = MAX_CONNECTIONS
    """Then accepting pauses, and newcomers wait in the kernel's queue."""
    client: ClientConfig = field(default_factory=ClientConfig)


class Gateway:
    """Listens and relays from `start` to `close`, within one running loop."""

    def __init__(self, config: GatewayConfig, *, tokens: TokenStore | None = None) -> None:
        self.config = config
        self._tokens = tokens or default_tokens()
        self._loop: asyncio.AbstractEventLoop
        self._remote: Remote | None = None
        self._listeners: list[socket.socket] = []
        self._connections: set[_Inbound] = set()
        self._half_closed: set[_Inbound] = set()
        self._opening: set[asyncio.Task[object]] = set()
        self._sweep: asyncio.TimerHandle | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._accepting = False
        self._closed = asyncio.Event()
        self._warned_at, self._unwarned = 0.0, 0
        self._most = config.max_connections

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """(host, port) of every listening socket, with the ports that port 0 became."""
        return [listener.getsockname()[:2] for listener in self._listeners]

    @property
    def connections(self) -> int:
        """TCP connections now open."""
        return len(self._connections)

    async def start(self) -> None:
        """Resolve the server's name and listen. Raises BindError, and UsageError for the name."""
        self._loop = asyncio.get_running_loop()
        try:
            self._remote = await resolve(self.config.host, self.config.port)
        except OSError as error:
            why = error.strerror or error
            raise UsageError(f"cannot resolve {self.config.host!r}: {why}") from None
        try:
            for host, port in self.config.listen:
                self._listeners.extend(await _listen(host, port))
        except BindError:
            _close_all(self._listeners)
            raise
        self._accept_on()

    async def close(self) -> None:
        """Stop at once: flows are cancelled, and the server told; open responses are reset."""
        self._accept_off()
        for timer in (self._sweep, self._retry):
            if timer is not None:
                timer.cancel()
        self._sweep = self._retry = None
        _close_all(self._listeners)
        for task in self._opening:
            task.cancel()
        if self._opening:
            await asyncio.wait(self._opening, timeout=CLOSE_GRACE_S)
        if self._connections:
            self._closed.clear()
            for connection in list(self._connections):
                connection.end()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), CLOSE_GRACE_S)

    def _accept_on(self) -> None:
        self._retry = None
        if not self._accepting and self._listeners:
            self._accepting = True
            for listener in self._listeners:
                self._loop.add_reader(listener.fileno(), self._accept, listener)

    def _accept_off(self) -> None:
        if self._accepting:
            self._accepting = False
            for listener in self._listeners:
                self._loop.remove_reader(listener.fileno())

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(ACCEPT_BATCH):
            if len(self._connections) >= self._most:
                self._accept_off()  # until a connection is forgotten
                return
            try:
                sock, peer = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._pause_accepting(error)
                return
            sock.setblocking(False)
            self._take(sock, peer)

    def _pause_accepting(self, error: OSError) -> None:
        """Out of descriptors or memory: trying again at once would only spin."""
        self.warn(f"cannot accept: {error.strerror}")
        self._accept_off()
        self._retry = self._loop.call_later(ACCEPT_PAUSE_S, self._accept_on)

    def _take(self, sock: socket.socket, peer: SocketAddress) -> None:
        inbound = _Inbound(self, peer)
        self._connections.add(inbound)
        task = self._loop.create_task(self._adopt(inbound, sock))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _adopt(self, inbound: _Inbound, sock: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: inbound, sock)
        except OSError:  # gone before it was here
            sock.close()
            self.forget(inbound)

    def open_flow(self, inbound: _Inbound) -> FlowTransport:
        """A flow to the server for this connection. Raises ConnectError or OSError."""
        assert self._remote is not None, "start() comes first"
        return connect(
            self._remote,
            _Outbound(inbound),
            config=self.config.client,
            tokens=self._tokens,
            origin=inbound.origin,
        )

    def forget(self, inbound: _Inbound) -> None:
        """The connection is over."""
        self._connections.discard(inbound)
        self._half_closed.discard(inbound)
        if not self._connections:
            self._closed.set()
        if not self._accepting and self._retry is None and len(self._connections) < self._most:
            self._accept_on()

    def watch_half_closed(self, inbound: _Inbound) -> None:
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

    def warn(self, message: str) -> None:
        """One warning a second at most: a dead server makes every connection fail alike."""
        now = self._loop.time()
        if now - self._warned_at < WARNING_INTERVAL_S:
            self._unwarned += 1
            logger.debug("%s", message)
            return
        more = f" (and {self._unwarned} more before)" if self._unwarned else ""
        self._warned_at, self._unwarned = now, 0
        logger.warning("%s%s", message, more)


async def _listen(host: str, port: int) -> list[socket.socket]:
    """Listening sockets on every address of the host. Raises BindError, one line."""
    loop = asyncio.get_running_loop()
    where = join_authority(host, port)
    listeners: list[socket.socket] = []
    try:
        found = await loop.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        for family, address in dict.fromkeys((entry[0], entry[4]) for entry in found):
            listener = socket.socket(family, socket.SOCK_STREAM)
            listeners.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
            listener.setblocking(False)
    except OSError as error:
        _close_all(listeners)
        busy = error.errno == errno.EADDRINUSE
        hint = "; stop what listens there, or choose another --listen" if busy else ""
        raise BindError(f"cannot listen on TCP {where}: {error.strerror or error}{hint}") from None
    return listeners


def _close_all(listeners: list[socket.socket]) -> None:
    while listeners:
        listeners.pop().close()


def _prepare(sock: socket.socket) -> None:
    """No Nagle (whole responses come at once), and probes that find clients which vanished."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S)
