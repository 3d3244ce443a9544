"""GETs of one datagram's answer by flows that are hardly more than arithmetic, in clear or private.

    python -m loadtest.lean HOST PORT clear|private get|new|stranger CLIENTS SECONDS

It is for comparing the two kinds of flow, by what they cost a server: the client is the same, has
many flows on one socket, and costs less than the real one. A flow that waits for long begins anew.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
from collections.abc import Callable
from time import monotonic

from trickles_web.client.identities import Identities
from trickles_web.client.tokens import TokenStore
from trickles_web.config import BASE_DATAGRAM, Trust
from trickles_web.errors import WireError
from trickles_web.transport import continuation as sealing
from trickles_web.transport import wire
from trickles_web.transport.private.cover import DOWN, UP, FlowKeys, Nonces
from trickles_web.transport.private.exchange import Exchange, hello_bytes, seal_hello
from trickles_web.transport.private.introduction import Introduction
from trickles_web.transport.wire import OPEN_END, START_BYTES, Kind

REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
PATIENCE_S = 0.5
_DATA = wire.FIRST_BYTE[Kind.DATA]


class Place:
    """A server, and what one needs to begin flows with it."""

    def __init__(self, host: str, port: int, private: bool) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self.socket.connect((host, port))
        self.socket.setblocking(False)
        self.private = private
        self.token = b""
        self.known = True
        """Do flows show that they were here before?"""
        self.nonces = Nonces(os.urandom)
        self.server = Identities(TokenStore()).of(host, port, Trust(insecure=True), Exchange.X25519)
        if private:
            self._introduce()

    def _introduce(self) -> None:
        introduction, blob = Introduction(os.urandom(8)), None
        for datagram in introduction.ask():
            self.socket.send(datagram)
        while blob is None:
            blob = introduction.take(wire.decode_identity(self.received()))
        self.server.learn(blob)

    def received(self) -> bytes:
        if not select.select([self.socket], [], [], 5.0)[0]:
            raise SystemExit("no answer")
        return self.socket.recv(65_536)


class LeanFlow:
    """One request at a time, each answered by one datagram."""

    def __init__(self, place: Place) -> None:
        self.id = os.urandom(8)
        self.asked_at = monotonic()
        self._place = place
        self._keys = FlowKeys(os.urandom(32)) if place.private else None

    def hello(self) -> bytes:
        hello = wire.Hello(self.id, 0, BASE_DATAGRAM, self._place.token, REQUEST)
        if self._keys is None:
            return wire.encode_hello(hello, BASE_DATAGRAM)
        known = self._place.server.known()
        assert known is not None
        message = wire.encode_hello(hello, hello_bytes(Exchange.X25519))
        return seal_hello(message, self._keys.secret, Exchange.X25519, *known)

    def answered(self, datagram: bytes) -> bytes | None:
        """The next request, or None if this answers nothing."""
        try:
            if self._keys is not None:
                datagram = self._keys.unseal(DOWN, datagram, START_BYTES)
            if datagram[0] != _DATA:
                return self._sent_back(wire.decode_ack(datagram))
            data = wire.decode_data(datagram)
        except WireError:
            return None
        c, blob, ticket = sealing.parse_told(data.continuation)
        end = data.offset + len(data.payload)
        assert end == c.response_end, "an answer of more than one datagram"
        if self._place.known:
            self._place.token = blob
        return self._request(c.stop, data.nonce, end, c.request_wanted, blob, ticket)

    def _sent_back(self, ack: wire.Ack) -> bytes:
        c, blob, ticket = sealing.parse_told(ack.continuation)
        return self._request(c.stop, 0, 0, 0, blob, ticket)

    def _request(
        self, stop: int, proof: int, received: int, offset: int, blob: bytes, ticket: bytes
    ) -> bytes:
        request = wire.Request(
            self.id, True, False, False, 0, BASE_DATAGRAM, proof, 0, -1, stop, received, blob,
            ((received, OPEN_END),), (), offset, REQUEST,
        )  # fmt: skip
        message = wire.encode_request(request)
        if self._keys is None:
            return message
        return self._keys.seal(UP, message, ticket, self._place.nonces)


def run(place: Place, clients: int, seconds: float, fresh: bool) -> dict[str, float]:
    """Rates, as load generators print them."""
    first = LeanFlow(place)
    place.socket.send(first.hello())
    _exchange(place, {first.id: first}, lambda done: done >= 2, fresh=False)
    flows: dict[bytes, LeanFlow] = {}
    for _ in range(clients):
        flow = LeanFlow(place)
        flows[flow.id] = flow
        place.socket.send(flow.hello())
    began = monotonic()
    done = _exchange(place, flows, lambda _: monotonic() >= began + seconds, fresh=fresh)
    return {
        "requests": done,
        "requests in all": done,
        "seconds": monotonic() - began,
        "p50 us": 0.0,
        "p99 us": 0.0,
    }


def _exchange(
    place: Place, flows: dict[bytes, LeanFlow], over: Callable[[int], bool], *, fresh: bool
) -> int:
    """Until it is over, which is told how many requests were answered; how many that were."""
    done, sock, looked = 0, place.socket, monotonic()
    while not over(done):
        if not select.select([sock], [], [], 0.05)[0] or monotonic() > looked + PATIENCE_S:
            looked = monotonic()
            _begin_anew(place, flows, looked)
            continue
        for _ in range(64):
            try:
                datagram = sock.recv(65_536)
            except BlockingIOError:
                break
            flow = flows.get(datagram[1:9])
            answer = None if flow is None else flow.answered(datagram)
            if flow is None or answer is None:
                continue
            done += datagram[0] & 15 == Kind.DATA
            if fresh and datagram[0] & 15 == Kind.DATA:
                del flows[flow.id]
                flow = LeanFlow(place)
                flows[flow.id], answer = flow, flow.hello()
            else:
                flow.asked_at = looked
            sock.send(answer)
    return done


def _begin_anew(place: Place, flows: dict[bytes, LeanFlow], now: float) -> None:
    """Those that have waited for long."""
    for flow in [flow for flow in flows.values() if now > flow.asked_at + 2 * PATIENCE_S]:
        del flows[flow.id]
        other = LeanFlow(place)
        flows[other.id] = other
        place.socket.send(other.hello())


def main(host: str, port: str, kind: str, mode: str, clients: str, seconds: str) -> None:
    place = Place(host, int(port), kind == "private")
    place.known = mode != "stranger"
    print(json.dumps(run(place, int(clients), float(seconds), mode != "get")))


if __name__ == "__main__":
    main(*sys.argv[1:])
