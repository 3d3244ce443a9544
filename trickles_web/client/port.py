"""The local end of a flow: a connected UDP socket that can be replaced under it.

Replaced by one on a fresh port, when the network seems to have forgotten the old one (a stale NAT
entry); from the host's new address, when it has moved to another network; or towards another
address of the server. What still arrives at the old one is taken for a while.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import sys
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from trickles_web.client.remote import Address, Remote
from trickles_web.client.sockets import SO_RXQ_OVFL, open_socket, overflowed
from trickles_web.config import Recorder
from trickles_web.errors import ConnectError
from trickles_web.trains import (
    LARGEST_TRAIN,
    MOST_SEGMENTS,
    SEGMENT_SPACE,
    SOL_UDP,
    UDP_GRO,
    can_segment,
    segmented,
)
from trickles_web.transport.layout import LARGEST_SEND

QUEUE_DATAGRAMS = 1024
"""Waiting for a full socket buffer to drain; more are dropped, as the network would do."""
FORMER_S = 2.0
"""Answers that were on their way when the socket was replaced are awaited this long."""
_NO_WAY = {
    errno.EADDRNOTAVAIL,
    errno.EHOSTUNREACH,
    errno.EINVAL,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.ENODEV,
}
"""Nothing can be sent from the address that the socket has: perhaps the host has another now."""
_ANCILLARY_BYTES = SEGMENT_SPACE + socket.CMSG_SPACE(4)
"""The segment's length, and how many datagrams found the buffer full."""


