"""UDP sockets of a client: opening, connecting."""

from __future__ import annotations

import functools
import logging
import socket
import sys
from typing import Final

from trickles_web.client.remote import Remote, SocketAddress
from trickles_web.errors import ConnectError
from trickles_web.socket_options import buffer_bytes, enlarge, never_fragment
from trickles_web.trains import take_trains

logger = logging.getLogger("trickles.client")

RECEIVE_BUFFER_BYTES: Final = 4 << 20
"""Windows of 16 KiB datagrams arrive while the reader is busy; the default 208 KiB holds 13."""
SO_RXQ_OVFL: Final = 40
"""Linux: tells with a datagram how many before it found the buffer full, if any did. The socket
module has no name for it."""


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
        enlarge(sock, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        never_fragment(sock)
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


def overflowed(sock: socket.socket) -> None:
    """Datagrams were lost because the socket's buffer was full: warn, if it can be remedied."""
    size = buffer_bytes(sock, socket.SO_RCVBUF)
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
