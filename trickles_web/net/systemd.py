"""What systemd wants to hear from a service, and what it hands to one: sd_notify(3),
sd_listen_fds(3).
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from typing import Final

from trickles_web.errors import UsageError

FIRST_DESCRIPTOR: Final = 3


def notify(*states: str) -> None:
    """Tell the service manager, if there is one: `READY=1` and the like."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):  # of the abstract namespace
        address = "\0" + address[1:]
    with (
        contextlib.suppress(OSError),  # it may be gone: not a reason not to serve
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock,
    ):
        sock.connect(address)
        sock.send("\n".join(states).encode())


def notify_reloading() -> None:
    """For Type=notify-reload."""
    microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notify("RELOADING=1", f"MONOTONIC_USEC={microseconds}")


def passed_descriptor() -> int | None:
    """The socket of a socket unit (ListenDatagram=). None: there is none. Raises UsageError."""
    ours = os.environ.get("LISTEN_PID") == str(os.getpid())
    count = os.environ.get("LISTEN_FDS", "")
    if not ours or not count.isdecimal() or count == "0":
        return None
    if count != "1":
        raise UsageError(f"systemd passes {count} sockets; give the socket unit one ListenDatagram")
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):  # not for the children
        os.environ.pop(name, None)
    return FIRST_DESCRIPTOR
