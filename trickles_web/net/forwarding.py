"""Datagrams that reached a process which is not the one they are for.

All workers of a machine share one UDP port, so the owner of an exchange can answer for itself: it
is given the datagram, and where it came from, through a Unix datagram socket in the run directory.
Nothing is confirmed: a datagram lost here is repeated by its client.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from trickles_web.net.udp import MAX_DATAGRAM, Peer
from trickles_web.state.rundir import socket_file

_LENGTH = struct.Struct(">H")
_MOST_PEER = 1024
DRAIN_DATAGRAMS = 64
"""Read in one wake-up, so that what comes directly gets its turn."""


def pack(datagram: bytes, peer: Peer) -> bytes:
    """One message: length of what follows, the peer as JSON, the datagram."""
    parts = [(level, kind, data.hex()) for level, kind, data in peer.control]
    text = json.dumps((peer.sockaddr, parts, peer.hops), separators=(",", ":")).encode()
    return _LENGTH.pack(len(text)) + text + datagram


def unpack(message: bytes) -> tuple[bytes, Peer]:
    """Raises ValueError, whatever is wrong."""
    try:
        (length,) = _LENGTH.unpack_from(message)
        at = _LENGTH.size + length
        sockaddr, parts, hops = json.loads(message[_LENGTH.size : at])
        host, port, *rest = sockaddr
        control = [(int(level), int(kind), bytes.fromhex(data)) for level, kind, data in parts]
        address = (str(host), int(port), *map(int, rest))
        return message[at:], Peer(address, control, hops=int(hops))
    except (struct.error, TypeError, OverflowError, RecursionError) as error:
        raise ValueError("not a forwarded datagram") from error


class Relay(Protocol):
    """The way to the other processes."""

    counters: Counter[str]

    def start(
        self, deliver: Callable[[bytes, Peer], None], send: Callable[[bytes, Peer], None]
    ) -> None:
        """deliver(datagram, peer): one that others forward. send(datagram, peer): to a client."""

    def forward(self, owner: int, datagram: bytes, peer: Peer) -> None:
        """Give a datagram to the process `owner`, or drop it."""

    def close(self) -> None:
        """Take no more."""


class Forwarding:
    """This process's place among the others in a run directory, until `close`."""

    def __init__(self, directory: Path, owner: int, loop: asyncio.AbstractEventLoop) -> None:
        """Raises OSError."""
        self.counters: Counter[str] = Counter()
        self._directory = directory
        self._owner = owner
        self._loop = loop
        self._deliver: Callable[[bytes, Peer], None] = lambda datagram, peer: None
        self._send: Callable[[bytes, Peer], None] = self._deliver
        self._socket = self._open()

    def _open(self) -> socket.socket:
        # By its descriptor, because the path of a socket has 107 bytes at most.
        self._descriptor = os.open(self._directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._short = Path(f"/proc/self/fd/{self._descriptor}")
        path = socket_file(self._short, self._owner)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        sock = socket.socket(
            socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        )
        try:
            sock.bind(path)
        except OSError:
            sock.close()
            os.close(self._descriptor)
            raise
        return sock

    def start(
        self, deliver: Callable[[bytes, Peer], None], send: Callable[[bytes, Peer], None]
    ) -> None:
        """From now on `deliver(datagram, peer)` gets what others forward; it must not raise.

        `send` is not needed, since answers leave from the port that all share.
        """
        self._deliver, self._send = deliver, send
        self._loop.add_reader(self._socket.fileno(), self._drain)

    def reopen(self) -> None:
        """The run directory was made anew: take a place in it again. Raises OSError."""
        self.close()
        self._socket = self._open()
        self.start(self._deliver, self._send)

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
            os.close(self._descriptor)
        self._socket.close()

    def forward(self, owner: int, datagram: bytes, peer: Peer) -> None:
        """Give a datagram to the process `owner`, or drop it."""
        try:
            further = peer._replace(hops=peer.hops + 1)
            self._socket.sendto(pack(datagram, further), socket_file(self._short, owner))
        except OSError as error:  # dead since a moment ago, or with a full queue
            self.counters[f"forward: {os.strerror(error.errno or 0)}"] += 1
        else:
            self.counters["forwarded"] += 1

    def _drain(self) -> None:
        for _ in range(DRAIN_DATAGRAMS):
            try:
                message = self._socket.recv(_LENGTH.size + _MOST_PEER + MAX_DATAGRAM)
            except OSError:
                return
            try:
                datagram, peer = unpack(message)
            except ValueError:
                self.counters["forward: malformed"] += 1
                continue
            self.counters["taken over"] += 1
            self._deliver(datagram, peer)
