"""UDP sockets of a client: resolving, opening, connecting."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ipaddress
import logging
import socket
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from trickles_web.client.url import join_authority
from trickles_web.config import BASE_DATAGRAM, ClientConfig
from trickles_web.errors import ConnectError
from trickles_web.trains import take_trains
from trickles_web.transport.path_size import PathSize

logger = logging.getLogger("trickles.client")

RECEIVE_BUFFER_BYTES = 4 << 20
"""Windows of 16 KiB datagrams arrive while the reader is busy; the default 208 KiB holds 13."""
SO_RXQ_OVFL = 40
"""Linux: tells with a datagram how many before it found the buffer full, if any did. The socket
module has no name for it, nor for the next."""
_SO_RCVBUFFORCE = 33
"""Linux. Past net.core.rmem_max, where the process may."""

SocketAddress = tuple[Any, ...]
"""As the socket module has it: (host, port), or (host, port, flow info, scope) for IPv6."""


@dataclass(frozen=True, slots=True)
class Remote:
    """A server as the user names it, and every address that the name has."""

    host: str
    port: int
    addresses: tuple[tuple[int, SocketAddress], ...]
    """(family, address), in the order to be tried; never empty."""

    def path_size(self, config: ClientConfig) -> PathSize:
        """What is known of the way there: loopback carries large datagrams, IPv6 has less room."""
        if all(
            ipaddress.ip_address(address[0].partition("%")[0]).is_loopback
            for _, address in self.addresses
        ):
            largest = config.max_loopback_datagram_bytes
            return PathSize(largest, largest)
        ipv6 = any(family == socket.AF_INET6 for family, _ in self.addresses)
        most = config.max_ipv6_datagram_bytes if ipv6 else config.max_datagram_bytes
        return PathSize(BASE_DATAGRAM, most)

    def __str__(self) -> str:
        return join_authority(self.host, self.port)


async def resolve(host: str, port: int, *, family: int = 0) -> Remote:
    """Look the name up. Raises socket.gaierror, as asyncio.open_connection does."""
    loop = asyncio.get_running_loop()
    with _bad_names():
        found = await loop.getaddrinfo(host, port, family=family, type=socket.SOCK_DGRAM)
    return _remote(host, port, found)


def resolve_blocking(host: str, port: int) -> Remote:
    """Look the name up, however long that takes. Raises socket.gaierror."""
    with _bad_names():
        found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    return _remote(host, port, found)


@contextlib.contextmanager
def _bad_names() -> Iterator[None]:
    try:
        yield
    except UnicodeError as error:  # a label that IDNA cannot encode
        raise socket.gaierror(socket.EAI_NONAME, f"not a host name: {error}") from None


def _remote(host: str, port: int, found: Sequence[tuple[Any, ...]]) -> Remote:
    addresses = dict.fromkeys((entry[0], entry[4]) for entry in found)
    if not addresses:
        raise socket.gaierror(socket.EAI_NONAME, "the name has no address")
    return Remote(host, port, tuple((int(kind), address) for kind, address in addresses))


def open_socket(
    remote: Remote, start: int, local: tuple[str, int] | None
) -> tuple[socket.socket, int]:
    """A connected, non-blocking socket to the first address from index `start` on that has a route.

    Connected, because only then does the kernel pass on ICMP "port unreachable", and drop what
    strangers send. Returns the socket and the index of its address. Raises ConnectError.
    """
    reason: OSError | None = None
    for step in range(len(remote.addresses)):
        index = (start + step) % len(remote.addresses)
        family, address = remote.addresses[index]
        try:
            return _connected(family, address, local), index
        except OSError as error:
            reason = error
    text = reason.strerror if reason is not None and reason.strerror else str(reason)
    raise ConnectError(f"cannot reach UDP {remote}: {text}") from reason


def _connected(family: int, address: SocketAddress, local: tuple[str, int] | None) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        _enlarge(sock)
        take_trains(sock)
        if sys.platform == "linux":
            sock.setsockopt(socket.SOL_SOCKET, SO_RXQ_OVFL, 1)
        if local is not None:
            sock.bind(local)
        sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock


def _enlarge(sock: socket.socket) -> None:
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # not permitted to ordinary users
            sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
            return
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)


def overflowed(sock: socket.socket) -> None:
    """Datagrams were lost because the socket's buffer was full: warn, if it can be remedied."""
    size = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2  # the kernel doubles it
    if size < RECEIVE_BUFFER_BYTES:
        _warn_of_small_buffer(size)


@functools.cache
def _warn_of_small_buffer(size: int) -> None:
    """Once in a process: its flows are all alike."""
    logger.warning(
        "Responses are slowed down by lost datagrams: the kernel gives sockets a receive buffer of "
        "%s bytes, not %s. To remedy it, as root: sysctl -w net.core.rmem_max=%d",
        f"{size:,}",
        f"{RECEIVE_BUFFER_BYTES:,}",
        RECEIVE_BUFFER_BYTES,
    )
