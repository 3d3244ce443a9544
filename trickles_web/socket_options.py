"""Options of UDP sockets that both sides set. What a kernel refuses, it refuses."""

from __future__ import annotations

import socket
import sys
from typing import Final

# <linux/in.h>, <linux/in6.h>, <asm-generic/socket.h>: `socket` lacks them.
_IP_MTU_DISCOVER: Final = 10
_IPV6_MTU_DISCOVER: Final = 23
_PMTUDISC_DONT: Final = 0
_PMTUDISC_PROBE: Final = 3
_FORCED: Final = {socket.SO_SNDBUF: 32, socket.SO_RCVBUF: 33}
"""SO_SNDBUFFORCE, SO_RCVBUFFORCE: past the system's limit, where the process may."""


def set_option(sock: socket.socket, level: int, option: int, value: int) -> bool:
    """False if it is refused."""
    try:
        sock.setsockopt(level, option, value)
    except OSError:
        return False
    return True


def never_fragment(sock: socket.socket) -> None:
    """What is too long for the path is lost, whatever the kernel believes of the path: the protocol
    searches for what passes (RFC 8899 §3).
    """
    set_option(sock, socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_PROBE)
    if sock.family == socket.AF_INET6:
        set_option(sock, socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE)


def fragment(sock: socket.socket) -> None:
    """What is too long for the path goes in pieces; IPv6 does so by default."""
    if sock.family == socket.AF_INET:
        set_option(sock, socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_DONT)


def enlarge(sock: socket.socket, buffer: int, size: int) -> int:
    """Make SO_RCVBUF or SO_SNDBUF hold `size` bytes; returns how many it holds then, in those terms
    (the kernel doubles the number).
    """
    if buffer_bytes(sock, buffer) < size:
        forced = sys.platform == "linux" and set_option(
            sock, socket.SOL_SOCKET, _FORCED[buffer], size
        )
        if not forced:
            set_option(sock, socket.SOL_SOCKET, buffer, size)
    return buffer_bytes(sock, buffer)


def buffer_bytes(sock: socket.socket, buffer: int) -> int:
    """What SO_RCVBUF or SO_SNDBUF holds, in the terms in which it is asked for."""
    return sock.getsockopt(socket.SOL_SOCKET, buffer) // 2
