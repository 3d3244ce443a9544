"""Sockets whose other end is a Trickles server, for whatever expects a connected TCP socket.

    with create_connection(("127.0.0.1", 8000)) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        print(sock.recv(65536))

The program has one end of a TCP connection within this host, and a thread carries what passes the
other end over a flow. TCP and not a pair of Unix sockets, because only a reset tells all readers,
also those in C, that what they have read is not the whole; and because programs set TCP's options.
"""

from __future__ import annotations

import dataclasses
import errno
import functools
import socket
from typing import TYPE_CHECKING, Any, cast

from trickles_web.client.background import carry
from trickles_web.client.relay import reset_on_close
from trickles_web.client.remote import SocketAddress, resolve_blocking
from trickles_web.client.streams import default_tokens
from trickles_web.client.tokens import TokenStore
from trickles_web.client.transport import connect
from trickles_web.config import ClientConfig

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

LOOPBACK = "127.0.0.1"


@dataclasses.dataclass(slots=True)
class _Outcome:
    """What became of the flow; shared with the thread that carries it, and with duplicates."""

    error: Exception | None = None


class FlowSocket(socket.socket):
    """A connected socket; made by `create_connection`.

    Its errors are those of the flow, a FlowError where TCP has a reset: what failed, and where. To
    `select` and to readers in C it is a reset. Half-closing it (`shutdown(SHUT_WR)`) lets the
    response come to its end; closing it cancels.
    """

    __slots__ = ("_outcome", "_server")

    _outcome: _Outcome
    _server: SocketAddress

    @property
    def failure(self) -> Exception | None:
        """Why the flow was broken off; None while it was not."""
        return self._outcome.error

    def getpeername(self) -> SocketAddress:
        """The server's UDP address; of several the first, though another may have answered."""
        return self._server

    def connect(self, address: Any) -> None:
        """It is connected; for programs that make a socket first, and connect it then.

        Raises OSError (EISCONN) unless this is the server's address.
        """
        if tuple(address[:2]) != self._server[:2]:
            raise OSError(errno.EISCONN, f"this socket is connected to {self._server[:2]}")

    def dup(self) -> FlowSocket:
        """Another object for the same connection."""
        twin = super().dup()
        twin._outcome, twin._server = self._outcome, self._server
        return twin

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        try:
            data = super().recv(bufsize, flags)
        except ConnectionError:
            self._check()
            raise
        if not data and bufsize:
            self._check()
        return data

    def recv_into(self, buffer: WriteableBuffer, nbytes: int = 0, flags: int = 0) -> int:
        try:
            count = super().recv_into(buffer, nbytes, flags)
        except ConnectionError:
            self._check()
            raise
        if not count and (nbytes or memoryview(buffer).nbytes):
            self._check()
        return count

    def send(self, data: ReadableBuffer, flags: int = 0, /) -> int:
        try:
            return super().send(data, flags)
        except ConnectionError:
            self._check()
            raise

    def sendall(self, data: ReadableBuffer, flags: int = 0, /) -> None:
        try:
            super().sendall(data, flags)
        except ConnectionError:
            self._check()
            raise

    def _check(self) -> None:
        """The kernel tells of a reset once, perhaps to a writer; readers after it see an end."""
        if self._outcome.error is not None:
            raise self._outcome.error


def answered_within(timeout: float | None, config: ClientConfig) -> ClientConfig:
    """With no more than `timeout` seconds until a server first answers."""
    if not timeout or timeout >= config.connect_timeout_s:
        return config
    return dataclasses.replace(config, connect_timeout_s=timeout)


_UNSET = object()


def create_connection(
    address: tuple[str, int],
    timeout: float | object | None = _UNSET,
    source_address: tuple[str, int] | None = None,
    *,
    config: ClientConfig | None = None,
    tokens: TokenStore | None = None,
) -> FlowSocket:
    """As socket.create_connection: a socket whose peer is the Trickles server at `address`.

    `timeout` in seconds is the socket's, and that of the first answer, if that is less than the
    configuration's. Anything but a number or None means the default one.

    Returns as soon as the name is resolved: a flow begins with the first bytes that are sent, and
    that no server answers shows as ConnectError when an answer is read.

    Raises socket.gaierror if the name has no address.
    """
    config = config or ClientConfig()
    remote = resolve_blocking(*address[:2], config)
    near, far = _connected_pair()
    near._server, near._outcome = remote.addresses[0][1], _Outcome()
    told = timeout is None or isinstance(timeout, (int, float))
    limit = cast("float | None", timeout) if told else socket.getdefaulttimeout()
    near.settimeout(limit)
    open_flow = functools.partial(
        connect,
        remote,
        config=answered_within(limit, config),
        tokens=tokens if tokens is not None else default_tokens(),
        local_addr=source_address,
    )
    carry(far, open_flow, functools.partial(setattr, near._outcome, "error"), str(remote))
    return near


def _connected_pair() -> tuple[FlowSocket, socket.socket]:
    """The program's end, and the non-blocking one that the relay is to have."""
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        listener.listen()
        near = FlowSocket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            socket.socket.connect(near, listener.getsockname())
            far = _accept(listener, near.getsockname())
        except BaseException:
            near.close()
            raise
    far.setblocking(False)
    near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    reset_on_close(near)  # tells `close` from `shutdown`, and leaves nothing in TIME_WAIT
    return near, far


def _accept(listener: socket.socket, address: SocketAddress) -> socket.socket:
    """The connection from this address: anybody on this host might have been faster."""
    while True:
        sock, peer = listener.accept()
        if peer == address:
            return sock
        sock.close()
