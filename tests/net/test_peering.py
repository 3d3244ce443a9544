"""Datagrams relayed between machines, and the answers back."""

from __future__ import annotations

import asyncio
import os
import socket

from trickles_web.net.peering import MOST_MESSAGE, Peering
from trickles_web.net.sockets import bind_udp
from trickles_web.net.udp import Peer
from trickles_web.transport.redeemed import Train

CLIENT = Peer(("192.0.2.1", 4000), [(0, 8, bytes(12))])
SECRET = bytes(range(32))

NOW = 1_800_000_000_000
DAY_MS = 86_400_000
HEAD_BYTES = 5

Arrived = asyncio.Queue[tuple[bytes, Peer]]


class Replica:
    """One end: what it was given to serve, and what it sent to clients."""

    def __init__(self, addresses: dict[int, tuple[str, int]], secret: bytes = SECRET) -> None:
        sock = bind_udp("127.0.0.1", 0)
        self.address: tuple[str, int] = sock.getsockname()[:2]
        loop = asyncio.get_running_loop()
        self.now = NOW
        self.peering = Peering(sock, (secret,), "test", addresses.get, loop, lambda: self.now)
        self.given: Arrived = asyncio.Queue()
        self.sent: Arrived = asyncio.Queue()
        self.peering.start(
            lambda datagram, peer: self.given.put_nowait((datagram, peer)),
            lambda datagram, peer: self.sent.put_nowait((datagram, peer)),
        )


def test_there_and_back() -> None:
    async def main() -> None:
        addresses: dict[int, tuple[str, int]] = {}
        here, owner = Replica(addresses), Replica(addresses)
        addresses[2] = owner.address
        request = os.urandom(16_384)
        here.peering.forward(2, request, CLIENT)
        datagram, peer = await asyncio.wait_for(owner.given.get(), 5)
        assert (datagram, peer.sockaddr, peer.control) == (request, CLIENT.sockaddr, CLIENT.control)
        assert peer.via is not None
        answers = [os.urandom(1200), os.urandom(1200), os.urandom(7)]
        peer.via([Train(1200, 3, [b"".join(answers)]), Train(5, 1, [b"12345"])])
        for answer in [*answers, b"12345"]:
            sent, to = await asyncio.wait_for(here.sent.get(), 5)
            assert (sent, to.sockaddr, to.control) == (answer, CLIENT.sockaddr, CLIENT.control)
        here.peering.forward(3, request, CLIENT)
        assert here.peering.counters == {
            "forwarded": 1,
            "relayed": 4,
            "forward: unknown owner": 1,
        }
        here.peering.close()
        owner.peering.close()

    asyncio.run(main())


def test_the_answer_goes_back_to_where_the_datagram_was_received() -> None:
    """Not to whoever forwarded it last."""

    async def main() -> None:
        addresses: dict[int, tuple[str, int]] = {}
        first, second, third = (Replica(addresses) for _ in range(3))
        addresses |= {2: second.address, 3: third.address}
        first.peering.forward(2, b"datagram", CLIENT)
        datagram, peer = await asyncio.wait_for(second.given.get(), 5)
        second.peering.forward(3, datagram, peer)
        datagram, peer = await asyncio.wait_for(third.given.get(), 5)
        assert (datagram, peer.sockaddr, peer.hops) == (b"datagram", CLIENT.sockaddr, 2)
        assert peer.via is not None
        peer.via([Train(6, 1, [b"answer"])])
        sent, to = await asyncio.wait_for(first.sent.get(), 5)
        assert (sent, to.sockaddr) == (b"answer", CLIENT.sockaddr)
        assert second.sent.empty()
        for replica in (first, second, third):
            replica.peering.close()

    asyncio.run(main())


def test_nobody_else_can_make_it_send_anything() -> None:
    async def main() -> None:
        addresses: dict[int, tuple[str, int]] = {}
        here, stranger = Replica({}), Replica(addresses, b"x" * 32)
        addresses[1] = here.address
        stranger.peering.forward(1, b"sealed with another secret", CLIENT)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for message in (b"", b"R", b"F" + bytes(40), os.urandom(2000)):
                sock.sendto(message, here.address)
        # A message of ours with its direction changed: a client's request is no reply.
        friend = Replica(addresses)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            sock.settimeout(5)
            addresses[1] = sock.getsockname()
            friend.peering.forward(1, b"datagram", CLIENT)
            message = sock.recv(MOST_MESSAGE)
            sock.sendto(b"R" + message[1:], here.address)
            sock.sendto(message, here.address)  # and as it was
        datagram, _ = await asyncio.wait_for(here.given.get(), 5)
        assert datagram == b"datagram"
        assert here.sent.empty() and here.given.empty()
        assert here.peering.counters == {"forward: malformed": 6, "taken over": 1}
        for replica in (here, stranger, friend):
            replica.peering.close()

    asyncio.run(main())


def test_nonces_are_counted_behind_a_prefix_of_each_process() -> None:
    """Drawn at random for each message, they would repeat after some billions under one key."""

    async def main() -> None:
        addresses: dict[int, tuple[str, int]] = {}
        replicas = [Replica(addresses) for _ in range(2)]
        nonces: list[bytes] = []
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            sock.settimeout(5)
            addresses[1] = sock.getsockname()
            for replica in replicas:
                for _ in range(3):
                    replica.peering.forward(1, b"datagram", CLIENT)
                    nonces.append(sock.recv(MOST_MESSAGE)[HEAD_BYTES : HEAD_BYTES + 12])
        assert [nonce[8:] for nonce in nonces] == 2 * [bytes((0, 0, 0, n)) for n in range(3)]
        assert len({nonce[:8] for nonce in nonces}) == 2
        for replica in replicas:
            replica.peering.close()

    asyncio.run(main())


def test_keys_rotate_and_neighbouring_ones_open() -> None:
    async def main() -> None:
        addresses: dict[int, tuple[str, int]] = {}
        here, owner = Replica(addresses), Replica(addresses)
        addresses[2] = owner.address
        for days in (2, -2, 1, -1, 0):
            here.now = NOW + days * DAY_MS
            here.peering.forward(2, f"{days}".encode(), CLIENT)
        for days in (1, -1, 0):
            datagram, _ = await asyncio.wait_for(owner.given.get(), 5)
            assert datagram == f"{days}".encode()
        assert owner.peering.counters == {"forward: malformed": 2, "taken over": 3}
        for replica in (here, owner):
            replica.peering.close()

    asyncio.run(main())
