"""More than the process can answer: what is new goes first, what is open goes on."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

from tests.net.test_endpoint import App, exchange, hello, raw_socket, run, served, until
from trickles_web.client import open_connection
from trickles_web.client.tokens import TokenStore
from trickles_web.net.udp import UdpSocket

FLOOD = 3_000
"""HELLOs at once: the larger part of a receive buffer of 8 MB."""
KEPT_OPEN = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"
EMPTY = hashlib.sha256().hexdigest().encode()


async def asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    writer.write(KEPT_OPEN)
    async with asyncio.timeout(20):
        await reader.readuntil(b"\r\n\r\n")
        return await reader.readexactly(len(EMPTY))


def test_a_flood_of_hellos_is_shed_before_it_fills_the_buffer(tmp_path: Path) -> None:
    async def main() -> None:
        async with served(App(), tmp_path) as (endpoint, address):
            reader, writer = await open_connection(*address, tokens=TokenStore(None))
            assert await asked(reader, writer) == EMPTY
            with raw_socket(address) as flood:
                for datagram in [hello() for _ in range(FLOOD)]:
                    flood.send(datagram)
                assert await asked(reader, writer) == EMPTY
                counted = endpoint.counters()
                assert counted["HELLO shed under load"] > FLOOD // 4
                assert counted["HELLO"] < FLOOD // 2
            writer.close()
            shed = endpoint.counters()["HELLO shed under load"]
            assert (await exchange(address)).endswith(EMPTY)  # who comes later is served
            assert endpoint.counters()["HELLO shed under load"] == shed

    run(main())


def test_a_socket_says_how_full_it_is(tmp_path: Path) -> None:
    async def main() -> None:
        async with served(App(), tmp_path) as (endpoint, address):
            udp = endpoint._udp
            assert isinstance(udp, UdpSocket)
            assert udp.filled == 0
            with raw_socket(address) as client:
                for _ in range(200):
                    client.send(bytes(1200))
                few = udp.filled
                for _ in range(600):
                    client.send(bytes(1200))
                assert 0 < few < udp.filled <= 1.1
                await until(lambda: udp.filled == 0)

    run(main())
