"""Which of a server's addresses a flow begins at, and which it may be sent to."""

from __future__ import annotations

import asyncio
import logging
import socket
from time import monotonic
from typing import Any

import pytest

from trickles_web.client.remote import (
    AVOIDED_S,
    MOST_AVOIDED,
    Address,
    Remote,
    Silences,
    resolve,
    resolve_blocking,
)
from trickles_web.config import ClientConfig


def at(host: str, port: int = 8000) -> Address:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return int(family), ((host, port, 0, 0) if ":" in host else (host, port))


def remote(*hosts: str, equals: int = 1) -> Remote:
    return Remote("name.test", 8000, tuple(map(at, hosts)), equals, Silences())


def test_flows_are_spread_over_addresses_that_are_as_good() -> None:
    three = remote("192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1", equals=3)
    begun = [three.first() for _ in range(300)]
    assert [begun.count(index) for index in range(4)] == [100, 100, 100, 0]


def test_no_flow_begins_where_nobody_answered_a_moment_ago() -> None:
    three = remote("192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1", equals=3)
    now = monotonic()
    three.silences.add(three.addresses[0], now)
    assert {three.first() for _ in range(20)} == {1, 2}
    for index in (1, 2):
        three.silences.add(three.addresses[index], now)
    assert {three.first() for _ in range(20)} == {3}  # what is second best
    three.silences.add(three.addresses[3], now)
    assert {three.first() for _ in range(20)} == {0, 1, 2}  # nothing is left to avoid
    three.silences.discard(three.addresses[2])
    assert {three.first() for _ in range(20)} == {2}
    assert not three.silences.holds(three.addresses[0], now + AVOIDED_S)


def test_what_is_avoided_is_bounded() -> None:
    silences = Silences()
    for number in range(2 * MOST_AVOIDED):
        silences.add(at("192.0.2.1", number), 0.0)
    assert not silences.holds(at("192.0.2.1", 0), 1.0)
    assert silences.holds(at("192.0.2.1", 2 * MOST_AVOIDED - 1), 1.0)
    assert len(silences._until) == MOST_AVOIDED


def lookup(*name: Any, **options: Any) -> list[tuple[Any, ...]]:
    """getaddrinfo of a test's own: no name server is asked."""
    host, port = name[:2]
    found = {"both.test": ["2001:db8::1", "192.0.2.1"], "one.test": ["2001:db8::2"]}.get(host)
    if found is None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    return [
        (family, socket.SOCK_DGRAM, 17, "", where) for family, where in (at(h, port) for h in found)
    ]


@pytest.mark.parametrize("blocking", [True, False])
def test_all_names_are_looked_up(
    blocking: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    config = ClientConfig(replicas=(("gone.test", 1), ("one.test", 8001)))
    with caplog.at_level(logging.WARNING):
        if blocking:
            found = resolve_blocking("both.test", 8000, config)
        else:
            found = asyncio.run(resolve("both.test", 8000, config))
    assert found.addresses == (at("2001:db8::1"), at("2001:db8::2", 8001), at("192.0.2.1"))
    assert found.equals == 2
    (record,) = caplog.records
    assert "gone.test:1" in record.getMessage()
    with pytest.raises(socket.gaierror):
        resolve_blocking("gone.test", 1, ClientConfig(replicas=(("gone.test", 2),)))


@pytest.mark.parametrize(
    ("named", "port", "taken"),
    [
        ("192.0.2.9", 9000, True),
        ("2001:db8::9", 9000, True),
        ("10.0.0.1", 9000, True),
        ("192.0.2.1", 8000, False),  # it is there already
        ("192.0.2.9", 0, False),
        ("127.0.0.1", 9000, False),
        ("::1", 9000, False),
        ("169.254.1.1", 9000, False),
        ("fe80::1", 9000, False),
        ("224.0.0.1", 9000, False),
        ("0.0.0.0", 9000, False),
    ],
)
def test_a_server_cannot_send_its_clients_just_anywhere(named: str, port: int, taken: bool) -> None:
    ours = remote("192.0.2.1")
    preferring = ours.preferring(named, port)
    assert (preferring is not None) == taken
    if preferring is not None:
        assert preferring.addresses == (at(named, port), *ours.addresses)
        ours.silences.add(at(named, port), monotonic())
        assert ours.preferring(named, port) is None


def test_on_loopback_all_is_loopback() -> None:
    assert remote("127.0.0.1").preferring("127.0.0.1", 9000) is not None


def test_how_large_datagrams_may_be_depends_on_the_way() -> None:
    config = ClientConfig()
    assert remote("127.0.0.1", "::1").path_size(config).bytes == config.max_loopback_datagram_bytes
    for hosts, most in [(("192.0.2.1",), 1472), (("192.0.2.1", "2001:db8::1"), 1452)]:
        size = remote(*hosts).path_size(config)
        assert size.bytes == 1200
        assert size.probe(1, 0, 0.0, 1.0) == most
