"""An attacker, as a process of its own, which wants a server to be of no use to others.

    python -m loadtest.flooding ATTACK HOST PORT SECONDS RATE [REPLICA]

Those of FLOODS send RATE datagrams a second from many addresses of this host; those of CROWDS begin
RATE flows a second, and those of TCP as many connections, and leave each half-way. Re-runs begin at
the port of a replica, and go on at a server that has none of it. Prints how many there were.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from loadtest.attack import record
from loadtest.rejection import hello
from trickles_web.config import ClientConfig
from trickles_web.transport.flow import Flow
from trickles_web.transport.wire import VERSION, Kind, flow_of, kind_of

Address = tuple[str, int]

SOURCES = 64
"""Addresses that datagrams come from, each in a network of its own."""
POOL = 1_000
AT_ONCE = 64
MOST_OPEN = 800
"""Flows or connections held at a time: fewer than a process may have descriptors."""
UPLOAD_BYTES = 1_500_000
HEAD_BYTES = 60_000
FILL_BYTES = 14_000_000
"""Of a body that is held on disk and never ends."""
RERUNS = "re-runs"
LOOK_S = 0.002


def _get(path: str, more: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n{more}\r\n".encode()


def _post(size: int, body: bytes) -> bytes:
    return f"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode() + body


@dataclass(frozen=True, slots=True)
class Half:
    """A request, and after how many bytes of its answer its client says no more."""

    request: bytes
    taken: int = 0


HUGE_HEAD = _get("/", "".join(f"X-{n}: {'x' * 700}\r\n" for n in range(HEAD_BYTES // 710)))
CROWDS = {
    "uploads": Half(_post(UPLOAD_BYTES, bytes(60_000))),
    "slow writers": Half(_post(UPLOAD_BYTES, b"x")),
    "parked": Half(_get("/slow?seconds=50")),
    "claims": Half(_post(2, b"hi"), 1 << 20),
    "slow readers": Half(_get("/files/20.bin"), 1),
    "abandoned GETs": Half(_get("/"), 1),
    "huge heads": Half(HUGE_HEAD, 1 << 20),
    "spool fills": Half(_post(FILL_BYTES + 1, bytes(FILL_BYTES))),
    "event streams": Half(_get("/events")),
    RERUNS: Half(_get("/"), 1),
}
TCP = {
    "connections": b"",
    "slowloris": HUGE_HEAD[:100],
    "slow readers": _get("/files/20.bin"),
    "huge heads": HUGE_HEAD,
    "spool fills": _post(FILL_BYTES + 1, bytes(FILL_BYTES)),
    "event streams": _get("/events"),
}


def _garbage(server: Address) -> list[bytes]:
    return [bytes([VERSION << 4 | os.urandom(1)[0] & 15]) + os.urandom(999) for _ in range(POOL)]


def _hellos(server: Address) -> list[bytes]:
    return [hello() for _ in range(POOL)]


def _replays(server: Address) -> list[bytes]:
    recorded = record(server, b"/static/site.css", 100_000)
    return recorded[Kind.REQUEST] + recorded[Kind.UPLOAD] + recorded[Kind.CANCEL]


FLOODS: dict[str, Callable[[Address], list[bytes]]] = {
    "HELLOs": _hellos,
    "garbage": _garbage,
    "replays": _replays,
}


def flood(server: Address, datagrams: list[bytes], seconds: float, rate: float) -> int:
    """At this rate, or as fast as this process can; how many were sent."""
    with contextlib.ExitStack() as stack:
        socks = []
        for number in range(SOURCES):
            sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            sock.bind((f"127.9.{number}.1", 0))
            sock.setblocking(False)
            socks.append(sock)
        sent, began = 0, time.monotonic()
        while (now := time.monotonic()) < began + seconds:
            due = int((now - began) * rate) - sent
            if due <= 0:
                time.sleep(LOOK_S / 4)
            for _ in range(min(due, AT_ONCE)):
                with contextlib.suppress(OSError):
                    socks[sent % SOURCES].sendto(datagrams[sent % len(datagrams)], server)
                sent += 1
        return sent


class Crowd:
    """Flows that are each left half-way: they send no more, and say nothing of it."""

    def __init__(self, server: Address, half: Half) -> None:
        self.begun = 0
        self._half = half
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind(("127.9.200.1", 0))
        self._sock.connect(server)
        self._sock.setblocking(False)
        self._flows: dict[bytes, tuple[Flow, int]] = {}

    def begin(self) -> None:
        if len(self._flows) >= MOST_OPEN:
            del self._flows[next(iter(self._flows))]
        now = time.monotonic()
        flow = Flow(os.urandom(8), ClientConfig(), now)
        flow.write(self._half.request)
        self._flows[flow.id] = flow, 0
        self.begun += 1
        self._send(flow, now)

    def receive(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            for _ in range(AT_ONCE):
                datagram = self._sock.recv(65_535)
                entry = self._flows.get(flow_of(datagram))
                if entry is not None:
                    self._received(entry[0], entry[1], datagram)

    def adopt(self, flow: Flow) -> None:
        """Go on with a flow that was begun elsewhere."""
        self._flows[flow.id] = flow, 0

    def repeat(self) -> None:
        """Send what is due."""
        now = time.monotonic()
        for flow, _ in self._flows.values():
            due = flow.timeout()
            if due is not None and due <= now:
                self._send(flow, now)

    def _received(self, flow: Flow, taken: int, datagram: bytes) -> None:
        now = time.monotonic()
        flow.receive(datagram, now)
        taken += len(flow.read())
        if flow.error or flow.idle or taken >= self._half.taken > 0:
            del self._flows[flow.id]
        else:
            self._flows[flow.id] = flow, taken
            self._send(flow, now)

    def _send(self, flow: Flow, now: float) -> None:
        for datagram in flow.transmit(now):
            with contextlib.suppress(OSError):
                self._sock.send(datagram)


def crowd(flows: Crowd, seconds: float, rate: float) -> int:
    """How many flows were begun."""
    began = time.monotonic()
    while (now := time.monotonic()) < began + seconds:
        if flows.begun < (now - began) * rate:
            flows.begin()
        else:
            time.sleep(LOOK_S)
        flows.receive()
    return flows.begun


class Orphans(Crowd):
    """Flows whose answer begins at a replica, and that ask this server for the rest of it: it has
    nothing of that, and runs what may be run again.
    """

    def __init__(self, server: Address, replica: Address, half: Half) -> None:
        super().__init__(replica, half)
        self._there = Crowd(server, Half(half.request))

    def receive(self) -> None:
        super().receive()
        self._there.receive()
        self._there.repeat()

    def _received(self, flow: Flow, taken: int, datagram: bytes) -> None:
        if kind_of(datagram) != Kind.DATA:
            super()._received(flow, taken, datagram)
            return
        flow.receive(datagram, time.monotonic())
        del self._flows[flow.id]
        self._there.adopt(flow)


def connections(server: Address, sent: bytes, seconds: float, rate: float) -> int:
    """Connections that send this and then nothing, nor read; the oldest give way to new ones."""
    opened: list[socket.socket] = []
    count, began = 0, time.monotonic()
    while (now := time.monotonic()) < began + seconds:
        if count >= (now - began) * rate:
            time.sleep(LOOK_S)
            continue
        count += 1
        sock = socket.socket()
        sock.settimeout(1.0)
        with contextlib.suppress(OSError):
            sock.connect(server)
            sock.setblocking(False)
            sock.send(sent)
        opened.append(sock)
        if len(opened) > MOST_OPEN:
            opened.pop(0).close()
    for sock in opened:
        sock.close()
    return count


def attack(name: str, server: Address, seconds: float, rate: float, replica: Address) -> int:
    if name.startswith("TCP "):
        return connections(server, TCP[name[4:]], seconds, rate)
    if name == RERUNS:
        return crowd(Orphans(server, replica, CROWDS[name]), seconds, rate)
    if name in CROWDS:
        return crowd(Crowd(server, CROWDS[name]), seconds, rate)
    return flood(server, FLOODS[name](server), seconds, rate)


if __name__ == "__main__":
    name, host, port, lasting, per_second, *more = sys.argv[1:]
    beside = (host, int(more[0] if more else port))
    print(attack(name, (host, int(port)), float(lasting), float(per_second), beside))
