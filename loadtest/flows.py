"""Many flows over few sockets, driven without asyncio: cheap enough for a hundred thousand."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from collections.abc import Callable

from trickles_web.config import ClientConfig
from trickles_web.transport.flow import Flow
from trickles_web.transport.path_size import PathSize
from trickles_web.transport.wire import flow_of

GET = b"GET / HTTP/1.1\r\nHost: loadtest\r\n\r\n"
AT_A_TIME = 64
"""Flows with an exchange in progress."""
LARGEST_DATAGRAM = 65_535
TIMERS_EVERY_S = 0.02
STALL_S = 60.0

Address = tuple[str, int]


class Crowd:
    """Opens flows, does one exchange on each, and leaves them open.

    An open idle flow is its newest continuation, at the client: that is what is kept of each, and
    of one in `keep_every` the Flow itself, to go on with later.
    """

    def __init__(
        self, server: Address, *, sockets: int = 4, keep_every: int = 100, request: bytes = GET
    ) -> None:
        self.continuations: list[bytes] = []
        self.kept: list[Flow] = []
        self.answers: set[bytes] = set()
        """Distinct bodies of the answers; a server's date header differs from time to time."""
        self.on_datagram: Callable[[bytes], None] = lambda datagram: None
        """Sees what is sent."""
        self._config = ClientConfig()
        self._keep_every = keep_every
        self._request = request
        self._busy: dict[bytes, tuple[Flow, int]] = {}
        self._bodies: dict[bytes, bytes] = {}
        self._homes: dict[bytes, int] = {}
        self._tokens = [b""] * sockets
        self._sockets = []
        for _ in range(sockets):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.setblocking(False)
            sock.connect(server)
            self._sockets.append(sock)

    def close(self) -> None:
        for sock in self._sockets:
            sock.close()

    @property
    def open_flows(self) -> int:
        return len(self.continuations)

    def open(self, count: int) -> None:
        """So many more flows; returns when each has its answer. RuntimeError if one fails."""
        started = [0]

        def begin(now: float) -> bool:
            if started[0] == count:
                return False
            started[0] += 1
            home = started[0] % len(self._sockets)
            token = self._tokens[home]
            largest = self._config.max_loopback_datagram_bytes
            path = PathSize(largest, largest)
            flow = Flow(os.urandom(8), self._config, now, token=token, path=path)
            self._homes[flow.id] = home
            self._ask(flow, now)
            return True

        self._drive(begin, self._opened)

    def again(self) -> int:
        """A second exchange on every kept flow; how many had their answer."""
        waiting = list(self.kept)
        done: list[Flow] = []

        def begin(now: float) -> bool:
            if waiting:
                self._ask(waiting.pop(), now)
            return bool(waiting)

        if waiting:
            self._drive(begin, done.append)
        return len(done)

    def cancel_kept(self) -> None:
        """Begin an exchange on every kept flow, and leave it at once."""
        now = time.monotonic()
        for flow in self.kept:
            flow.write(self._request)
            self._send(flow, now)
            for datagram in flow.cancel():
                self.on_datagram(datagram)
                with contextlib.suppress(OSError):
                    self._sockets[self._homes[flow.id]].send(datagram)
        self.kept.clear()

    def _ask(self, flow: Flow, now: float) -> None:
        self._busy[flow.id] = (flow, self._homes[flow.id])
        flow.write(self._request)
        self._send(flow, now)

    def _opened(self, flow: Flow) -> None:
        self._tokens[self._homes[flow.id]] = flow.token
        if len(self.continuations) % self._keep_every == 0:
            self.kept.append(flow)
        else:
            del self._homes[flow.id]
        self.continuations.append(flow.token)

    def _send(self, flow: Flow, now: float) -> None:
        sock = self._sockets[self._homes[flow.id]]
        for datagram in flow.transmit(now):
            self.on_datagram(datagram)
            with contextlib.suppress(OSError):  # a datagram lost
                sock.send(datagram)

    def _drive(self, begin: Callable[[float], bool], finished: Callable[[Flow], None]) -> None:
        more, timers_at, heard_at = True, 0.0, time.monotonic()
        while more or self._busy:
            now = time.monotonic()
            while more and len(self._busy) < AT_A_TIME:
                more = begin(now)
            readable, _, _ = select.select(self._sockets, [], [], TIMERS_EVERY_S)
            now = time.monotonic()
            for sock in readable:
                self._receive(sock, now, finished)
                heard_at = now
            if now >= timers_at:
                timers_at = now + TIMERS_EVERY_S
                self._tick(now)
            if now - heard_at > STALL_S:
                raise RuntimeError(f"no datagram for {STALL_S:g} s, {len(self._busy)} flows wait")

    def _receive(self, sock: socket.socket, now: float, finished: Callable[[Flow], None]) -> None:
        for _ in range(AT_A_TIME):
            try:
                datagram = sock.recv(LARGEST_DATAGRAM)
            except OSError:
                return
            entry = self._busy.get(flow_of(datagram))
            if entry is None:
                continue
            flow = entry[0]
            flow.receive(datagram, now)
            self._advance(flow, now)
            if flow.idle and not flow.readable():
                del self._busy[flow.id]
                self.answers.add(self._bodies.pop(flow.id).partition(b"\r\n\r\n")[2])
                finished(flow)

    def _advance(self, flow: Flow, now: float) -> None:
        self._bodies[flow.id] = self._bodies.get(flow.id, b"") + flow.read()
        self._send(flow, now)
        if flow.error is not None:
            raise RuntimeError(f"a flow failed: {flow.error}")

    def _tick(self, now: float) -> None:
        for flow, _ in list(self._busy.values()):
            due = flow.timeout()
            if due is not None and due <= now:
                self._advance(flow, now)
