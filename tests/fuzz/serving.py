"""A server whose peers do anything: honest, lying, repeating, mixing, on clocks that step.

Each step is a method that takes three small numbers, so that hypothesis and a fuzzer can both
choose them. What is held against the server, after each step:

- nothing is raised, whatever the bytes, and no refusal is longer than what it refuses;
- an address that has not proved itself gets three times the bytes of its datagram at most;
- every byte of DATA is the response's;
- between two kills no number goes out twice, unless a client contradicts itself and halves its own
  window, and none goes out beyond it;
- no claim of a generation is served after a later one was opened from it;
- nothing is kept of any peer.

The two before the last hold for what the replay filter says that it remembers, and no longer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tests.transport.driver import (
    ADDRESS,
    CONFIG,
    NOW,
    Burst,
    Bytes,
    Peer,
    datagrams,
    hello,
    keyring,
    replay_filter,
    server,
)
from trickles_web.config import BASE_DATAGRAM
from trickles_web.transport import continuation as sealing
from trickles_web.transport import wire
from trickles_web.transport.continuation import Continuation
from trickles_web.transport.epochs import INITIAL_WINDOW, LARGEST_WINDOW, WINDOW_PER_BURST, window
from trickles_web.transport.keys import MOST_TAGS
from trickles_web.transport.presented import AMPLIFICATION
from trickles_web.transport.redeemed import UNLIMITED
from trickles_web.transport.server import Redeemed
from trickles_web.transport.wire import Earlier, Kind

STEPS_MS = (1, 5, 20, 100, 1000, 9_999, 60_001, 90_000)
ADDRESSES = (ADDRESS, (ADDRESS[0], 5000), ("198.51.100.9", 4711))
CAPACITIES = (24, 1 << 12)
"""Of the filter: one that overflows in a few steps, and one that does not."""
MOST_HELD = 8
"""Redeemed datagrams whose burst is still to come."""

KEYRING = keyring()
Opened = tuple[int, int]
"""Incarnation, and 32 bits of the generation."""


class Serving:
    """See the module."""

    def __init__(self, capacity: int) -> None:
        self.config = replace(CONFIG, replay_capacity=capacity)
        replay = replay_filter(self.config)
        self.server = server(keys=KEYRING, replay=replay, config=self.config)
        self.replay = replay
        self.peers = [Peer(self.server), Peer(self.server)]
        """Two clients with one flow id."""
        self.now = NOW
        self.told: list[bytes] = []
        """All datagrams that were ever sent to the server."""
        self.held: list[tuple[Peer, Redeemed]] = []
        self.response = Bytes()
        self.sent: dict[int, int] = {}
        """Nonces of all DATA since the last kill, one for each number, and when they went out."""
        self.arrived: dict[tuple[int, int], int] = {}
        """By incarnation and epoch: the end of all claims without a loss."""
        self.closed: dict[Opened, int] = {}
        """Generations that were closed, and when."""
        self.children: dict[Opened, dict[int, tuple[int, int]]] = {}
        """What was opened: generations by attempt, and when."""

    # ---- steps

    def hello(self, who: int, length: int, form: int) -> None:
        """First contact, perhaps with a token, or too short; of somebody new, or once more."""
        peer = self._peer(who)
        held = self._bursts(peer)
        token = held[length % len(held)].blob if held and form & 1 else b""
        if form & 4:
            peer = self.peers[who % 2] = Peer(self.server)
        size = (BASE_DATAGRAM, 300, 1400)[form % 3]
        self._tell(peer, hello(token=token, attempt=form % 4, length=size), 0)

    def go_on(self, who: int, which: int, form: int) -> None:
        """Some honest steps: from nothing to an open window, or from that to more."""
        peer = self._peer(who)
        for _ in range(1 + form % 6):
            _, burst = self._burst(who, which % 4)
            self.now += form // 8
            if burst is None:
                self._tell(peer, hello(), 0)
            elif burst.continuation.refreshed:
                self._tell(peer, peer.opening(burst), 0)
            else:
                self.claim(who, which % 4, 1)

    def claim(self, who: int, which: int, form: int) -> None:
        """An honest claim of some burst, which may be old, or have been claimed before."""
        peer, burst = self._burst(who, which)
        if burst is not None:
            c = burst.continuation
            lost = peer.first_loss(c, c.stop)
            start = c.burst if form % 3 else max(c.epoch.start, peer.accounted.get(c.ordinal, 0))
            self._tell(peer, peer.claim(burst, start=min(start, c.stop), lost=lost), 0)

    def open(self, who: int, which: int, form: int) -> None:
        """An honest opening."""
        peer, burst = self._burst(who, which)
        if burst is not None:
            c = burst.continuation
            lost = -1 if c.refreshed else peer.first_loss(c, c.stop)
            request = peer.opening(burst, attempt=form % 12, lost=lost, pad_to=600 * (form % 3))
            self._tell(peer, request, form // 64)

    def lie(self, who: int, which: int, form: int) -> None:
        """A claim or an opening whose loss report, start, proof or earlier claims are made up."""
        peer, burst = self._burst(who, which)
        if burst is None:
            return
        c = burst.continuation
        lost = max(0, c.stop - form % 32) if form & 1 else -1
        end = c.stop if lost < 0 else min(lost, c.stop)
        proof = peer.proof(c.ordinal, c.epoch.base, end) ^ (form & 2)
        earlier = (Earlier(max(0, c.burst - form % 7), c.burst, ((0, 5000),)),) if form & 4 else ()
        start = max(0, c.burst - form // 8)
        request = peer.claim(
            burst,
            start=start,
            lost=lost,
            proof=proof,
            earlier=earlier,
            opens=form & 64 > 0,
            attempt=form % 12 if form & 64 else 0,
            size=(0, 1452, 65_000)[form % 3],
        )
        self._tell(peer, request, form // 128)

    def upload(self, who: int, which: int, form: int) -> None:
        peer, burst = self._burst(who, which)
        if burst is not None:
            blob = burst.blob
            datagram = wire.encode_upload(
                wire.Upload(b"flow-id.", form, form * 100, None, blob, b"x" * (form * 4))
            )
            self._tell(peer, datagram, form % 3)

    def cancel(self, who: int, which: int, form: int) -> None:
        peer, burst = self._burst(who, which)
        if burst is not None:
            self._tell(peer, wire.encode_cancel(wire.Cancel(b"flow-id.", burst.blob)), form % 3)

    def repeat(self, who: int, which: int, form: int) -> None:
        """Any datagram that was ever sent, from any address."""
        if self.told:
            self._tell(self._peer(who), self.told[-1 - which % len(self.told)], form % 3)

    def alter(self, who: int, which: int, form: int) -> None:
        """One with a byte changed, or its end cut."""
        if not self.told:
            return
        changed = bytearray(self.told[-1 - which % len(self.told)])
        if form < 192 and changed:
            changed[form * len(changed) // 192] ^= which or 1
        else:
            del changed[(form - 192) * len(changed) // 64 :]
        self._tell(self._peer(who), bytes(changed), who // 2)

    def hold(self, who: int, which: int, form: int) -> None:
        """Redeem a datagram that was sent before or is new, but do not send its burst yet."""
        peer, burst = self._burst(who, which)
        datagram = self.told[-1 - which % len(self.told)] if self.told else hello()
        if burst is not None and form & 1:
            c = burst.continuation
            datagram = peer.claim(burst, lost=peer.first_loss(c, c.stop))
        result = self._redeem(datagram, ADDRESSES[form % 3])
        if isinstance(result, Redeemed) and len(self.held) < MOST_HELD:
            self.held.append((peer, result))

    def release(self, who: int, which: int, form: int) -> None:
        """The burst of what was held, whatever happened since."""
        if self.held:
            peer, result = self.held.pop(which % len(self.held))
            self._burst_of(peer, result)

    def lose(self, who: int, which: int, form: int) -> None:
        """From now on this peer loses some packets."""
        every = 2 + form % 50
        self._peer(who).lose = lambda data: (data.burst + data.place) % every == 0

    def pass_time(self, who: int, which: int, form: int) -> None:
        self.now += STEPS_MS[form % len(STEPS_MS)]

    def step_back(self, who: int, which: int, form: int) -> None:
        """The clock, as far as replicas' clocks may differ.

        Not with a filter that overflows: what it still knows, it tells by the clock.
        """
        if self.config.replay_capacity > min(CAPACITIES):
            self.now -= form * self.config.clock_skew_ms // 255

    def kill(self, who: int, which: int, form: int) -> None:
        """A process that has just started remembers nothing, and has another name."""
        self.replay.wipe()
        self.server.replica += 1
        for kept in (self.sent, self.arrived, self.closed, self.children):
            kept.clear()
        self.held.clear()

    # ---- what is common to them

    def _peer(self, who: int) -> Peer:
        return self.peers[who % 2]

    def _bursts(self, peer: Peer) -> list[Burst]:
        return sorted(peer.bursts.values(), key=lambda burst: burst.continuation.minted)

    def _burst(self, who: int, which: int) -> tuple[Peer, Burst | None]:
        """One that a peer holds, counted from the newest."""
        peer = self._peer(who)
        held = self._bursts(peer)
        return peer, held[-1 - which % len(held)] if held else None

    def _redeem(self, datagram: bytes, address: tuple[str, int]) -> Redeemed | None:
        self.told.append(datagram)
        result = self.server.redeem(datagram, address, self.now)
        if isinstance(result, Redeemed):
            if result.allowance != UNLIMITED:
                most = max(AMPLIFICATION * len(datagram), 10 * self._size_of(result))
                assert result.allowance <= most
                if result.host_tag != self._sealed_tag(result):
                    assert result.allowance <= AMPLIFICATION * len(datagram)
            return result
        assert result.reply is None or len(result.reply) <= len(datagram)
        return None

    @staticmethod
    def _size_of(result: Redeemed) -> int:
        return 0 if result.continuation is None else result.continuation.size

    @staticmethod
    def _sealed_tag(result: Redeemed) -> int:
        return -1 if result.continuation is None else result.continuation.host_tag

    def _tell(self, peer: Peer, datagram: bytes, address: int) -> None:
        result = self._redeem(datagram, ADDRESSES[address % 3])
        if result is None:
            return
        if result.kind == Kind.REQUEST:
            self._burst_of(peer, result)
        else:
            self._acknowledge(peer, result)

    def _acknowledge(self, peer: Peer, result: Redeemed) -> None:
        before = result.allowance
        reply = self.server.acknowledge(result, 5, b"progress", self.now)
        if reply is None:
            return
        assert len(reply) <= min(len(result.datagram), before)
        blob = wire.decode_ack(reply).continuation
        if blob:
            c = sealing.parse(blob)
            peer.bursts[c.ordinal, c.stop] = Burst(c, blob)

    def _burst_of(self, peer: Peer, result: Redeemed) -> None:
        allowed = result.allowance
        out = datagrams(self.server.burst(result, self.response, self.now))
        assert sum(map(len, out)) <= allowed
        c = result.continuation
        if not out or c is None:
            return
        first = wire.decode_data(out[0])  # the answers may have been judged again since
        opens = first.ordinal != c.ordinal
        contradicts = not opens and self._contradicts(c, wire.decode_request(result.datagram))
        w = window(c.epoch, c.stop)
        # What the filter may have forgotten opens a small window, perhaps once more.
        old = opens and (
            self.now - c.minted > self.config.replay_horizon_ms
            or c.minted < self.replay.remembers_from
        )
        assert not old or first.cwnd0 <= INITIAL_WINDOW
        self._judge_generations(c, first, opens, old)
        for data in peer.take(out):
            if data.flags & wire.FLAG_PROBE:
                continue
            stop = data.offset + len(data.payload)
            assert stop == data.offset or data.payload == self.response.read(data.offset, stop)
            number = data.burst + data.place
            known = self._remembered(self.sent.get(data.nonce))
            assert contradicts or not known, "a number went out twice"
            self.sent[data.nonce] = self.now
            if opens:
                assert number < data.cwnd0 <= LARGEST_WINDOW
            else:
                assert number <= c.stop + w + w // WINDOW_PER_BURST, "beyond the window"

    def _contradicts(self, c: Continuation, m: wire.Request) -> bool:
        """Is a loss reported of what was claimed to have arrived? That halves the window for
        nothing, and may bring a number again that went out before.
        """
        epoch = (c.incarnation, c.epoch.key)
        if m.lost >= 0:
            return m.lost < self.arrived.get(epoch, 0)
        self.arrived[epoch] = max(self.arrived.get(epoch, 0), c.stop)
        return False

    def _judge_generations(self, c: Continuation, first: wire.Data, opens: bool, old: bool) -> None:
        parent = (c.incarnation, c.generation & 0xFFFF_FFFF)
        if not opens:
            known = self._remembered(self.closed.get(parent))
            assert not known, "a claim of a closed generation was served"
            return
        if first.attempt == 0 and not old:
            known = self._remembered(self.closed.get(parent))
            assert not known, "a closed generation was opened from"
        siblings = self.children.setdefault(parent, {})
        remembered = [attempt for attempt, (_, at) in siblings.items() if self._remembered(at)]
        highest = max([first.attempt, *remembered])
        siblings[first.attempt] = first.generation, self.now
        lower = [name for attempt, (name, _) in siblings.items() if attempt < highest]
        for closed in (parent, *((c.incarnation, name) for name in lower)):
            self.closed[closed] = self.now
        if old:  # it may have had this name before
            self.closed.pop((c.incarnation, first.generation), None)

    def _remembered(self, at: int | None) -> bool:
        """Must the server still know of what happened then? None: it never did."""
        return at is not None and at >= self.replay.remembers_from

    def end(self) -> None:
        """What is kept has the same size whoever came by."""
        assert len(self.server.counters) <= len(wire.Code) + 20
        for keys in KEYRING._made.values():
            assert len(keys._tags) <= MOST_TAGS


STEPS: tuple[Callable[[Serving, int, int, int], None], ...] = (
    Serving.hello,
    Serving.go_on,
    Serving.go_on,
    Serving.go_on,
    Serving.claim,
    Serving.claim,
    Serving.open,
    Serving.open,
    Serving.lie,
    Serving.lie,
    Serving.upload,
    Serving.cancel,
    Serving.repeat,
    Serving.alter,
    Serving.hold,
    Serving.release,
    Serving.lose,
    Serving.pass_time,
    Serving.step_back,
    Serving.kill,
)


def begin(form: int) -> Serving:
    return Serving(CAPACITIES[form % len(CAPACITIES)])
