"""Datagrams handed from process to process through the run directory."""

from __future__ import annotations

import asyncio
import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trickles_web.net.forwarding import MOST_WAYS, Forwarding, pack, unpack
from trickles_web.net.udp import Peer
from trickles_web.state.rundir import socket_file

PEERS: list[Peer] = [
    Peer(("192.0.2.1", 1), []),
    Peer(("2001:db8::1", 65_535, 0, 3), [(41, 50, bytes(range(20)))]),
]


@pytest.mark.parametrize("peer", PEERS)
def test_nothing_is_lost_on_the_way(peer: Peer) -> None:
    assert unpack(pack(b"datagram", peer)) == (b"datagram", peer)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_a_value_error(message: bytes) -> None:
    try:
        _, peer = unpack(message)
    except ValueError:
        return
    assert len(peer.sockaddr) >= 2
    assert isinstance(peer.control, list)


def test_from_one_process_to_another(tmp_path: Path) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        one, two = Forwarding(tmp_path, 1, loop), Forwarding(tmp_path, 2, loop)
        arrived: asyncio.Queue[tuple[bytes, Peer]] = asyncio.Queue()
        two.start(lambda datagram, peer: arrived.put_nowait((datagram, peer)), lambda *_: None)
        one.forward(2, bytes(16_384), PEERS[1])
        further = replace(PEERS[1], hops=1)
        assert await asyncio.wait_for(arrived.get(), 5) == (bytes(16_384), further)

        # What is no message is counted, and the next one is taken all the same.
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(b"\xff\xff?", socket_file(tmp_path, 2))
        one.forward(2, b"again", PEERS[0])
        assert await asyncio.wait_for(arrived.get(), 5) == (b"again", replace(PEERS[0], hops=1))
        assert two.counters == {"taken over": 2, "forward: malformed": 1}

        two.reopen()
        one.forward(2, b"once more", PEERS[0])
        assert await asyncio.wait_for(arrived.get(), 5) == (b"once more", replace(PEERS[0], hops=1))
        two.close()
        one.forward(2, b"too late", PEERS[0])
        one.forward(3, b"never there", PEERS[0])
        assert one.counters == {
            "forwarded": 3,
            "forward: Connection refused": 1,
            "forward: No such file or directory": 1,
        }
        one.close()

    asyncio.run(main())


def test_more_in_a_row_than_the_kernel_queues(tmp_path: Path) -> None:
    """That is ten messages; a client sends as many as its window holds."""
    count = 500

    async def main() -> None:
        loop = asyncio.get_running_loop()
        one, two = Forwarding(tmp_path, 1, loop), Forwarding(tmp_path, 2, loop)
        arrived: asyncio.Queue[bytes] = asyncio.Queue()
        two.start(lambda datagram, peer: arrived.put_nowait(datagram), lambda *_: None)
        sent = [number.to_bytes(2, "big") + bytes(1198) for number in range(count)]
        for datagram in sent:
            one.forward(2, datagram, PEERS[0])
        assert [await asyncio.wait_for(arrived.get(), 5) for _ in sent] == sent
        assert one.counters == {"forwarded": count}
        one.close()
        two.close()

    asyncio.run(main())


def test_what_waits_for_a_process_that_dies(tmp_path: Path) -> None:
    """It is lost. What comes later finds the one that has made its socket anew."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        one, two = Forwarding(tmp_path, 1, loop), Forwarding(tmp_path, 2, loop)
        for _ in range(50):
            one.forward(2, b"lost", PEERS[0])
        two.close()
        two = Forwarding(tmp_path, 2, loop)
        arrived: asyncio.Queue[bytes] = asyncio.Queue()
        two.start(lambda datagram, peer: arrived.put_nowait(datagram), lambda *_: None)
        async with asyncio.timeout(5):
            while arrived.empty():
                one.forward(2, b"later", PEERS[0])
                await asyncio.sleep(0)
        assert arrived.get_nowait() == b"later"
        one.close()
        two.close()

    asyncio.run(main())


def test_few_ways_are_kept(tmp_path: Path) -> None:
    """Processes come and go, and nobody says that one has gone."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        one = Forwarding(tmp_path, 1, loop)
        before = len(os.listdir("/proc/self/fd"))
        for owner in range(2, 200):
            other = Forwarding(tmp_path, owner, loop)
            one.forward(owner, b"datagram", PEERS[0])
            other.close()
        assert len(os.listdir("/proc/self/fd")) <= before + MOST_WAYS
        one.close()

    asyncio.run(main())


def test_a_full_queue_drops_and_never_waits(tmp_path: Path) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        one, two = Forwarding(tmp_path, 1, loop), Forwarding(tmp_path, 2, loop)
        for _ in range(5000):
            one.forward(2, bytes(1000), PEERS[0])
        assert one.counters["forward: Resource temporarily unavailable"] > 0
        assert sum(one.counters.values()) == 5000
        one.close()
        two.close()

    asyncio.run(main())
