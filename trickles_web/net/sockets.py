"""Sockets, made or inherited, with errors that say what to do."""

from __future__ import annotations

import errno
import ipaddress
import logging
import socket

from trickles_web.errors import BindError, UsageError
from trickles_web.socket_options import enlarge, never_fragment

logger = logging.getLogger("trickles.error")

BUFFER_BYTES = 8 << 20
"""Socket buffers asked for. A full receive buffer loses datagrams while the loop is busy. The
kernel doubles the number, and counts a small request as 768 to 1,280 bytes: this holds 13,000 or
more, what comes in 0.3 s at the highest rate that one process serves."""


def endpoint_name(host: str, port: int) -> str:
    """`host:port`, an IPv6 host in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Is it, without asking anybody, an address or name of this host alone?"""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def parse_listen(option: str, text: str) -> tuple[str, int]:
    """HOST:PORT, an IPv6 host in brackets. Raises UsageError."""
    host, _, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if not host or not port.isascii() or not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"{option} {text}: give HOST:PORT, for example 127.0.0.1:8080")
    return host, int(port)


def bind_udp(
    host: str,
    port: int,
    *,
    reuse_port: bool = False,
    host_option: str = "--host",
    port_option: str = "--port",
) -> socket.socket:
    """A bound, non-blocking UDP socket. Raises BindError, whose text says what to do.

    host_option, port_option: where the user said what.
    """
    if not 0 <= port <= 65535:  # getaddrinfo takes it modulo 65536
        raise BindError(f"{port_option} {port}: choose one from 0 to 65535")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BindError(
            f"{host_option} {host}: {reason}; give an address of this machine"
        ) from None
    try:
        sock = socket.socket(family, kind, protocol)
    except OSError as error:
        raise BindError(
            f"{host_option} {host}: {error.strerror}; give another {host_option}"
        ) from None
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.setblocking(False)
        sock.bind(address)
    except OSError as error:
        sock.close()
        name = f"UDP {endpoint_name(host, port)}"
        advice = _bind_advice(error, host_option, port_option)
        raise BindError(f"{name}{advice}") from None
    return sock


def _bind_advice(error: OSError, host_option: str, port_option: str) -> str:
    """What is said behind the address."""
    match error.errno:
        case errno.EADDRINUSE:
            return f" is in use by another process; choose another {port_option} or stop it"
        case errno.EACCES:
            return f" needs privileges; choose another {port_option}, with a port above 1023"
        case errno.EADDRNOTAVAIL:
            return f": no such address on this machine; choose another {host_option}"
        case _:
            return f": {error.strerror or error}; choose another {host_option} or {port_option}"


def inherited_udp(descriptor: int) -> socket.socket:
    """The bound UDP socket that a parent process left open as `descriptor`. Raises BindError."""
    try:
        sock = socket.socket(fileno=descriptor)
    except (OSError, ValueError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BindError(f"--fd {descriptor}: {reason}; pass an open UDP socket") from None
    udp = sock.type == socket.SOCK_DGRAM and sock.family in (socket.AF_INET, socket.AF_INET6)
    if not udp or not sock.getsockname()[1]:
        sock.detach()  # not ours to close
        raise BindError(
            f"--fd {descriptor} is not a bound UDP socket; bind it before passing it on"
        )
    sock.setblocking(False)
    return sock


def tune(sock: socket.socket) -> str:
    """Never fragment; buffers as large as the kernel allows.

    Returns what to do about a receive buffer that is smaller than asked for; "" if it is not.
    """
    never_fragment(sock)
    received = enlarge(sock, socket.SO_RCVBUF, BUFFER_BYTES)
    sent = enlarge(sock, socket.SO_SNDBUF, BUFFER_BYTES)
    logger.debug("Socket buffers: %d bytes in, %d bytes out", received, sent)
    if received >= BUFFER_BYTES:
        return ""
    return (
        f"The kernel gives the socket a receive buffer of {received:,} bytes, not "
        f"{BUFFER_BYTES:,}: requests that come while the process is busy may be lost, and are "
        f"repeated. To remedy it, as root: sysctl -w net.core.rmem_max={BUFFER_BYTES}"
    )


def listening_tcp(option: str, host: str, port: int) -> socket.socket:
    """Raises BindError. option: where the user said that."""
    name = f"TCP {endpoint_name(host, port)}"
    sock = None
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen()  # REUSEADDR lets two bind; only one may listen
        return sock
    except (OSError, UnicodeError) as error:
        if sock is not None:
            sock.close()
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            raise BindError(
                f"{name} is in use by another process; choose another {option} or stop it"
            ) from None
        reason = getattr(error, "strerror", None) or error
        raise BindError(f"{name}: {reason}; choose another {option}") from None


def free_tcp_port(option: str, host: str, port: int) -> int:
    """The port, or one that is free for 0. Raises BindError if it cannot be listened on."""
    with listening_tcp(option, host, port) as sock:
        chosen: int = sock.getsockname()[1]
        return chosen
