"""A hand-driven client for tests of the server: it makes raw wire messages, one at a time.

Nothing of the client's own code is used here. A `Peer` keeps what an honest client keeps (packets
by number, continuations by burst) and forms any request from it, honest or not; what a test wants
to lie about, it passes as an argument.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from trickles_web.config import BASE_DATAGRAM, TransportConfig
from trickles_web.testing.cluster import repeatable_hash
from trickles_web.transport import continuation as sealing
from trickles_web.transport import wire
from trickles_web.transport.continuation import Continuation
from trickles_web.transport.epochs import Epoch
from trickles_web.transport.keys import Keyring
from trickles_web.transport.note import Note
from trickles_web.transport.replay import ReplayFilter
from trickles_web.transport.server import Redeemed, Refusal, Server, Train
from trickles_web.transport.wire import Code, Data, Earlier, Kind, Wants

NOW = 1_800_000_000_000
"""Wall-clock milliseconds at which tests begin."""
SECRET = bytes(range(32))
ADDRESS = ("192.0.2.7", 4711)
EVERYTHING: Wants = ((0, wire.OPEN_END),)
FLOW = b"flow-id."

CONFIG = TransportConfig(replay_capacity=1 << 14)


class Bytes:
    """A Response of which any byte can be had: byte x is x modulo 251."""

    progress = b"progress"
    start = 0
    request_wanted = 5
    open = closes = False
    authorised_at = 0
    edition = 9

    def __init__(self, available: int = 1 << 40, end: int | None = None) -> None:
        self.available = available if end is None else min(available, end)
        self.end = end
        self.reads = 0

    @property
    def joins(self) -> int:
        return self.start

    def noted(self, stop: int) -> Note | None:
        return None

    def read(self, start: int, stop: int) -> bytes:
        assert self.start <= start < stop <= self.available
        self.reads += 1
        return bytes(x % 251 for x in range(start, stop))


def keyring(service: str = "test", secret: bytes = SECRET, seed: int = 1) -> Keyring:
    return Keyring((secret,), service, CONFIG.rotation_ms, random.Random(seed).randbytes)


def replay_filter(config: TransportConfig = CONFIG) -> ReplayFilter:
    span = config.replay_horizon_ms + 2 * config.clock_skew_ms
    return ReplayFilter(config.replay_capacity, span, repeatable_hash)


def server(
    replica: int = 1,
    *,
    keys: Keyring | None = None,
    replay: ReplayFilter | None = None,
    config: TransportConfig = CONFIG,
    seed: int = 1,
) -> Server:
    return Server(
        config,
        keyring(seed=seed) if keys is None else keys,
        replay_filter(config) if replay is None else replay,
        replica,
        random.Random(seed).randbytes,
        store=77,
    )


def hello(
    *, token: bytes = b"", request: bytes = b"hello", attempt: int = 0, length: int = BASE_DATAGRAM
) -> bytes:
    message = wire.Hello(FLOW, attempt, BASE_DATAGRAM, token, request)
    return wire.encode_hello(message, length)


def redeemed(result: Redeemed | Refusal) -> Redeemed:
    assert isinstance(result, Redeemed), result
    return result


def refused(result: Redeemed | Refusal) -> wire.Refused:
    """The decoded REFUSED of a refusal that answers."""
    assert isinstance(result, Refusal), result
    assert result.reply is not None, result
    return wire.decode_refused(result.reply)


def refused_code(result: Redeemed | Refusal) -> Code | None:
    """The code of a refusal; None when it is silent."""
    assert isinstance(result, Refusal), result
    return None if result.reply is None else Code(wire.decode_refused(result.reply).code)


def datagrams(trains: Iterable[Train]) -> list[bytes]:
    """The datagrams of trains, whose shape is checked on the way."""
    found: list[bytes] = []
    for train in trains:
        parts = train.datagrams()
        assert len(parts) == train.count
        assert all(len(part) == train.segment for part in parts[:-1])
        found += parts
    return found


def readable(**changes: object) -> bytes:
    """A continuation of anybody's making: a client, having no keys, takes it for a server's."""
    fields: dict[str, object] = {f.name: 0 for f in dataclasses.fields(Continuation)}
    fields |= {"flags": 4, "incarnation": 1, "generation": 1, "size": 1200, "response_end": -1}
    fields |= {"epoch": Epoch(0, 0, 0, 10, 10)} | changes
    return sealing._readable(Continuation(**fields)) + bytes(40)  # type: ignore[arg-type]


class Burst(NamedTuple):
    """What a client holds of one burst: its continuation, opened and as bytes."""

    continuation: Continuation
    blob: bytes


class Peer:
    """One client: what has arrived, and the requests that can be made of it."""

    def __init__(self, target: Server, address: tuple[str, int] = ADDRESS) -> None:
        self.server = target
        self.address = address
        self.now = NOW
        self.response: Bytes = Bytes()
        self.packets: dict[tuple[int, int], Data] = {}
        """(ordinal, number) -> packet, of those that were not lost on the way,"""
        self.bursts: dict[tuple[int, int], Burst] = {}
        """(ordinal, end of burst) -> continuation,"""
        self.sent: list[tuple[int, int]] = []
        """and (ordinal, number) of every packet that a server sent, in order."""
        self.accounted: dict[int, int] = {1: 0}
        """Per generation: `advance` has claimed everything below it."""
        self.lose: Callable[[Data], bool] = lambda data: False

    # ---- exchanges of datagrams

    def redeem(self, datagram: bytes, target: Server | None = None) -> Redeemed | Refusal:
        return (target or self.server).redeem(datagram, self.address, self.now)

    def send(self, datagram: bytes, target: Server | None = None) -> list[Data]:
        """Redeem and burst; asserts that it was accepted; returns the DATA that was sent."""
        target = target or self.server
        result = redeemed(self.redeem(datagram, target))
        return self.take(datagrams(target.burst(result, self.response, self.now)))

    def take(self, received: Sequence[bytes]) -> list[Data]:
        out = []
        for datagram in received:
            assert wire.kind_of(datagram) == Kind.DATA
            data = wire.decode_data(datagram)
            out.append(data)
            if data.flags & wire.FLAG_PROBE:
                continue
            k = (data.ordinal, data.burst + data.place)
            self.sent.append(k)
            if self.lose(data):
                continue
            self.packets[k] = data
            if data.continuation:
                c = sealing.parse(data.continuation)
                self.bursts[data.ordinal, c.stop] = Burst(c, data.continuation)
        return out

    def begin(self) -> list[Data]:
        """The first window, with its address proven: HELLO, ACK, and the request again."""
        first = hello()
        result = redeemed(self.redeem(first))
        reply = self.server.acknowledge(result, 0, b"", self.now)
        assert reply is not None
        assert len(reply) <= len(first)
        blob = wire.decode_ack(reply).continuation
        return self.send(self.opening(Burst(sealing.parse(blob), blob)))

    # ---- requests

    def proof(self, ordinal: int, start: int, stop: int) -> int:
        """Xor of the nonces of [start, stop); a nonce that is not here counts as 0."""
        value = 0
        for k in range(start, stop):
            data = self.packets.get((ordinal, k))
            value ^= data.nonce if data else 0
        return value

    def held(self, ordinal: int = 1) -> list[Burst]:
        """The continuations of a generation, lowest first."""
        return [b for (o, _), b in sorted(self.bursts.items()) if o == ordinal]

    def claim(
        self,
        burst: Burst,
        *,
        start: int | None = None,
        lost: int = -1,
        proof: int | None = None,
        wants: Wants = EVERYTHING,
        earlier: tuple[Earlier, ...] = (),
        opens: bool = False,
        attempt: int = 0,
        size: int = 0,
        request: bytes = b"",
        blob: bytes | None = None,
        pad_to: int = 0,
    ) -> bytes:
        c = burst.continuation
        if proof is None:
            end = c.stop if lost < 0 else min(lost, c.stop) if opens else lost
            proof = self.proof(c.ordinal, c.epoch.base, end)
        message = wire.Request(
            flow=FLOW,
            opens=opens,
            handed_on=False,
            repeated=False,
            attempt=attempt,
            size=size,
            proof=proof,
            edition=0,
            lost=lost,
            start=c.burst if start is None else start,
            received=0,
            continuation=burst.blob if blob is None else blob,
            wants=wants,
            earlier=earlier,
            request=request,
        )
        return wire.encode_request(message, pad_to)

    def opening(
        self,
        burst: Burst,
        *,
        attempt: int = 0,
        lost: int = -1,
        proof: int | None = None,
        size: int = 0,
        wants: Wants = EVERYTHING,
        request: bytes = b"",
        pad_to: int = 0,
    ) -> bytes:
        return self.claim(
            burst,
            start=burst.continuation.stop,
            opens=True,
            attempt=attempt,
            lost=lost,
            proof=proof,
            size=size,
            wants=wants,
            request=request,
            pad_to=pad_to,
        )

    # ---- honesty

    def numbers(self, ordinal: int = 1) -> list[int]:
        """Numbers that a server sent, in order."""
        return [k for o, k in self.sent if o == ordinal]

    def first_loss(self, c: Continuation, below: int) -> int:
        """The first number of c's epoch, below `below`, that did not arrive; -1: none."""
        for k in range(c.epoch.base, below):
            if (c.ordinal, k) not in self.packets:
                return k
        return -1

    def advance(self, until: int, ordinal: int = 1) -> None:
        """Claim burst after burst, in order and honestly, until number `until` has been sent."""
        while until not in self.numbers(ordinal):
            burst = self.unclaimed(ordinal)[0]
            c = burst.continuation
            start = max(self.accounted.get(ordinal, 0), c.epoch.start)
            self.send(self.claim(burst, start=start, lost=self.first_loss(c, c.stop)))
            self.accounted[ordinal] = c.stop

    def unclaimed(self, ordinal: int = 1) -> list[Burst]:
        """Bursts at hand that `advance` has not claimed, lowest first."""
        below = self.accounted.get(ordinal, 0)
        return [b for b in self.held(ordinal) if b.continuation.stop > below]
