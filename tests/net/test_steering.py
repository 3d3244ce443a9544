"""Which socket of a group gets a datagram: counted on real sockets on loopback."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from trickles_web.net.sockets import bind_udp
from trickles_web.net.steering import Program, attach, steer_at_random, steer_by_flow

SOCKETS = 3
Group = list[socket.socket]


@pytest.fixture
def group() -> Iterator[Group]:
    with ExitStack() as stack:
        first = stack.enter_context(bind_udp("127.0.0.1", 0, reuse_port=True))
        others = [
            stack.enter_context(bind_udp("127.0.0.1", first.getsockname()[1], reuse_port=True))
            for _ in range(SOCKETS - 1)
        ]
        yield [first, *others]


def landed(group: Group) -> dict[bytes, int]:
    """Every datagram waiting in the group, and the index of the socket it waits in."""
    found = {}
    for index, sock in enumerate(group):
        while True:
            try:
                found[sock.recv(2048)] = index
            except BlockingIOError:
                break
    return found


def send_from_many_ports(address: tuple[str, int], datagrams: list[bytes]) -> None:
    for datagram in datagrams:  # a port each, so that the kernel's own hashing would spread them
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.sendto(datagram, address)


def use(group: Group, program: Program) -> tuple[str, int]:
    assert attach(group[-1], program)
    host, port = group[0].getsockname()
    return host, port


def test_a_flow_meets_one_socket_from_any_port_with_any_kind_of_datagram(group: Group) -> None:
    address = use(group, steer_by_flow(SOCKETS))
    chance = random.Random(1)
    flows = [chance.randbytes(8) for _ in range(60)]
    sent = [
        bytes([kind]) + flow + chance.randbytes(chance.randrange(1, 200))
        for flow in flows
        for kind in (0x11, 0x12, 0x13)
    ]
    send_from_many_ports(address, sent)
    places = landed(group)
    assert set(places) == set(sent)
    for datagram, index in places.items():
        assert index == int.from_bytes(datagram[3:7], "big") % SOCKETS
    assert set(places.values()) == set(range(SOCKETS))


def test_what_is_too_short_for_a_flow_id_still_arrives(group: Group) -> None:
    address = use(group, steer_by_flow(SOCKETS))
    send_from_many_ports(address, [b"", b"\x11", b"\x11abcd"])
    assert set(landed(group)) == {b"", b"\x11", b"\x11abcd"}


def test_at_random_one_flow_from_one_port_meets_every_socket(group: Group) -> None:
    address = use(group, steer_at_random(SOCKETS))
    sent = [b"\x11" + b"the flow" + number.to_bytes(2, "big") for number in range(300)]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        for datagram in sent:
            client.sendto(datagram, address)
    places = landed(group)
    assert set(places) == set(sent)
    counts = [list(places.values()).count(index) for index in range(SOCKETS)]
    assert min(counts) > 40  # 100 expected; this far off has probability below 1e-12


def test_a_dead_socket_s_flows_go_to_the_living(group: Group) -> None:
    address = use(group, steer_by_flow(SOCKETS))
    group.pop(1).close()
    sent = [b"\x11" + random.Random(n).randbytes(8) for n in range(60)]
    send_from_many_ports(address, sent)
    assert set(landed(group)) == set(sent)


def test_a_kernel_that_refuses_costs_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as unfit,
        caplog.at_level("WARNING", "trickles.error"),
    ):
        assert not attach(unfit, steer_by_flow(2))
    assert "own hashing" in caplog.text
