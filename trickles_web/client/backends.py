"""Network backends for httpcore's connection pools, and for httpcore2's: flows in place of TCP.

They are what the libraries' documentation asks of a backend, not classes of theirs; whose errors
they raise is up to the `core` that they are given, the module httpcore or httpcore2.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import select
import socket
import time
from collections.abc import Iterator
from typing import Any, cast

from trickles_web.client.flow_socket import answered_within, create_connection
from trickles_web.client.streams import open_transport
from trickles_web.client.tokens import TokenStore
from trickles_web.client.transport import FlowTransport
from trickles_web.config import ClientConfig
from trickles_web.errors import ConnectError, IdentityError

HIGH_WATER_BYTES = 256 * 1024
"""Received and not yet read, beyond which the flow is not read either."""

NO_UNIX_SOCKET = "Trickles goes over UDP, not over Unix sockets"
NO_TLS = "there is no TLS over Trickles: ask for trickless://, which is private by itself"
NOT_ASYNCIO = (
    "AsyncTricklesTransport works in asyncio, and no loop of asyncio is running here; "
    "elsewhere, as in trio, use TricklesTransport in a thread"
)


@contextlib.contextmanager
def _errors(core: Any, action: str) -> Iterator[None]:
    """Raise `core`'s errors for ours; `action` is "Connect", "Read" or "Write"."""
    try:
        yield
    except ConnectError as error:  # a flow begins with its first bytes, so reading may tell
        told = core.ConnectTimeout if error.errno == errno.ETIMEDOUT else core.ConnectError
        raise told(str(error)) from error
    except IdentityError as error:  # nothing was asked of it
        raise core.ConnectError(str(error)) from error
    except TimeoutError as error:
        raise getattr(core, f"{action}Timeout")(str(error) or "timed out") from error
    except OSError as error:
        raise getattr(core, f"{action}Error")(str(error)) from error


@dataclasses.dataclass(frozen=True, slots=True)
class _Settings:
    """What a backend is made of; `core`: the library whose pool it serves."""

    core: Any
    config: ClientConfig
    tokens: TokenStore | None


class Backend(_Settings):
    """A NetworkBackend: for pools that are used from threads."""

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: object = None,
    ) -> Stream:
        """No datagram is sent yet; options of TCP mean nothing here."""
        source = None if local_address is None else (local_address, 0)
        with _errors(self.core, "Connect"):
            sock = create_connection(
                (host, port), timeout, source, config=self.config, tokens=self.tokens
            )
        return Stream(self.core, sock)

    def connect_unix_socket(self, *arguments: object, **keywords: object) -> Stream:
        raise self.core.UnsupportedProtocol(NO_UNIX_SOCKET)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class Stream:
    """A NetworkStream over a flow's socket."""

    def __init__(self, core: Any, sock: socket.socket) -> None:
        self._core = core
        self._socket = sock

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        with _errors(self._core, "Read"):
            self._socket.settimeout(timeout)
            return self._socket.recv(max_bytes)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        left = memoryview(buffer)
        with _errors(self._core, "Write"):
            while left:
                self._socket.settimeout(timeout)
                left = left[self._socket.send(left) :]

    def close(self) -> None:
        self._socket.close()

    def start_tls(self, *arguments: object, **keywords: object) -> Stream:
        raise self._core.UnsupportedProtocol(NO_TLS)

    def get_extra_info(self, info: str) -> Any:
        match info:
            case "socket":
                return self._socket
            case "client_addr":
                return self._socket.getsockname()
            case "server_addr":
                return self._socket.getpeername()
            case "is_readable":
                return _is_readable(self._socket)
        return None


def _is_readable(sock: socket.socket) -> bool:
    """Is there something to read, or an end? So is there if it was closed."""
    if sock.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


class AsyncBackend(_Settings):
    """An AsyncNetworkBackend: for pools that are used in asyncio."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: object = None,
    ) -> AsyncStream:
        """No datagram is sent yet; options of TCP mean nothing here."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError(NOT_ASYNCIO) from None
        source = None if local_address is None else (local_address, 0)
        with _errors(self.core, "Connect"):
            async with asyncio.timeout(timeout):
                _, stream = await open_transport(
                    lambda: AsyncStream(self.core),
                    host,
                    port,
                    config=answered_within(timeout, self.config),
                    local_addr=source,
                    tokens=self.tokens,
                )
        return stream

    async def connect_unix_socket(self, *arguments: object, **keywords: object) -> AsyncStream:
        raise self.core.UnsupportedProtocol(NO_UNIX_SOCKET)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class AsyncStream(asyncio.Protocol):
    """An AsyncNetworkStream, and the flow's protocol. One reader and one writer at a time."""

    def __init__(self, core: Any) -> None:
        self._core = core
        self._transport: FlowTransport
        self._received = bytearray()
        self._ended = False
        self._error: Exception | None = None
        self._readable = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    # What the flow calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(FlowTransport, transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._readable.set()
        if len(self._received) >= HIGH_WATER_BYTES:
            self._transport.pause_reading()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._error, self._ended = exc, True
        self._readable.set()
        self._writable.set()

    # What the pool calls

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        with _errors(self._core, "Read"):
            if not self._readable.is_set():
                async with asyncio.timeout(timeout):
                    await self._readable.wait()
            if not self._received and self._error is not None:
                raise self._error
        data = bytes(self._received[:max_bytes])
        del self._received[:max_bytes]
        if not self._received and not self._ended:
            self._readable.clear()
            self._transport.resume_reading()
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Returns when there is room for more, not when the bytes have arrived."""
        with _errors(self._core, "Write"):
            if not self._ended:
                self._transport.write(buffer)
            if not self._writable.is_set():
                async with asyncio.timeout(timeout):
                    await self._writable.wait()
            if self._error is not None:
                raise self._error

    async def aclose(self) -> None:
        """At once; a server that is at work hears of it."""
        self._transport.abort()

    async def start_tls(self, *arguments: object, **keywords: object) -> AsyncStream:
        raise self._core.UnsupportedProtocol(NO_TLS)

    def get_extra_info(self, info: str) -> Any:
        match info:
            case "socket":
                return self._transport.get_extra_info("socket")
            case "client_addr":
                return self._transport.get_extra_info("sockname")
            case "server_addr":
                return self._transport.get_extra_info("peername")
            case "is_readable":
                return self._readable.is_set()
        return None
