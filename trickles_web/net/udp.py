"""A UDP socket on an event loop: bounded drains in, segmented trains out, loss instead of errors.

    trains in     recvmsg with UDP_GRO, drained up to 64 datagrams or 3 ms, then the loop's turn
    trains out    sendmsg with UDP_SEGMENT -> (refused: one by one, from then on)
                  large answers by and by, see `pacing`
    kernel full   bounded backlog, flushed when the socket is writable; beyond it, dropped

asyncio's own datagram transport is not used: it allocates 256 KiB for every receive. Nothing here
raises because of the network: whatever the kernel will not carry counts as loss, which the protocol
repairs.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import struct
import sys
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Protocol

from trickles_web.net.pacing import Pace, Pacer
from trickles_web.net.sockets import tune
from trickles_web.socket_options import set_option
from trickles_web.trains import (
    MOST_SEGMENTS,
    SEGMENT_SPACE,
    SOL_UDP,
    UDP_GRO,
    Received,
    can_segment,
    receive,
    segmented,
    take_trains,
)
from trickles_web.transport.layout import LARGEST_SEND
from trickles_web.transport.server import Train

logger = logging.getLogger("trickles.error")

IP_PKTINFO: Final = 8  # from the kernel's headers: `socket` lacks them
IPV6_RECVPKTINFO: Final = 49
IPV6_PKTINFO: Final = 50
SO_MEMINFO: Final = 55

MAX_DATAGRAM: Final = 16_384
"""Largest client datagram that can mean anything: the protocol's limit on loopback."""
DRAIN_DATAGRAMS: Final = 64
DRAIN_SECONDS: Final = 0.003
"""A wake-up ends with the train that brings so many datagrams, or after this long: tasks and timers
get their turn."""
RETRY_SECONDS: Final = 0.001
BACKLOG_BYTES: Final = 4 << 20

_SEGMENTATION_REFUSED: Final = {errno.EIO, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOPROTOOPT}
_NO_ROOM: Final = {errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM}
_ANCILLARY_BYTES: Final = SEGMENT_SPACE + socket.CMSG_SPACE(20)
"""The segment's length, and struct in6_pktinfo, the longer of the two kinds."""
_MEMINFO: Final = struct.Struct("=2I")
"""How SO_MEMINFO begins (<linux/sock_diag.h>): what waits to be received, and what may."""

Sockaddr = Any
"""As `socket` has it: of IPv4 and IPv6 a tuple, which begins with host and port."""
Control = list[tuple[int, int, bytes]]


# Its `__init__` is written out for the reason that `transport.redeemed` gives.
@dataclass(slots=True, init=False)
class Peer:
    """Where a datagram came from, and how answers go there. None changes once it is made."""

    sockaddr: Sockaddr
    control: Control
    """The control message that answers from where the datagram arrived."""
    via: Callable[[list[Train]], None] | None
    """Takes the answers, where a process at another address received the datagram."""
    hops: int
    """From process to process, since the datagram was received."""

    def __init__(
        self,
        sockaddr: Sockaddr,
        control: Control,
        via: Callable[[list[Train]], None] | None = None,
        hops: int = 0,
    ) -> None:
        self.sockaddr = sockaddr
        self.control = control
        self.via = via
        self.hops = hops


@lru_cache(maxsize=4096)
def host_and_port(sockaddr: Sockaddr) -> tuple[str, int]:
    """An address as the upper layers know it; an IPv4-mapped one in its IPv4 form."""
    host, port = sockaddr[:2]
    return (host[7:] if host.startswith("::ffff:") and "." in host else host), port


