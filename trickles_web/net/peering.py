"""Datagrams for a process on another machine: relayed there, and the answers back.

    client -> here --FORWARD(client, datagram)--> owner
    client <- here <--REPLY(client, datagrams)--- owner

The owner's answers return the way the datagram came, because to the client and to all in between
they must come from where it sent to. Messages are sealed (AES-GCM) under a key that follows from
the master secret, with their direction as associated data: nobody else can have datagrams sent to
third parties. A message recorded and sent again is a datagram repeated, which the transport bears.
"""

from __future__ import annotations

import asyncio
import functools
import os
import socket
from collections import Counter
from collections.abc import Callable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from trickles_web.net.forwarding import DRAIN_DATAGRAMS, pack, unpack
from trickles_web.net.sockets import IP_MTU_DISCOVER, PMTUDISC_DONT
from trickles_web.net.udp import Peer, Sockaddr
from trickles_web.transport.redeemed import Train

FORWARD, REPLY = b"F", b"R"
NONCE_BYTES = 12
MOST_MESSAGE = 65_507
"""What a UDP datagram can hold: larger ones than the path carries are fragmented by IP."""

Addresses = Callable[[int], tuple[str, int] | None]


class Peering:
    """This process's place among the replicas of several machines, until `close`."""

    def __init__(
        self,
        sock: socket.socket,
        secret: bytes,
        service: str,
        addresses: Addresses,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """`sock`: bound UDP socket, closed with this. addresses(owner): where it takes messages."""
        self.counters: Counter[str] = Counter()
        info = f"trickles 1\0{service}\0peering".encode()
        self._seal = AESGCM(HKDF(SHA256(), 16, salt=None, info=info).derive(secret))
        self._socket = sock
        self._addresses = addresses
        self._loop = loop
        self._deliver: Callable[[bytes, Peer], None] = lambda datagram, peer: None
        self._send: Callable[[bytes, Peer], None] = lambda datagram, peer: None
        sock.setblocking(False)
        if sock.family == socket.AF_INET:
            sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_DONT)

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

    def forward(self, owner: int, datagram: bytes, peer: Peer) -> None:
        """Give a datagram to the process `owner`, or drop it."""
        address = self._addresses(owner)
        if address is None:
            self.counters["forward: unknown owner"] += 1
        else:
            self._put(FORWARD, pack(datagram, peer), address)
            self.counters["forwarded"] += 1

    def _reply(self, client: Peer, sender: Sockaddr, trains: list[Train]) -> None:
        """Answer a datagram that was forwarded, by the way it came."""
        for train in trains:
            for datagram in train.datagrams():
                self._put(REPLY, pack(datagram, client), sender)

    def _put(self, kind: bytes, message: bytes, address: Sockaddr) -> None:
        nonce = os.urandom(NONCE_BYTES)
        try:
            self._socket.sendto(kind + nonce + self._seal.encrypt(nonce, message, kind), address)
        except OSError as error:
            self.counters[f"forward: {os.strerror(error.errno or 0)}"] += 1

    def _drain(self) -> None:
        for _ in range(DRAIN_DATAGRAMS):
            try:
                message, sender = self._socket.recvfrom(MOST_MESSAGE)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:  # an ICMP error of something sent earlier
                continue
            kind, nonce = message[:1], message[1 : 1 + NONCE_BYTES]
            try:
                text = self._seal.decrypt(nonce, message[1 + NONCE_BYTES :], kind)
                datagram, peer = unpack(text)
            except (InvalidTag, ValueError):
                self.counters["forward: malformed"] += 1
                continue
            if kind == FORWARD:
                self.counters["taken over"] += 1
                via = functools.partial(self._reply, peer, sender)
                self._deliver(datagram, Peer(peer.sockaddr, peer.control, via))
            else:
                self.counters["relayed"] += 1
                self._send(datagram, peer)
