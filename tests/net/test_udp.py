"""The UDP socket on an event loop: real sockets on loopback, real refusals of the kernel."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from trickles_web.errors import BindError
from trickles_web.net import sockets
from trickles_web.net import udp as module
from trickles_web.net.sockets import bind_udp, inherited_udp
from trickles_web.net.udp import Peer, UdpSocket, host_and_port
from trickles_web.trains import SOL_UDP, UDP_SEGMENT
from trickles_web.transport.server import Train

HOSTS = ["127.0.0.1", "::1"]


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


def at_64(waited: int) -> int:
    """Datagrams a millisecond."""
    return 64


async def until(condition: Callable[[], object]) -> None:
    """Waits for what can be observed; 10 s are for machines under load."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


class Recorded:
    """What a UdpSocket delivered."""

    def __init__(self) -> None:
        self.datagrams: list[bytes] = []
        self.peers: list[Peer] = []
        self.drains: list[bool] = []

    def deliver(self, datagram: bytes, peer: Peer) -> None:
        self.datagrams.append(datagram)
        self.peers.append(peer)


@asynccontextmanager
async def opened(
    host: str = "127.0.0.1", *, gso: bool = True
) -> AsyncIterator[tuple[UdpSocket, Recorded, tuple[str, int]]]:
    sock = bind_udp(host, 0)
    udp = UdpSocket(sock, asyncio.get_running_loop(), gso=gso)
    recorded = Recorded()
    udp.start(recorded.deliver, recorded.drains.append)
    try:
        yield udp, recorded, udp.address
    finally:
        udp.close()


