"""The sprayer, with real sockets: datagrams reach any server, and replies their client."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from collections.abc import AsyncIterator, Sequence
from typing import cast

import pytest

from apps.demo import sprayer
from apps.demo.sprayer import Address, Sprayer

RATE = 10**9
LATEST_S = 5.0


class Echo(asyncio.DatagramProtocol):
    """A server that says its name, and what it was sent."""

    def __init__(self, name: bytes) -> None:
        self._name = name
        self.clients: set[Address] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)
        self.address: Address = transport.get_extra_info("sockname")

    def datagram_received(self, data: bytes, addr: Address) -> None:
        self.clients.add(addr)
        self.transport.sendto(self._name + data, addr)


class Cluster:
    """Three servers, and a sprayer before them that takes one after the other."""

    def __init__(self, servers: list[Echo], kind: type[Sprayer]) -> None:
        self.servers = servers
        turns = itertools.count()

        def next_one(working: Sequence[Address]) -> Address:
            return working[next(turns) % len(working)]

        addresses = [server.address for server in servers]
        self.sprayer = kind(0, addresses, RATE, next_one)

    def counts(self) -> list[tuple[int, int]]:
        return [(count.asked, count.answered) for count in self.sprayer.counts.values()]


@contextlib.asynccontextmanager
async def cluster(kind: type[Sprayer] = Sprayer) -> AsyncIterator[Cluster]:
    loop, servers = asyncio.get_running_loop(), []
    for name in (b"a", b"b", b"c"):
        _, server = await loop.create_datagram_endpoint(
            lambda name=name: Echo(name),  # type: ignore[misc]
            local_addr=("127.0.0.1", 0),
        )
        servers.append(server)
    made = Cluster(servers, kind)
    try:
        yield made
    finally:
        made.sprayer.close()
        for server in servers:
            server.transport.close()


@contextlib.asynccontextmanager
async def client(to: Address) -> AsyncIterator[socket.socket]:
    """Connected: what comes from elsewhere does not reach it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect(to)
        yield sock


async def ask(sock: socket.socket, text: bytes) -> bytes:
    sock.send(text)
    async with asyncio.timeout(LATEST_S):
        return await asyncio.get_running_loop().sock_recv(sock, 100)


def test_datagrams_of_one_client_reach_all() -> None:
    async def scenario() -> None:
        async with cluster() as at, client(at.sprayer.address) as sock:
            answers = [await ask(sock, text) for text in (b"1", b"2", b"3", b"4")]
            assert answers == [b"a1", b"b2", b"c3", b"a4"]
            assert at.counts() == [(2, 2), (1, 1), (1, 1)]
            assert at.sprayer.clients == 1
            [[seen]] = {tuple(server.clients) for server in at.servers}  # one port for all
            assert seen != sock.getsockname()

    asyncio.run(scenario())


def test_replies_find_their_client() -> None:
    async def scenario() -> None:
        async with (
            cluster() as at,
            client(at.sprayer.address) as one,
            client(at.sprayer.address) as two,
        ):
            for number in range(6):
                text = b"%d" % number
                assert (await ask(one, b"one" + text))[1:] == b"one" + text
                assert (await ask(two, b"two" + text))[1:] == b"two" + text

    asyncio.run(scenario())


def test_a_server_whose_port_is_closed_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sprayer, "REST_S", 3600.0)

    async def scenario() -> None:
        async with cluster() as at, client(at.sprayer.address) as sock:
            at.servers[0].transport.close()
            await asyncio.sleep(0)  # that closes it
            sock.send(b"lost")
            answers = [await ask(sock, b"%d" % number) for number in range(4)]
            assert [answer[:1] for answer in answers[-3:]] in (
                [b"b", b"c", b"b"],
                [b"c", b"b", b"c"],
            )
            assert at.counts()[0] == (1, 0)

    asyncio.run(scenario())


def test_when_all_rest_any_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sprayer, "REST_S", 3600.0)

    async def scenario() -> None:
        async with cluster() as at, client(at.sprayer.address) as sock:
            for server in at.servers:
                server.transport.close()
            async with asyncio.timeout(LATEST_S):
                while sum(asked for asked, _ in at.counts()) < 12:
                    sock.send(b"lost")
                    await asyncio.sleep(0.001)
            _, back = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: Echo(b"a"), local_addr=at.servers[0].address
            )
            async with asyncio.timeout(LATEST_S):
                while not back.clients:
                    sock.send(b"found")
                    await asyncio.sleep(0.001)
            back.transport.close()

    asyncio.run(scenario())


def test_only_servers_are_heard() -> None:
    async def scenario() -> None:
        async with cluster() as at, client(at.sprayer.address) as sock:
            await ask(sock, b"1")
            [towards] = at.servers[0].clients
            async with client(towards) as stranger:
                stranger.send(b"forged")
                assert await ask(sock, b"2") == b"b2"
                assert sum(answered for _, answered in at.counts()) == 2

    asyncio.run(scenario())


class Watched(Sprayer):
    """Counts how often it was woken by clients."""

    wakes = 0

    def _from_clients(self) -> None:
        self.wakes += 1
        super()._from_clients()


def test_a_client_that_is_gone_costs_no_more() -> None:
    """The kernel's word that it is gone is read, and does not wake the loop for ever."""

    async def scenario() -> None:
        async with cluster(Watched) as at:
            assert isinstance(at.sprayer, Watched)
            async with client(at.sprayer.address) as sock:
                sock.send(b"1")
            async with asyncio.timeout(LATEST_S):
                while at.counts()[0] != (1, 1):
                    await asyncio.sleep(0)
            before = at.sprayer.wakes
            for _ in range(100):
                await asyncio.sleep(0)
            assert at.sprayer.wakes <= before + 2

    asyncio.run(scenario())


def test_clients_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sprayer, "MOST_CLIENTS", 2)

    async def scenario() -> None:
        async with cluster() as at, contextlib.AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(client(at.sprayer.address)) for _ in range(3)
            ]
            for sock in [*clients, *clients]:
                assert (await ask(sock, b"x"))[1:] == b"x"
                assert at.sprayer.clients <= 2

    asyncio.run(scenario())
