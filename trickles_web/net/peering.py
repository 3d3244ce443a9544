"""Datagrams for a process on another machine: relayed there, and the answers back.

    client -> here --FORWARD(back, client, datagram)--> owner
    client <- here <--REPLY(client, datagram)---------- owner

The owner's answers go back to where the client's datagram was received, because to the client and
to all in between they must come from where it sent to. Messages are sealed as continuations are
(`transport.keys`: keys that rotate, nonces that are counted behind a prefix of each process), with
their direction as associated data: nobody else can have datagrams sent to third parties. A message
recorded and sent again is a datagram repeated, which the transport bears.

    kind, 1 byte | key generation, 4 bytes | sealed
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace

from trickles_web.config import TransportConfig
from trickles_web.errors import ContinuationError
from trickles_web.net.forks import parted_by_forks
from trickles_web.net.forwarding import DRAIN_DATAGRAMS, pack, unpack
from trickles_web.net.udp import Peer, Sockaddr
from trickles_web.socket_options import fragment
from trickles_web.transport.keys import Keyring
from trickles_web.transport.redeemed import Train

FORWARD, REPLY = b"F", b"R"
_HEAD = struct.Struct(">cI")
MOST_MESSAGE = 65_507
"""What a UDP datagram can hold: larger ones than the path carries are fragmented by IP."""

Addresses = Callable[[int], tuple[str, int] | None]


class Reply:
    """Takes the answers to a datagram that was received elsewhere."""

    __slots__ = ("_client", "_peering", "back")

    def __init__(self, peering: Peering, client: Peer, back: bytes) -> None:
        """back: host and port, with a blank between, of the replica that received it."""
        self._peering = peering
        self._client = client
        self.back = back

    def __call__(self, trains: list[Train]) -> None:
        for train in trains:
            for datagram in train.datagrams():
                self._peering.reply(datagram, self._client, self.back)


class Peering:
    """This process's place among the replicas of several machines, until `close`."""

    def __init__(
        self,
        sock: socket.socket,
        secrets: Sequence[bytes],
        service: str,
        addresses: Addresses,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], int],
    ) -> None:
        """`sock`: bound UDP socket, closed with this. addresses(owner): where it takes messages.
        clock: wall-clock ms.
        """
        self.counters: Counter[str] = Counter()
        self._stack = ExitStack()
        rotation_ms = TransportConfig().rotation_ms
        keyring = Keyring(secrets, f"{service}\0peering", rotation_ms, os.urandom)
        self._keyring = self._stack.enter_context(parted_by_forks(keyring))
        self._clock = clock
        self._socket = sock
        self._addresses = addresses
        self._loop = loop
        self._deliver: Callable[[bytes, Peer], None] = lambda datagram, peer: None
        self._send: Callable[[bytes, Peer], None] = lambda datagram, peer: None
        sock.setblocking(False)
        fragment(sock)

    def start(
        self, deliver: Callable[[bytes, Peer], None], send: Callable[[bytes, Peer], None]
    ) -> None:
        """deliver(datagram, peer): one that others forward. send(datagram, peer): to a client."""
        self._deliver, self._send = deliver, send
        self._loop.add_reader(self._socket.fileno(), self._drain)

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        self._stack.close()

    def forward(self, owner: int, datagram: bytes, peer: Peer) -> None:
        """Give a datagram to the process `owner`, or drop it."""
        address = self._addresses(owner)
        if address is None:
            self.counters["forward: unknown owner"] += 1
        else:
            further = replace(peer, hops=peer.hops + 1)
            # A datagram that was forwarded to here is answered to where it was received.
            back = peer.via.back if isinstance(peer.via, Reply) else b""
            self._put(FORWARD, bytes((len(back),)) + back + pack(datagram, further), address)
            self.counters["forwarded"] += 1

    def reply(self, datagram: bytes, client: Peer, back: bytes) -> None:
        """Answer a datagram by way of the replica at `back`."""
        host, _, port = back.decode().rpartition(" ")
        self._put(REPLY, pack(datagram, client), (host, int(port)))

    def _put(self, kind: bytes, message: bytes, address: Sockaddr) -> None:
        now = self._clock()
        head = _HEAD.pack(kind, self._keyring.generation(now))
        try:
            self._socket.sendto(head + self._keyring.current(now).seal(message, head), address)
        except OSError as error:
            self.counters[f"forward: {os.strerror(error.errno or 0)}"] += 1

    def _opened(self, message: bytes) -> tuple[bytes, bytes]:
        """Kind and content. Raises ContinuationError, or ValueError where there is no head."""
        head = message[: _HEAD.size]
        if len(head) < _HEAD.size:
            raise ValueError("short")
        kind, generation = _HEAD.unpack(head)
        keys = self._keyring.at(generation, self._clock())
        return kind, keys.unseal(message[_HEAD.size :], head)

    def _drain(self) -> None:
        for _ in range(DRAIN_DATAGRAMS):
            try:
                message, sender = self._socket.recvfrom(MOST_MESSAGE)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:  # an ICMP error of something sent earlier
                continue
            try:
                kind, text = self._opened(message)
                back = text[1 : 1 + text[0]] if kind == FORWARD and text else b""
                datagram, peer = unpack(text[1 + len(back) :] if kind == FORWARD else text)
            except (ContinuationError, ValueError):
                self.counters["forward: malformed"] += 1
                continue
            if kind == FORWARD:
                self.counters["taken over"] += 1
                back = back or "{} {}".format(*sender[:2]).encode()
                self._deliver(datagram, replace(peer, via=Reply(self, peer, back)))
            else:
                self.counters["relayed"] += 1
                self._send(datagram, peer)