def receiver(host: str = "127.0.0.1") -> socket.socket:
    sock = bind_udp(host, 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    return sock


def received(sock: socket.socket) -> list[bytes]:
    found = []
    while True:
        try:
            found.append(sock.recv(65_535))
        except BlockingIOError:
            return found


def train_of(datagrams: list[bytes]) -> Train:
    """Laid out as the transport does: buffers do not end where datagrams end."""
    whole = b"".join(datagrams)
    cut = len(whole) // 3
    return Train(len(datagrams[0]), len(datagrams), [whole[:cut], memoryview(whole)[cut:]])


def numbered(count: int, size: int, last: int | None = None) -> list[bytes]:
    sizes = [size] * (count - 1) + [size if last is None else last]
    return [number.to_bytes(2, "big") * (n // 2) + b"!" * (n % 2) for number, n in enumerate(sizes)]


# -- in


@pytest.mark.parametrize("host", HOSTS)
def test_datagrams_arrive_with_their_peer_and_are_answered(host: str) -> None:
    async def main() -> None:
        async with opened(host) as (udp, recorded, address):
            with receiver(host) as client:
                client.sendto(b"hello", address)
                await until(lambda: recorded.datagrams)
                assert recorded.datagrams == [b"hello"]
                assert host_and_port(recorded.peers[0].sockaddr) == client.getsockname()[:2]
                udp.send(b"and back", recorded.peers[0])
                assert client.recvfrom(100)[0] == b"and back"

    run(main())


@pytest.mark.parametrize(
    ("wildcard", "asked"), [("0.0.0.0", "127.0.0.9"), ("0.0.0.0", "127.0.0.1"), ("::", "::1")]
)
def test_on_a_wildcard_bind_replies_come_from_the_address_that_was_asked(
    wildcard: str, asked: str
) -> None:
    async def main() -> None:
        async with opened(wildcard) as (udp, recorded, (_, port)):
            with receiver("::1" if ":" in asked else "127.0.0.1") as client:
                client.connect((asked, port))  # the kernel drops what comes from elsewhere
                client.send(b"who are you")
                await until(lambda: recorded.datagrams)
                udp.send(b"one", recorded.peers[0])
                udp.send_trains([train_of([b"two", b"thr"])], recorded.peers[0], at_64)
                assert received(client) == [b"one", b"two", b"thr"]

    run(main())


def test_on_an_inherited_dual_stack_socket_ipv4_is_answered_likewise() -> None:
    async def main() -> None:
        sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(("::", 0))
        sock.setblocking(False)
        udp = UdpSocket(sock, asyncio.get_running_loop())
        recorded = Recorded()
        udp.start(recorded.deliver, recorded.drains.append)
        with receiver() as client:
            client.connect(("127.0.0.9", udp.address[1]))
            client.send(b"who are you")
            await until(lambda: recorded.datagrams)
            assert host_and_port(recorded.peers[0].sockaddr) == client.getsockname()
            udp.send(b"one", recorded.peers[0])
            udp.send_trains([train_of([b"two", b"thr"])], recorded.peers[0], at_64)
            assert received(client) == [b"one", b"two", b"thr"]
        udp.close()

    run(main())


def test_a_drain_is_bounded_and_the_rest_is_not_forgotten() -> None:
    async def main() -> None:
        async with opened() as (_, recorded, address):
            with receiver() as client:
                sent = [number.to_bytes(2, "big") for number in range(200)]
                for datagram in sent:
                    client.sendto(datagram, address)
                await until(lambda: len(recorded.datagrams) == 200)
                assert recorded.datagrams == sent
                assert len(recorded.drains) >= 4  # 64 at most in one
                assert recorded.drains[0] is True
                await until(lambda: not recorded.drains[-1])

    run(main())


def test_empty_largest_and_over_long_datagrams() -> None:
    async def main() -> None:
        async with opened() as (udp, recorded, address):
            with receiver() as client:
                for size in (0, 1, 16_384, 16_385, 65_507):
                    client.sendto(bytes(size), address)
                client.sendto(b"last", address)
                await until(lambda: b"last" in recorded.datagrams)
                assert [len(d) for d in recorded.datagrams] == [0, 1, 16_384, 4]
                assert udp.counters["receive: over-long"] == 2
                assert udp.counters["received"] == 6

    run(main())


@pytest.mark.parametrize("host", [*HOSTS, "0.0.0.0", "::"])
def test_a_train_is_taken_apart(host: str) -> None:
    async def main() -> None:
        async with opened(host) as (udp, recorded, (_, port)):
            with receiver("::1" if ":" in host else "127.0.0.1") as client:
                client.connect(("::1" if ":" in host else "127.0.0.1", port))
                sent: list[bytes] = []
                for count, size, last in ((4, 16_376, None), (45, 1452, 7), (2, 1, 1), (1, 9, 9)):
                    datagrams = numbered(count, size, last)
                    segment = (SOL_UDP, UDP_SEGMENT, size.to_bytes(2, sys.byteorder))
                    client.sendmsg([b"".join(datagrams)], [segment] if count > 1 else [])
                    sent += datagrams
                await until(lambda: len(recorded.datagrams) == len(sent))
                assert recorded.datagrams == sent
                assert udp.counters["received"] == len(sent)
                udp.send(b"answer", recorded.peers[0])
                assert received(client) == [b"answer"]

    run(main())


def test_over_long_datagrams_of_a_train_are_counted_one_by_one() -> None:
    async def main() -> None:
        async with opened() as (udp, recorded, address):
            with receiver() as client:
                segment = (SOL_UDP, UDP_SEGMENT, (20_000).to_bytes(2, sys.byteorder))
                client.sendmsg([bytes(45_000)], [segment], 0, address)
                client.sendto(b"last", address)
                await until(lambda: recorded.datagrams)
                assert recorded.datagrams == [b"last"]
                assert udp.counters["receive: over-long"] == 3
                assert udp.counters["received"] == 4

    run(main())


# -- out


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("gso", [True, False])
@pytest.mark.parametrize(
    ("count", "size", "last"),
    [
        (1, 1200, None),
        (2, 1200, 7),
        (46, 1400, 1400),
        (46, 1400, 1),
        (64, 100, None),
        (3, 16_384, 9),
        (4, 16_376, None),
    ],
)
def test_a_train_arrives_as_its_datagrams(
    host: str, gso: bool, count: int, size: int, last: int | None
) -> None:
    async def main() -> None:
        async with opened(host, gso=gso) as (udp, _, _):
            with receiver(host) as client:
                datagrams = numbered(count, size, last)
                udp.send_trains([train_of(datagrams)], Peer(client.getsockname(), []), at_64)
                assert received(client) == datagrams
                assert udp.counters["sent"] == count

    run(main())


@pytest.mark.parametrize(("count", "size"), [(60, 1400), (10, 16_384), (64, 1016)])
def test_a_train_beyond_one_segmented_send_is_split(count: int, size: int) -> None:
    async def main() -> None:
        async with opened() as (udp, _, _):
            with receiver() as client:
                datagrams = numbered(count, size, 3)
                udp.send_trains([train_of(datagrams)], Peer(client.getsockname(), []), at_64)
                assert received(client) == datagrams
                assert udp.segmentation

    run(main())


def test_a_large_answer_leaves_in_slices_and_whole() -> None:
    async def main() -> None:
        async with opened() as (udp, _, _):
            with receiver() as client:
                datagrams = numbered(300, 1200)
                trains = [train_of(datagrams[i : i + 46]) for i in range(0, 300, 46)]
                udp.send_trains(trains, Peer(client.getsockname(), []), at_64)
                got = received(client)
                assert got == datagrams[:64]
                while len(got) < 300:
                    await until(lambda: select_readable(client))
                    got += received(client)
                assert got == datagrams

    run(main())


def select_readable(sock: socket.socket) -> bool:
    try:
        sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    return True


def test_bytes_that_wait_are_copied() -> None:
    async def main() -> None:
        async with opened() as (udp, _, _):
            with receiver() as client:
                memory = bytearray(b"a" * 100 * 100)
                trains = [
                    Train(100, 50, [memoryview(memory)[:5000]]),
                    Train(100, 50, [memoryview(memory)[5000:]]),
                ]
                udp.send_trains(trains, Peer(client.getsockname(), []), at_64)
                memory[:] = b"b" * len(memory)
                got: list[bytes] = []
                while len(got) < 100:
                    await until(lambda: select_readable(client))
                    got += received(client)
                assert set(got) == {b"a" * 100}

    run(main())


def test_where_the_kernel_cannot_segment_all_datagrams_still_arrive() -> None:
    """SO_NO_CHECK makes this kernel refuse UDP_SEGMENT (EINVAL), as others refuse it always."""

    async def main() -> None:
        sock = bind_udp("127.0.0.1", 0)
        sock.setsockopt(socket.SOL_SOCKET, 11, 1)  # SO_NO_CHECK
        udp = UdpSocket(sock, asyncio.get_running_loop())
        assert udp.segmentation
        with receiver() as client:
            datagrams = numbered(20, 1200, 5)
            udp.send_trains([train_of(datagrams)], Peer(client.getsockname(), []), at_64)
            assert received(client) == datagrams
            assert not udp.segmentation  # and from then on it does not try
            udp.send_trains([train_of(datagrams)], Peer(client.getsockname(), []), at_64)
            assert received(client) == datagrams
        udp.close()

    run(main())


def test_what_is_too_large_for_the_path_is_counted_as_lost() -> None:
    async def main() -> None:
        async with opened() as (udp, _, _):
            with receiver() as client:
                udp.send(bytes(65_600), Peer(client.getsockname(), []))
                assert udp.counters["send: EMSGSIZE"] == 1
                udp.send(b"goes on", Peer(client.getsockname(), []))
                assert received(client) == [b"goes on"]

    run(main())


def test_errors_of_the_network_stay_below() -> None:
    async def main() -> None:
        async with opened() as (udp, recorded, address):
            udp.send(b"nobody listens", Peer(("127.0.0.1", 9), []))
            udp.send(b"no route", Peer(("255.255.255.255", 9), []))
            udp.send(b"wrong family", Peer(("127.0.0.1", 9), [(41, 50, bytes(20))]))
            assert sum(n for reason, n in udp.counters.items() if reason.startswith("send: E")) >= 1
            with receiver() as client:
                client.sendto(b"still there", address)
                await until(lambda: recorded.datagrams)

    run(main())


def test_answers_to_one_peer_leave_in_order_whatever_is_paced() -> None:
    """The second was sent at once while slices of the first waited: numbers arrived as if lost."""

    def answer(first: int, count: int) -> list[Train]:
        pieces = []
        for start in range(first, first + count, 46):
            numbers = range(start, min(start + 46, first + count))
            whole = b"".join(k.to_bytes(4, "big") + bytes(96) for k in numbers)
            pieces.append(Train(100, len(numbers), [whole]))
        return pieces

    async def main() -> None:
        async with opened() as (udp, _, _):
            with receiver() as client, receiver() as other:
                peer, stranger = (Peer(sock.getsockname(), []) for sock in (client, other))
                udp.send_trains(answer(0, 300), peer, at_64)
                udp.send_trains(answer(300, 2), peer, at_64)
                udp.send_trains(answer(0, 2), stranger, at_64)
                udp.send_trains(answer(302, 500), peer, at_64)
                got: list[bytes] = []
                await until(lambda: select_readable(other))  # who has nothing queued does not wait
                assert len(received(other)) == 2
                while len(got) < 802:
                    await until(lambda: select_readable(client))
                    got += received(client)
                assert [int.from_bytes(datagram[:4], "big") for datagram in got] == list(range(802))

    run(main())


def test_a_full_socket_buffer_postpones_and_loses_only_beyond_the_bound() -> None:
    """Unix datagrams have what UDP on loopback lacks: a full receiver blocks its senders."""

    async def main() -> None:
        ours = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        theirs = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        for sock, name in ((ours, "ours"), (theirs, "theirs")):
            sock.setblocking(False)
            sock.bind(f"\0trickles-{os.getpid()}-{name}")
        ours.connect(theirs.getsockname())
        udp = UdpSocket(ours, asyncio.get_running_loop(), gso=False)
        peer = Peer(theirs.getsockname(), [])
        size = 60_000
        count = 3 * module.BACKLOG_BYTES // size
        for number in range(count):
            udp.send(number.to_bytes(4, "big") + bytes(size - 4), peer)
        lost = udp.counters["send: backlog full"]
        assert 0 < lost < count
        got: list[bytes] = []
        while len(got) < count - lost:
            await until(lambda: select_readable(theirs))
            got += received(theirs)
        numbers = [int.from_bytes(datagram[:4], "big") for datagram in got]
        assert numbers == list(range(count - lost))  # in order, the newest lost
        assert udp.counters["sent"] == count - lost
        udp.close()
        theirs.close()

    run(main())


# -- making sockets


def test_large_datagrams_are_never_fragmented() -> None:
    async def main() -> None:
        async with opened("::1") as (udp, _, _):
            sock = udp._socket
            assert sock.getsockopt(socket.IPPROTO_IPV6, 23) == 3
        async with opened() as (udp, _, _):
            assert udp._socket.getsockopt(socket.IPPROTO_IP, 10) == 3

    run(main())


def test_a_small_receive_buffer_is_told_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = int(Path("/proc/sys/net/core/rmem_max").read_text())
    with bind_udp("127.0.0.1", 0) as sock:
        # No kernel gives so much: the number is kept in 31 bits, and doubled.
        monkeypatch.setattr(sockets, "BUFFER_BYTES", (1 << 31) - 1)
        advice = sockets.tune(sock)
        assert "sysctl -w net.core.rmem_max=2147483647" in advice
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2 <= max(limit, 1 << 30)
    with bind_udp("127.0.0.1", 0) as sock:
        monkeypatch.setattr(sockets, "BUFFER_BYTES", min(limit, 100_000))
        assert sockets.tune(sock) == ""


def test_a_busy_port_says_what_to_do() -> None:
    with bind_udp("127.0.0.1", 0) as busy:
        port = busy.getsockname()[1]
        for reuse in (False, True):
            with pytest.raises(BindError) as raised:
                bind_udp("127.0.0.1", port, reuse_port=reuse)
            assert str(raised.value) == (
                f"UDP 127.0.0.1:{port} is in use by another process; "
                "choose another --port or stop it"
            )


@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("192.0.2.1", 8000),
        ("no such host", 8000),
        ("127.0.0.1", 70_000),
        ("a" * 300, 1),
        ("::1%z", 1),
    ],
)
def test_addresses_that_cannot_be_bound_give_one_line(host: str, port: int) -> None:
    with pytest.raises(BindError) as raised:
        bind_udp(host, port)
    assert "\n" not in str(raised.value)


def test_an_inherited_socket_must_be_bound_udp() -> None:
    with bind_udp("127.0.0.1", 0) as sock, inherited_udp(os.dup(sock.fileno())) as inherited:
        assert inherited.getsockname() == sock.getsockname()
        assert not inherited.getblocking()
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with socket.socket(socket.AF_INET, kind) as unfit:
            with pytest.raises(BindError, match="not a bound UDP socket"):
                inherited_udp(unfit.fileno())
            unfit.getsockname()  # it was left open
    with open(os.devnull) as file, pytest.raises(BindError, match="pass an open UDP socket"):
        inherited_udp(file.fileno())
    with pytest.raises(BindError):
        inherited_udp(-1)


def test_mapped_addresses_are_known_by_their_ipv4_form() -> None:
    assert host_and_port(("::ffff:10.0.0.1", 5, 0, 0)) == ("10.0.0.1", 5)
    assert host_and_port(("::ffff:1", 5, 0, 0)) == ("::ffff:1", 5)