class Port:
    """Reports through two callbacks: `on_readable`, and `on_refused` for ICMP port unreachable.

    Raises ConnectError when made, if no address of the server has a route.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        remote: Remote,
        local: tuple[str, int] | None,
        on_readable: Callable[[], None],
        on_refused: Callable[[], None],
        recorder: Recorder | None = None,
    ) -> None:
        self._loop = loop
        self._remote = remote
        self._local = local
        self._on_readable = on_readable
        self._on_refused = on_refused
        self._recorder = recorder
        self._queue: deque[bytes] = deque()
        self._overflowed = False
        self.heard = False
        """Has anything come to this socket, and not to one before it?"""
        self._former: socket.socket | None = None
        self._farewell: asyncio.TimerHandle | None = None
        self.socket, self._index = open_socket(remote, remote.first(), local)
        self._segments = can_segment(self.socket)
        loop.add_reader(self.socket.fileno(), on_readable)

    def receive(self) -> tuple[bytes, int]:
        """Datagrams end to end, and the length of each; the last may be shorter.

        Raises OSError: BlockingIOError if there are none, others are of datagrams sent before.
        """
        try:
            train, ancillary, _, _ = self.socket.recvmsg(LARGEST_TRAIN, _ANCILLARY_BYTES)
        except BlockingIOError:
            if self._former is None:
                raise
            train, ancillary = self._receive_late()
        else:
            self.heard = True
        segment = len(train)
        for level, kind, value in ancillary:
            if level == SOL_UDP and kind == UDP_GRO:
                segment = int.from_bytes(value, sys.byteorder)
            elif level == socket.SOL_SOCKET and kind == SO_RXQ_OVFL and not self._overflowed:
                self._overflowed = True
                overflowed(self.socket)
        if self._recorder is not None:
            self._recorder.received(train, segment, *self.names())
        return train, segment

    def _receive_late(self) -> tuple[bytes, list[tuple[int, int, bytes]]]:
        """From the socket that was. Its errors are of no more interest."""
        assert self._former is not None
        try:
            return self._former.recvmsg(LARGEST_TRAIN, _ANCILLARY_BYTES)[:2]
        except ConnectionError:
            raise BlockingIOError from None

    def names(self) -> tuple[Any, Any]:
        """Addresses of this end and of the other."""
        return self.socket.getsockname(), self.socket.getpeername()

    def send(self, datagrams: Sequence[bytes]) -> None:
        """Send, in order. Failures other than a full buffer are lost datagrams."""
        if self._recorder is not None and datagrams:
            self._recorder.sent(datagrams, *self.names())
        at = 0
        while at < len(datagrams):
            count = 1 if self._queue else self._train_at(datagrams, at)
            if count == 1 or not self._try_send_train(datagrams[at : at + count]):
                count = 1
                self._send_one(datagrams[at])
            at += count

    def _send_one(self, datagram: bytes) -> None:
        if self._queue:
            if len(self._queue) < QUEUE_DATAGRAMS:
                self._queue.append(datagram)
        elif not self._try_send(datagram):
            self._queue.append(datagram)
            self._loop.add_writer(self.socket.fileno(), self._on_writable)

    def _train_at(self, datagrams: Sequence[bytes], at: int) -> int:
        """How many from `at` on the kernel takes at once: of one length, the last perhaps less."""
        if not self._segments:
            return 1
        size = len(datagrams[at])
        most = min(len(datagrams), at + MOST_SEGMENTS, at + LARGEST_SEND // size)
        stop = at + 1
        while stop < most and len(datagrams[stop]) == size:
            stop += 1
        if stop < most and len(datagrams[stop]) < size:
            stop += 1
        return stop - at

    def _try_send_train(self, datagrams: Sequence[bytes]) -> bool:
        """False if they must be sent one by one, for whatever reason."""
        try:
            self.socket.sendmsg(datagrams, [segmented(len(datagrams[0]))])
        except BlockingIOError:
            return False
        except ConnectionRefusedError:
            self._on_refused()
            return False
        except OSError:  # longer than the path's MTU, or a device that cannot
            self._segments = False
            return False
        return True

    def _try_send(self, datagram: bytes) -> bool:
        """False if the socket's buffer is full."""
        # Linux reports an earlier datagram's ICMP error instead of sending this one: try again.
        for _ in range(2):
            try:
                self.socket.send(datagram)
            except BlockingIOError:
                return False
            except ConnectionRefusedError:
                self._on_refused()
                continue
            except OSError as error:
                if error.errno in _NO_WAY and self.follow():
                    continue
            break
        return True

    def _on_writable(self) -> None:
        sock = self.socket
        while self._queue and self._try_send(self._queue[0]):
            if self.socket is not sock:  # replaced because of a refusal, the queue with it
                return
            self._queue.popleft()
        if not self._queue:
            self._loop.remove_writer(sock.fileno())

    @property
    def address(self) -> Address:
        """Where datagrams go."""
        return self._remote.addresses[self._index]

    def reopen(self, *, next_address: bool = False) -> None:
        """A fresh port; the old one stays if there is no route or no descriptor."""
        self._open(self._remote, self._index + next_address)

    def prefer(self, remote: Remote) -> None:
        """Go on at the first address of `remote`: ours, with one before all others."""
        self._open(remote, 0)

    def follow(self) -> bool:
        """Has the host another address now, from which it would send? Then go on from there."""
        return self._open(self._remote, self._index, if_moved=True)

    def _open(self, remote: Remote, start: int, *, if_moved: bool = False) -> bool:
        local = None if self._local is None else (self._local[0], 0)
        try:
            sock, index = open_socket(remote, start, local)
        except ConnectError:
            return False
        if if_moved and sock.getsockname()[0] == self.socket.getsockname()[0]:
            sock.close()
            return False
        self._forget_former()
        self._drop_queue()
        self._former, self.socket = self.socket, sock
        self._remote, self._index = remote, index
        self._segments, self.heard = can_segment(sock), False
        self._farewell = self._loop.call_later(FORMER_S, self._forget_former)
        self._loop.add_reader(sock.fileno(), self._on_readable)
        return True

    def _forget_former(self) -> None:
        if self._farewell is not None:
            self._farewell.cancel()
            self._farewell = None
        if self._former is not None:
            self._loop.remove_reader(self._former.fileno())
            self._former.close()
            self._former = None

    def listen_again(self) -> None:
        """libuv stops watching a socket that an ICMP error has marked."""
        for sock in (self.socket, self._former):
            if sock is not None:
                self._loop.remove_reader(sock.fileno())
                self._loop.add_reader(sock.fileno(), self._on_readable)

    def close(self) -> None:
        """What still waits to be sent is lost."""
        self._forget_former()
        self._loop.remove_reader(self.socket.fileno())
        self._drop_queue()
        self.socket.close()

    def _drop_queue(self) -> None:
        if self._queue:
            self._loop.remove_writer(self.socket.fileno())
            self._queue.clear()
