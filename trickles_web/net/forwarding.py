"""Datagrams that reached a process which is not the one they are for.

All workers of a machine share one UDP port, so the owner of an exchange can answer for itself: it
is given the datagram, and where it came from, through a Unix datagram socket in the run directory.
Nothing is confirmed: a datagram lost here is repeated by its client.

    forward -> _Way, one for each owner -> (its queue is full) -> waits, 1 MiB at most -> dropped
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import socket
import struct
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from trickles_web.net.udp import MAX_DATAGRAM, Peer
from trickles_web.state.rundir import socket_file

_LENGTH = struct.Struct(">H")
_MOST_PEER = 1024
DRAIN_DATAGRAMS = 64
"""Read in one wake-up, so that what comes directly gets its turn."""
MOST_WAITING_BYTES = 1 << 20
"""For one owner: what a socket of UDP would hold. The kernel's queue of a Unix datagram socket has
ten messages (net.unix.max_dgram_qlen), fewer than a client sends in a row."""
MOST_WAYS = 64
"""Sockets kept open to others. Nobody says that a process has gone: the oldest are closed."""


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


class _Way:
    """To the owner at one socket: messages leave at once, or as soon as there is room for them."""

    def __init__(self, path: str, loop: asyncio.AbstractEventLoop) -> None:
        """Raises OSError if nobody is there."""
        self._loop = loop
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._socket = socket.socket(
            socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        )
        try:
            self._socket.connect(path)  # or the kernel would not say when there is room
        except OSError:
            self._socket.close()
            raise

    def put(self, message: bytes) -> None:
        """Raises BlockingIOError when too much waits, another OSError when the owner has gone."""
        if not self._waiting:
            try:
                self._socket.send(message)
                return
            except BlockingIOError:
                self._loop.add_writer(self._socket.fileno(), self._flush)
        if self._waiting_bytes + len(message) > MOST_WAITING_BYTES:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        self._waiting.append(message)
        self._waiting_bytes += len(message)

    def _flush(self) -> None:
        try:
            for _ in range(min(len(self._waiting), DRAIN_DATAGRAMS)):
                self._socket.send(self._waiting[0])
                self._waiting_bytes -= len(self._waiting.popleft())
        except BlockingIOError:
            return
        except OSError:
            self.close()
        else:
            if not self._waiting:
                self._loop.remove_writer(self._socket.fileno())

    def close(self) -> None:
        """What waits is dropped; `put` raises from now on."""
        if self._socket.fileno() >= 0:
            self._loop.remove_writer(self._socket.fileno())
        self._socket.close()
        self._waiting.clear()


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
        self._ways: dict[int, _Way] = {}
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
        for owner in list(self._ways):
            self._ways.pop(owner).close()

    def forward(self, owner: int, datagram: bytes, peer: Peer) -> None:
        """Give a datagram to the process `owner`, or drop it."""
        try:
            self._put(owner, pack(datagram, replace(peer, hops=peer.hops + 1)))
        except OSError as error:  # dead since a moment ago, or with too much that waits
            self.counters[f"forward: {os.strerror(error.errno or 0)}"] += 1
        else:
            self.counters["forwarded"] += 1

    def _put(self, owner: int, message: bytes) -> None:
        """Raises OSError."""
        way = self._ways.get(owner)
        if way is not None:
            try:
                way.put(message)
                return
            except BlockingIOError:
                raise
            except OSError:  # it is dead, or has made its socket anew
                self._ways.pop(owner).close()
        if len(self._ways) == MOST_WAYS:
            self._ways.pop(next(iter(self._ways))).close()
        way = self._ways[owner] = _Way(socket_file(self._short, owner), self._loop)
        way.put(message)

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
