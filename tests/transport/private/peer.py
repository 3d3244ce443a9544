"""A private flow by hand, for tests of the server: each message sealed, each answer opened."""

from __future__ import annotations

import random

from tests.transport.driver import ADDRESS, CONFIG, NOW, Bytes, keyring, redeemed, replay_filter
from tests.transport.private.answers import IDENTITY
from trickles_web.config import BASE_DATAGRAM
from trickles_web.transport import continuation as sealing
from trickles_web.transport import wire
from trickles_web.transport.claim import Held
from trickles_web.transport.private.channel import Privacy
from trickles_web.transport.private.cover import DOWN, UP, FlowKeys, Nonces
from trickles_web.transport.private.exchange import (
    Exchange,
    hello_bytes,
    public_bytes,
    public_key,
    seal_hello,
)
from trickles_web.transport.server import Redeemed, Refusal, Server
from trickles_web.transport.wire import START_BYTES


def private_server(seed: int = 1) -> Server:
    """Of one service, whatever the seed of what it draws."""
    draw, keys = random.Random(seed).randbytes, keyring(seed=seed)
    privacy = Privacy(keys, IDENTITY.credentials, draw, list(Exchange))
    return Server(CONFIG, keys, replay_filter(), seed, draw, 77, privacy)


class PrivatePeer:
    """One flow of a client: `begin`, and it holds a continuation with its ticket."""

    def __init__(self, server: Server, seed: int = 1, exchange: Exchange = Exchange.X25519) -> None:
        draw = random.Random(seed)
        self.server = server
        self.flow = draw.randbytes(8)
        self.keys = FlowKeys(draw.randbytes(32))
        self.nonces = Nonces(draw.randbytes)
        self.exchange = exchange
        self.held: Held
        self.told: list[bytes] = []
        """What the server has sent, as it was on the wire."""

    def hello(self, *, generation: int = -1, token: bytes = b"") -> bytes:
        ring, exchange = keyring(), self.exchange
        if generation < 0:
            generation = ring.generation(NOW)
        key = public_key(exchange, public_bytes(exchange, ring.current(NOW).exchange_seed))
        said = wire.Hello(self.flow, 0, BASE_DATAGRAM, token, b"")
        message = wire.encode_hello(said, hello_bytes(exchange))
        return seal_hello(message, self.keys.secret, exchange, generation, key)

    def begin(self) -> PrivatePeer:
        """As a stranger: HELLO and ACK."""
        result = redeemed(self.redeem(self.hello()))
        reply = self.server.acknowledge(result, 0, b"", NOW)
        assert reply is not None
        self.take(wire.decode_ack(self.open(reply)).continuation)
        return self

    def take(self, told: bytes) -> None:
        c, blob, ticket = sealing.parse_told(told)
        self.held = Held(c, blob, 0.0, None, ticket)

    def redeem(self, datagram: bytes) -> Redeemed | Refusal:
        return self.server.redeem(datagram, ADDRESS, NOW)

    def open(self, datagram: bytes) -> bytes:
        """Raises WireError."""
        self.told.append(datagram)
        return self.keys.unseal(DOWN, datagram, START_BYTES)

    def seal(self, message: bytes, ticket: bytes | None = None) -> bytes:
        return self.keys.seal(
            UP, message, self.held.ticket if ticket is None else ticket, self.nonces
        )

    def message(self, request: bytes = b"", blob: bytes | None = None) -> bytes:
        """An opening, from the newest continuation."""
        return wire.encode_request(
            wire.Request(
                flow=self.flow,
                opens=True,
                handed_on=False,
                repeated=False,
                attempt=0,
                size=0,
                proof=0,
                edition=0,
                lost=-1,
                start=self.held.continuation.stop,
                received=0,
                continuation=self.held.blob if blob is None else blob,
                wants=((0, wire.OPEN_END),),
                request=request,
            )
        )

    def upload(self) -> bytes:
        return wire.encode_upload(wire.Upload(self.flow, 1, 0, None, self.held.blob, b"body"))

    def cancel(self) -> bytes:
        return wire.encode_cancel(wire.Cancel(self.flow, self.held.blob))

    def data(self) -> list[bytes]:
        """The DATA of an opening, as it is on the wire."""
        result = redeemed(self.redeem(self.seal(self.message(b"GET"))))
        trains = self.server.burst(result, Bytes(), NOW)
        return [datagram for train in trains for datagram in train.datagrams()]