def _split(train: Train) -> Iterator[Train]:
    """The train in pieces, none more than what one segmented send can hold."""
    most = max(1, min(MOST_SEGMENTS, LARGEST_SEND // max(1, train.segment)))
    if train.count <= most:
        yield train
        return
    whole = memoryview(b"".join(train.buffers))
    for first in range(0, train.count, most):
        piece = whole[first * train.segment : (first + most) * train.segment]
        yield Train(train.segment, min(most, train.count - first), [piece])


def _kept(train: Train) -> Train:
    """The same datagrams in bytes of their own: what waits must not change under way."""
    return Train(train.segment, train.count, [b"".join(train.buffers)])


class Socket(Protocol):
    """What datagrams come from and go to, as `UdpSocket` is."""

    @property
    def counters(self) -> dict[str, int]:
        """By reason."""

    @property
    def filled(self) -> float:
        """The share of the receive buffer that is in use."""

    def start(
        self, deliver: Callable[[bytes, Peer], None], drained: Callable[[bool], None]
    ) -> None:
        """deliver(datagram, peer): one that came. drained(full): no more for now."""

    def send(self, datagram: bytes, peer: Peer) -> None:
        """Send one datagram, or lose it."""

    def send_trains(self, trains: list[Train], peer: Peer, pace: Pace) -> None:
        """Send one answer at this pace, or lose parts of it."""

    def close(self) -> None:
        """Neither take nor send any more."""


class UdpSocket:
    """`deliver(datagram, peer)` per datagram, `drained(full)` at the end of each wake-up.

    `full` says that the drain ended at its bound, with more waiting in the kernel. Both callbacks
    run in the loop and must not raise. Without `gso` and `gro` it sends and receives datagram by
    datagram, as on a kernel without UDP_SEGMENT and UDP_GRO.
    """

    def __init__(
        self,
        sock: socket.socket,
        loop: asyncio.AbstractEventLoop,
        *,
        gso: bool = True,
        gro: bool = True,
    ) -> None:
        self._losses: Counter[str] = Counter()
        self._received = self._sent = self._bytes_received = self._bytes_sent = 0
        self.batches: defaultdict[int, int] = defaultdict(int)
        """Wake-ups by how many datagrams they brought: at N those of up to 2 ** N, beyond the half.
        """
        self.segmentation = gso and can_segment(sock)
        self._socket = sock
        self._loop = loop
        self._deliver: Callable[[bytes, Peer], None] = lambda datagram, peer: None
        self._drained: Callable[[bool], None] = lambda full: None
        self._ask_for_destination()
        if gro:
            take_trains(sock)
        self._replies_from: dict[bytes, Control] = {}
        self._backlog: deque[tuple[Train, Peer]] = deque()
        self._backlog_bytes = 0
        self._retry: asyncio.TimerHandle | None = None
        self._pacer: Pacer[Peer] = Pacer(loop, self._send_train)
        self.advice = tune(sock)
        """What to tell the user of the socket's buffer; "" if nothing."""

    @property
    def address(self) -> tuple[str, int]:
        host, port = self._socket.getsockname()[:2]
        return host, port

    @property
    def counters(self) -> Counter[str]:
        """What passed, and by reason what did not. From any thread."""
        passed = {
            "received": self._received,
            "sent": self._sent,
            "bytes received": self._bytes_received,
            "bytes sent": self._bytes_sent,
        }
        return Counter(passed | dict(self._losses))

    @property
    def filled(self) -> float:
        """The share of the receive buffer that is in use, give or take a quarter: the kernel does
        not account at once for what was read. 0 where it does not say.
        """
        try:
            found = self._socket.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, _MEMINFO.size)
        except OSError:
            return 0.0
        waiting, most = _MEMINFO.unpack(found)
        return float(waiting / most)

    def start(
        self, deliver: Callable[[bytes, Peer], None], drained: Callable[[bool], None]
    ) -> None:
        self._deliver, self._drained = deliver, drained
        self._loop.add_reader(self._socket.fileno(), self._drain)

    def close(self) -> None:
        """Stops at once; what waits is dropped."""
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
            self._loop.remove_writer(self._socket.fileno())
        if self._retry is not None:
            self._retry.cancel()
        self._pacer.close()
        self._backlog.clear()
        self._socket.close()

    # -- in -------------------------------------------------------------------------------------

    def _ask_for_destination(self) -> None:
        """On a wildcard bind, learn each datagram's local address; elsewhere there is only one."""
        host = self._socket.getsockname()[0]
        if host == "0.0.0.0":
            set_option(self._socket, socket.IPPROTO_IP, IP_PKTINFO, 1)
        if host == "::":
            set_option(self._socket, socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)

    def _origin(self, received: Received) -> tuple[int, Peer]:
        """How long each datagram of a train is (the last may be shorter), and whose they are."""
        train, ancillary, _, sockaddr = received
        segment = len(train)
        control: Control = []
        for level, kind, data in ancillary:
            if level == SOL_UDP and kind == UDP_GRO:
                segment = int.from_bytes(data, sys.byteorder)
            elif (level, kind) in ((0, IP_PKTINFO), (41, IPV6_PKTINFO)):
                control = self._replies_from.get(data) or self._remember(level, kind, data)
        return segment, Peer(sockaddr, control)

    def _remember(self, level: int, kind: int, data: bytes) -> Control:
        """The control message for replies; few addresses are local, so few are ever made."""
        if len(self._replies_from) >= 1024:
            self._replies_from.clear()
        if level == 0:  # struct in_pktinfo: routing picks the interface, spec_dst is the address
            reply = bytes(4) + data[4:8] + bytes(4)
        else:  # struct in6_pktinfo: a link-local address means nothing without its interface
            link_local = data[:1] == b"\xfe" and data[1] & 0xC0 == 0x80
            reply = data if link_local else data[:16] + bytes(4)
        control = self._replies_from[data] = [(level, kind, reply)]
        return control

    def _drain(self) -> None:
        deadline = time.monotonic() + DRAIN_SECONDS
        received = size = 0
        full = True
        while received < DRAIN_DATAGRAMS:
            try:
                come = receive(self._socket, _ANCILLARY_BYTES)
            except OSError as error:  # an ICMP error of something sent earlier
                self._losses[_reason("receive", error.errno)] += 1
                received += 1
                continue
            if come is None:
                full = False
                break
            train = come[0]
            size += len(train)
            segment, peer = self._origin(come)
            if len(train) <= segment <= MAX_DATAGRAM:
                received += 1
                self._deliver(train, peer)
            else:
                received += self._take_apart(train, segment, peer)
            if time.monotonic() >= deadline:
                break
        if received:
            self._received += received
            self._bytes_received += size
            self.batches[(received - 1).bit_length()] += 1
        self._drained(full)

    def _take_apart(self, train: bytes, segment: int, peer: Peer) -> int:
        """How many datagrams these were."""
        starts = range(0, len(train), segment)
        if segment > MAX_DATAGRAM:
            self._losses["receive: over-long"] += len(starts)
        else:
            for at in starts:
                self._deliver(train[at : at + segment], peer)
        return len(starts)

    # -- out ------------------------------------------------------------------------------------

    def send(self, datagram: bytes, peer: Peer) -> None:
        self._offer(Train(len(datagram), 1, [datagram]), peer)

    def send_trains(self, trains: list[Train], peer: Peer, pace: Pace) -> None:
        """Sends one answer, by and by."""
        self._pacer.add(trains, peer, peer.sockaddr, pace)

    def _send_train(self, train: Train, peer: Peer) -> None:
        for piece in _split(train):
            self._offer(piece, peer)

    def _offer(self, train: Train, peer: Peer) -> None:
        if self._backlog:
            self._postpone(train, peer)
        elif train.count > 1 and not self.segmentation:
            self._send_singly(train, peer)
        else:
            self._settle(self._transmit(train, peer), train, peer)

    def _transmit(self, train: Train, peer: Peer) -> int:
        """Hands one send to the kernel; the errno it refuses with, or 0."""
        sockaddr, control = peer.sockaddr, peer.control
        buffers = train.buffers
        try:
            if train.count > 1:
                control = [*control, segmented(train.segment)]
                size = self._socket.sendmsg(buffers, control, 0, sockaddr)
            elif control:
                size = self._socket.sendmsg(buffers, control, 0, sockaddr)
            else:  # joining a datagram costs less than what sendmsg does for more than one buffer
                datagram = buffers[0] if len(buffers) == 1 else b"".join(buffers)
                size = self._socket.sendto(datagram, sockaddr)
        except OSError as error:
            return error.errno or errno.EIO
        self._sent += train.count
        self._bytes_sent += size
        return 0

    def _settle(self, refusal: int, train: Train, peer: Peer) -> None:
        if not refusal:
            return
        if refusal in _NO_ROOM:
            self._postpone(train, peer, refusal)
        elif train.count > 1 and refusal in _SEGMENTATION_REFUSED:
            # Old kernels say EINVAL for a segment above the path's MTU too, so the proof that the
            # kernel cannot segment is that the same datagrams pass one by one.
            if self._send_singly(train, peer) and self.segmentation:
                self.segmentation = False
                logger.info("The kernel refuses UDP_SEGMENT; datagrams are sent one by one")
        else:
            self._losses[_reason("send", refusal)] += train.count

    def _send_singly(self, train: Train, peer: Peer) -> bool:
        """Whether every datagram left."""
        left = 0
        for datagram in train.datagrams():
            single = Train(len(datagram), 1, [datagram])
            if self._backlog:
                self._postpone(single, peer)
                continue
            refusal = self._transmit(single, peer)
            self._settle(refusal, single, peer)
            left += not refusal
        return left == train.count

    def _postpone(self, train: Train, peer: Peer, refusal: int = errno.EAGAIN) -> None:
        size = train.segment * train.count
        if self._backlog_bytes + size > BACKLOG_BYTES:
            self._losses["send: backlog full"] += train.count
            return
        self._losses["send: postponed"] += train.count
        if not self._backlog:
            self._await_room(refusal)
        self._backlog.append((_kept(train), peer))
        self._backlog_bytes += size

    def _await_room(self, refusal: int) -> None:
        """A full send buffer wakes us when it drains; a full device queue (ENOBUFS) does not."""
        if refusal == errno.EAGAIN:
            self._loop.add_writer(self._socket.fileno(), self._flush)
        else:
            self._retry = self._loop.call_later(RETRY_SECONDS, self._flush)

    def _flush(self) -> None:
        self._loop.remove_writer(self._socket.fileno())
        deadline = time.monotonic() + DRAIN_SECONDS
        refusal = errno.EAGAIN
        while self._backlog and time.monotonic() < deadline:
            train, peer = self._backlog[0]
            refusal = self._transmit(train, peer)
            if refusal in _NO_ROOM:
                break
            self._backlog.popleft()
            self._backlog_bytes -= train.segment * train.count
            if refusal:
                self._losses[_reason("send", refusal)] += train.count
        if self._backlog:
            self._await_room(refusal or errno.EAGAIN)


def _reason(action: str, number: int | None) -> str:
    return f"{action}: {errno.errorcode.get(number or 0, 'unknown error')}"
