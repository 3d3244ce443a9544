"""What one bad datagram costs a server, by the reason for which it is refused.

Of the transport alone, without socket and application, so that the figures do not depend on either:
`Server.redeem`, with the reply if there is one, beside `redeem` and `burst` of good datagrams.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from trickles_web.config import BASE_DATAGRAM, TransportConfig
from trickles_web.transport import continuation as sealing
from trickles_web.transport import wire
from trickles_web.transport.continuation import Continuation
from trickles_web.transport.epochs import LONGEST_REACH
from trickles_web.transport.keys import Keyring
from trickles_web.transport.note import Note
from trickles_web.transport.replay import ReplayFilter
from trickles_web.transport.server import Refusal, Server
from trickles_web.transport.wire import Earlier, Kind, Wants

ADDRESS = ("192.0.2.7", 4711)
FLOW = b"flow-id."
NOW = 1_800_000_000_000
HOUR_MS = 3_600_000
EVERYTHING: Wants = ((0, wire.OPEN_END),)
LARGEST = 16_384
"""Bytes of a datagram that a server looks at, at most."""
BATCH, BATCHES = 100, 15
ANSWERED = "REQUEST, answered by one packet"
REACHING = "claim that reaches back over 256 numbers, judged only"
SMALL_ANSWER = 300
"""Bytes of the answer beside which refusals are put: head and body of a very small page."""
WINDOW = 600
"""Numbers that a flow has claimed when it turns bad: a long download."""


class Cost(NamedTuple):
    """CPU of one datagram, the lowest of several batches."""

    what: str
    bytes: int
    good: bool
    refused: str
    """The reason, of a bad one."""
    microseconds: float


class _Bytes:
    """A response of zeros; a long one unless an end is given."""

    progress = b"progress"
    start = joins = 0
    request_wanted = 5
    open = closes = False
    authorised_at = 0
    edition = 9

    def __init__(self, end: int | None = None) -> None:
        self.end = end
        self.available = 1 << 40 if end is None else end

    def noted(self, stop: int) -> Note | None:
        return None

    def read(self, start: int, stop: int) -> bytes:
        return bytes(stop - start)


@dataclass(slots=True)
class _Client:
    """A client that keeps what it would need to lie: continuations and nonces, by number."""

    server: Server
    now: int = NOW
    nonces: dict[int, int] = field(default_factory=dict)
    bursts: dict[int, tuple[Continuation, bytes]] = field(default_factory=dict)
    """By their ends."""
    claimed: int = 0

    def open(self) -> None:
        self._send(self.opening(*acknowledged(self.server)))

    def go_on(self, until: int) -> None:
        """Claim honestly until so many numbers are claimed."""
        while self.claimed < until:
            stop = min(end for end in self.bursts if end > self.claimed)
            self._send(self.claim(stop))
            self.claimed = stop

    def _send(self, datagram: bytes) -> None:
        result = self.server.redeem(datagram, ADDRESS, self.now)
        assert not isinstance(result, Refusal), result
        for train in self.server.burst(result, _Bytes(), self.now):
            for packet in map(wire.decode_data, train.datagrams()):
                self.nonces[packet.burst + packet.place] = packet.nonce
                if packet.continuation:
                    c = sealing.parse(packet.continuation)
                    self.bursts[c.stop] = c, packet.continuation

    def proof(self, stop: int) -> int:
        value = 0
        for number in range(stop):
            value ^= self.nonces[number]
        return value

    def claim(
        self,
        stop: int,
        *,
        proof: int | None = None,
        start: int | None = None,
        lost: int = -1,
        earlier: tuple[Earlier, ...] = (),
    ) -> bytes:
        c, blob = self.bursts[stop]
        proof = self.proof(stop) if proof is None else proof
        start = c.burst if start is None else start
        return request(blob, start=start, proof=proof, lost=lost, earlier=earlier)

    def opening(self, c: Continuation, blob: bytes, proof: int = 0, attempt: int = 0) -> bytes:
        return request(blob, start=c.stop, proof=proof, attempt=attempt, opens=True)


def request(
    blob: bytes,
    *,
    start: int = 0,
    proof: int = 0,
    lost: int = -1,
    attempt: int = 0,
    opens: bool = False,
    earlier: tuple[Earlier, ...] = (),
    carried: bytes = b"",
) -> bytes:
    fields = (attempt, 0, proof, 0, lost, start, 0, blob, EVERYTHING, earlier, 0, carried)
    return wire.encode_request(wire.Request(FLOW, opens, False, False, *fields))


def hello(token: bytes = b"", length: int = BASE_DATAGRAM) -> bytes:
    message = wire.Hello(os.urandom(8), 0, BASE_DATAGRAM, token, b"GET / HTTP/1.1\r\n")
    return wire.encode_hello(message, length)


def acknowledged(server: Server, now: int = NOW) -> tuple[Continuation, bytes]:
    """What a stranger comes back with."""
    result = server.redeem(hello(), ADDRESS, now)
    assert not isinstance(result, Refusal)
    reply = server.acknowledge(result, 0, b"", now)
    assert reply is not None
    blob = wire.decode_ack(reply).continuation
    return sealing.parse(blob), blob


def server(service: str = "one") -> Server:
    config = TransportConfig()
    span = config.replay_horizon_ms + 2 * config.clock_skew_ms
    keys = Keyring((bytes(range(32)),), service, config.rotation_ms, os.urandom)
    return Server(config, keys, ReplayFilter(config.replay_capacity, span), 1, os.urandom, store=77)


def costs() -> list[Cost]:
    """Good datagrams first."""
    target = server()
    good = [_hello_cost(target), _answer_cost(target), _upload_cost(target, 1_200)]
    good.append(_upload_cost(target, LARGEST))
    bad = _bad(target)  # first: some of it is of other times, and the filter's turns go with time
    reaching, refused = _reaching(target)
    good.append(_judged_cost(target, REACHING, reaching))
    bad.append(("claim, reaching back to one that was claimed", refused, ADDRESS))
    return good + [_bad_cost(target, *each) for each in bad]


def _hello_cost(target: Server) -> Cost:
    def answered(datagram: bytes) -> None:
        result = target.redeem(datagram, ADDRESS, NOW)
        assert not isinstance(result, Refusal)
        assert target.acknowledge(result, 0, b"", NOW)

    datagrams = [hello() for _ in range(BATCH * BATCHES)]
    what = "HELLO of a stranger, answered by ACK"
    return Cost(what, BASE_DATAGRAM, True, "", _lowest(answered, datagrams))


def _answer_cost(target: Server) -> Cost:
    response = _Bytes(SMALL_ANSWER)

    def answered(datagram: bytes) -> None:
        result = target.redeem(datagram, ADDRESS, NOW)
        assert not isinstance(result, Refusal)
        assert target.burst(result, response, NOW)

    openings = [
        request(blob, start=c.stop, opens=True, carried=b"GET / HTTP/1.1\r\n\r\n")
        for c, blob in (acknowledged(target) for _ in range(BATCH * BATCHES))
    ]
    return Cost(ANSWERED, len(openings[0]), True, "", _lowest(answered, openings))


def _upload_cost(target: Server, size: int) -> Cost:
    """It is acknowledged; what keeps its bytes is not counted."""

    def answered(datagram: bytes) -> None:
        result = target.redeem(datagram, ADDRESS, NOW)
        assert not isinstance(result, Refusal)
        assert target.acknowledge(result, 0, b"", NOW)

    _, blob = acknowledged(target)
    datagram = _upload(blob, size)
    micro = _lowest(answered, [datagram] * BATCH * BATCHES)
    return Cost("UPLOAD, answered by ACK", size, True, "", micro)


def _judged_cost(target: Server, what: str, datagram: bytes) -> Cost:
    """Without an answer, as where there is nothing to answer yet: so it may be sent again."""

    def judged(each: bytes) -> None:
        assert not isinstance(target.redeem(each, ADDRESS, NOW), Refusal)

    return Cost(what, len(datagram), True, "", _lowest(judged, [datagram] * BATCH * BATCHES))


def _reaching(target: Server) -> tuple[bytes, bytes]:
    """The dearest claims: one that is good, and one that is refused by the last look-up of all."""
    found = []
    for spoilt in (False, True):
        client = _Client(target)
        client.open()
        client.go_on(WINDOW)
        before, stop = sorted(client.bursts)[-2:]
        start = max(client.claimed, client.bursts[stop][0].burst - LONGEST_REACH)
        found.append(client.claim(stop, start=start))
        if spoilt:
            client._send(client.claim(before))
    return found[0], found[1]


def _upload(blob: bytes, size: int) -> bytes:
    carried = bytes(wire.upload_room(blob, size))
    return wire.encode_upload(wire.Upload(FLOW, 0, 0, None, blob, carried))


def _bad_cost(target: Server, what: str, datagram: bytes, address: tuple[str, int]) -> Cost:
    result = target.redeem(datagram, address, NOW)
    assert isinstance(result, Refusal), what

    def refused(each: bytes) -> None:
        target.redeem(each, address, NOW)

    micro = _lowest(refused, [datagram] * BATCH * BATCHES)
    return Cost(what, len(datagram), False, result.reason, micro)


def _lowest(answer: Callable[[bytes], None], datagrams: Sequence[bytes]) -> float:
    best = float("inf")
    for first in range(0, len(datagrams), BATCH):
        batch = datagrams[first : first + BATCH]
        began = time.thread_time_ns()
        for datagram in batch:
            answer(datagram)
        best = min(best, (time.thread_time_ns() - began) / len(batch) / 1000)
    return best


def flipped(datagram: bytes, at: int) -> bytes:
    """With one bit of the byte at `at` another one."""
    return datagram[:at] + bytes([datagram[at] ^ 1]) + datagram[at + 1 :]


def _bad(target: Server) -> list[tuple[str, bytes, tuple[str, int]]]:
    """What there is to refuse: what it is, a datagram, and from where."""
    return [
        (what, datagram, ADDRESS)
        for what, datagram in (
            *_unreadable(),
            *_unredeemable(target),
            *_lies(target),
        )
    ]


def _unreadable() -> list[tuple[str, bytes]]:
    first = wire.FIRST_BYTE
    garbage = os.urandom(LARGEST)
    return [
        ("empty", b""),
        ("shorter than any", bytes([first[Kind.REQUEST]])),
        ("unknown version, short", b"\xf1" + garbage[:199]),
        ("unknown version, answered", b"\xf1" + garbage[:1199]),
        ("unknown version, large", b"\xf1" + garbage[1:]),
        ("what a server sends", bytes([first[Kind.DATA]]) + garbage[:1199]),
        ("unknown kind", bytes([wire.VERSION << 4 | 15]) + garbage[:1199]),
        ("HELLO, short", hello()[:600]),
        ("HELLO, garbage", bytes([first[Kind.HELLO]]) + b"\xff" * 1199),
        ("REQUEST, garbage", bytes([first[Kind.REQUEST]]) + garbage[:1199]),
        ("UPLOAD, garbage", bytes([first[Kind.UPLOAD]]) + garbage[:1199]),
        ("CANCEL, garbage", bytes([first[Kind.CANCEL]]) + garbage[:1199]),
    ]


def _unredeemable(target: Server) -> list[tuple[str, bytes]]:
    """Continuations that nobody should honour."""
    c, blob = acknowledged(target)
    elsewhere = server()  # for other times: a clock that jumps about is another matter
    _, foreign = acknowledged(server("another"))
    _, old = acknowledged(elsewhere, NOW - HOUR_MS - 1)
    _, future = acknowledged(elsewhere, NOW + HOUR_MS)
    _, other_day = acknowledged(elsewhere, NOW - 48 * HOUR_MS)
    forged = flipped(blob, len(blob) - 1)
    spent = hello()
    result = target.redeem(spent, ADDRESS, NOW)
    assert not isinstance(result, Refusal)
    target.burst(result, _Bytes(), NOW)
    return [
        ("HELLO, a copy", spent),
        ("REQUEST, continuation truncated", request(blob[:60])),
        ("REQUEST, seal forged", request(forged)),
        ("REQUEST, readable part forged", request(flipped(blob, 20))),
        ("REQUEST, of another service", request(foreign)),
        ("REQUEST, too old", request(old)),
        ("REQUEST, from the future", request(future)),
        ("REQUEST, keys of two days ago", request(other_day)),
        ("REQUEST, 16 KB, seal forged", request(forged, carried=bytes(LARGEST - 400))),
        ("UPLOAD, seal forged", _upload(forged, 1_200)),
        ("UPLOAD, 16 KB, seal forged", _upload(forged, LARGEST)),
        ("CANCEL, seal forged", wire.encode_cancel(wire.Cancel(FLOW, forged))),
        ("opening, attempt 11", request(blob, start=c.stop, opens=True, attempt=11)),
        ("opening, too soon", request(blob, start=c.stop, opens=True, attempt=2)),
        ("claim from what only opens", request(blob, start=c.stop)),
    ]


def _lies(target: Server) -> list[tuple[str, bytes]]:
    """Of a client that has all continuations and nonces of a long download."""
    client = _Client(target)
    client.open()
    client.go_on(WINDOW)
    spent = client.claim(client.claimed)
    stop = min(end for end in client.bursts if end > client.claimed)
    c, blob = client.bursts[stop]
    reach = max(0, c.burst - LONGEST_REACH)
    bad = client.proof(stop) ^ 1
    earlier = tuple(
        Earlier(max(1, c.burst - n * LONGEST_REACH), c.burst - (n - 1) * LONGEST_REACH, EVERYTHING)
        for n in (2, 1)
    )
    opener = client.opening(c, blob, proof=bad)
    closed = _Client(target)
    closed.open()
    first = min(closed.bursts)
    late = closed.claim(first)
    closed._send(closed.opening(*closed.bursts[first], proof=closed.proof(first)))
    return [
        ("claim, spent", spent),
        ("claim, of a closed generation", late),
        ("claim, wrong proof", client.claim(stop, proof=bad)),
        ("claim, wrong proof, reaching back", client.claim(stop, proof=bad, start=reach)),
        ("claim, reaching over what was claimed", client.claim(stop, start=reach)),
        ("claim, the same, with earlier claims", client.claim(stop, start=reach, earlier=earlier)),
        ("claim, impossible loss", client.claim(stop, lost=stop + 1_000_000)),
        ("opening, wrong proof", opener),
        ("opening, by another's copy", client.opening(*closed.bursts[first], proof=1)),
    ]
