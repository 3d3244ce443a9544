"""Measures, in the namespace it runs in, how long the first byte of an answer takes.

    python -m loadtest.first_byte HOST UDP_PORT TCP_PORT ROUNDS

Prints JSON: lists of milliseconds. Every sample is a new connection or flow of this one process,
which is warm: the rounds before the first that counts are left out.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time

from trickles_web.client import open_connection
from trickles_web.client.tokens import TokenStore

REQUEST = b"GET / HTTP/1.1\r\nHost: loadtest\r\nConnection: close\r\n\r\n"
WARM_UP = 2
PATIENCE_S = 30.0


def tcp(host: str, port: int) -> tuple[float, float]:
    """Milliseconds until connected, which is one round trip, and until the first byte."""
    began = time.perf_counter()
    with socket.create_connection((host, port), PATIENCE_S) as sock:
        connected = time.perf_counter()
        sock.sendall(REQUEST)
        if not sock.recv(1):
            raise EOFError("no answer over TCP")
        answered = time.perf_counter()
    return (connected - began) * 1000, (answered - began) * 1000


async def trickles(host: str, port: int, tokens: TokenStore) -> tuple[float, int]:
    """Milliseconds from the request to its answer's first byte, and datagrams sent till then."""
    async with asyncio.timeout(PATIENCE_S):
        reader, writer = await open_connection(host, port, tokens=tokens)
        began = time.perf_counter()
        writer.write(REQUEST)
        first = await reader.read(1)
        elapsed = time.perf_counter() - began
        sent = writer.transport.flow.stats.datagrams_out  # type: ignore[attr-defined]
        if first != b"H" or b"200 OK" not in await reader.read():
            raise EOFError("no answer over Trickles")
        writer.close()
        await writer.wait_closed()
        return elapsed * 1000, sent


async def measure(host: str, udp_port: int, tcp_port: int, rounds: int) -> dict[str, list[float]]:
    """The kinds take turns, so that what disturbs the machine disturbs all alike."""
    found: dict[str, list[float]] = {
        name: []
        for name in ("connect", "tcp", "stranger", "returning", "datagrams", "returning datagrams")
    }
    known = TokenStore(None)
    await trickles(host, udp_port, known)
    for turn in range(WARM_UP + rounds):
        if tcp_port:
            connect, answered = tcp(host, tcp_port)
        stranger, stranger_sent = await trickles(host, udp_port, TokenStore(None))
        returning, returning_sent = await trickles(host, udp_port, known)
        if turn < WARM_UP:
            continue
        if tcp_port:
            found["connect"].append(connect)
            found["tcp"].append(answered)
        found["stranger"].append(stranger)
        found["returning"].append(returning)
        found["datagrams"].append(stranger_sent)
        found["returning datagrams"].append(returning_sent)
    return found


if __name__ == "__main__":
    host, *numbers = sys.argv[1:]
    udp_port, tcp_port, rounds = map(int, numbers)
    print(json.dumps(asyncio.run(measure(host, udp_port, tcp_port, rounds))))
