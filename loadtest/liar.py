"""A client that lies as its program says. What it knows is true; what it says need not be.

It keeps every continuation, nonce and line that it ever got, also of lines that are over. A program
says, for each thing that may happen, what to send then: see `Move`. Proofs cannot be invented (that
is tested elsewhere), so a request says what can be proven, or goes without.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Final

from loadtest.kept_lines import Held, Line, lost_as_told
from loadtest.programs import Move, Program
from loadtest.virtual import Virtual
from trickles_web.config import BASE_DATAGRAM
from trickles_web.transport import continuation as sealing
from trickles_web.transport import wire
from trickles_web.transport.continuation import Continuation
from trickles_web.transport.epochs import Epoch, after_loss, window
from trickles_web.transport.wire import Code, Data, Earlier, Kind, Wants

FIRST_RETRY_S: Final = 0.020
"""Attempts of an opening are asked for from then on, doubled each time; a server that finds it too
soon says when."""
MOST_ATTEMPTS: Final = 10
HOARDED: Final = 4000
"""Continuations kept, of all lines."""
MOST_SENT: Final = 1_500
"""Datagrams a second that get through to the server: programs may be arbitrarily noisy."""
SILENCE_ROUNDS: Final = 4
"""Round trips of silence after which any program tries an attempt: else it would be over."""


class Liar:
    """See the module."""

    def __init__(self, world: Virtual, program: Program) -> None:
        self._world = world
        self._program = program
        self._flow = world.clock.bytes(8)
        self._lines: dict[tuple[int, int], Line] = {}
        self._line: Line | None = None
        self._all: deque[Held] = deque(maxlen=HOARDED)
        self._fresh: Held | None = None
        self._sent: deque[tuple[bytes, int]] = deque(maxlen=200)
        self._echoes: dict[bytes, tuple[bytes, int]] = {}
        self._attempts: dict[tuple[int, int], int] = {}
        self._heard = 0.0
        self._offset = 0
        self._serial = self._count = 0
        self._replica = 0

    def turn(self, program: Program) -> None:
        """From now on it follows another program."""
        self._program = program

    # ---- what happens

    def start(self) -> None:
        self._send(self._hello())
        self._tick()
        self._watch()

    def _hello(self) -> bytes:
        return wire.encode_hello(wire.Hello(self._flow, 0, 1472, b"", b"x"), BASE_DATAGRAM)

    def _tick(self) -> None:
        self._fire("tick", None)
        self._world.clock.after(self._program.every * self._world.rtt, self._tick)

    def _watch(self) -> None:
        """A program that has talked itself into silence goes on by an attempt."""
        clock, patience = self._world.clock, SILENCE_ROUNDS * self._world.rtt
        if self._program.moves and clock.now - self._heard >= patience:
            newest = self._all[-1] if self._all else self._fresh
            if newest is None:
                self._send(self._hello())
            else:
                self._attempt(newest, Move("attempt"))
            self._heard = clock.now
        clock.after(patience / 4, self._watch)

    def receive(self, datagram: bytes) -> None:
        kind = wire.kind_of(datagram)
        if kind == Kind.DATA:
            data = wire.decode_data(datagram)
            if not data.flags & wire.FLAG_PROBE:
                self._heard = self._world.clock.now
                self._data(data)
        elif kind == Kind.ACK:
            ack = wire.decode_ack(datagram)
            if ack.continuation:
                first = self._fresh is None
                self._fresh = self._hold(ack.continuation, None)
                if first:
                    self._open(self._fresh, self._program.first)
                self._fire("refreshed", self._fresh)
        elif kind == Kind.REFUSED:
            refused = wire.decode_refused(datagram)
            again = self._echoes.pop(refused.echo, None)
            if refused.code == Code.TOO_SOON and again is not None:
                self._later(refused.retry_after / 1000 + 1e-4, lambda: self._send(*again))

    def _data(self, data: Data) -> None:
        name = (data.ordinal, data.generation)
        line = self._lines.get(name)
        begun = line is None
        if line is None:
            line = self._lines[name] = Line(data.ordinal)
        if self._line is None or data.ordinal >= self._line.ordinal:
            self._line = line
        epoch = Epoch(0, data.start, data.base, data.cwnd0, data.ssthresh)
        received = line.of(epoch)
        received.take(data.burst + data.place, data.nonce)
        if data.short:
            line.ended = data.burst + data.short
        if data.continuation:
            held = self._hold(data.continuation, line)
            insort(line.held, held)
            self._all.append(held)
        if begun:
            self._fire("begun", line.held[0] if line.held else None)
        missed = received.later >= self._program.patience and received.lost < 0
        if missed and received.told != received.reach:
            received.told = received.reach
            self._fire("gap", line.held[-1] if line.held else None)
        self._claimable(line)
        if line.ended >= 0 and not line.dry and received.highest >= line.ended - 1:
            line.dry = True
            self._fire("dry", line.held[-1] if line.held else None)

    def _hold(self, blob: bytes, line: Line | None) -> Held:
        c = sealing.parse(blob)
        self._serial += 1
        return Held(c.stop, self._serial, c, blob, line, self._world.clock.now)

    def _claimable(self, line: Line) -> None:
        """Tell the program of each burst that it may claim, lowest first."""
        moves = self._program.moves.get("burst", ())
        if not moves or line.ended >= 0:
            return
        for held in line.held[-64:]:
            c = held.continuation
            if held.stop <= line.accounted or not self._may_claim(line, c):
                continue
            w = window(c.epoch, c.stop)
            enough = min(self._program.gather, max(1, w - 1))
            if held.stop - line.accounted >= enough:
                self._fire("burst", held)
                line.accounted = held.stop

    def _may_claim(self, line: Line, c: Continuation) -> bool:
        r = line.of(c.epoch)
        if r.lost >= 0:
            return r.lost in r.proofs and c.stop <= after_loss(r.epoch, r.lost).base
        return r.reach >= c.stop

    def _fire(self, event: str, held: Held | None) -> None:
        for move in self._program.moves.get(event, ()):
            if move.late:
                self._later(move.late * self._world.rtt, partial(self._make, move, held))
            else:
                self._make(move, held)

    def _later(self, delay: float, action: Callable[[], None]) -> None:
        self._world.clock.after(max(delay, 0.0), action)

    # ---- moves

    def _make(self, move: Move, this: Held | None) -> None:
        if move.act == "replay":
            for datagram, replica in list(self._sent)[-3:]:
                self._transmit(datagram, replica)
            return
        if move.act == "report":
            self._report(move)
            return
        held = self._pick(move.pick, this)
        if held is None:
            return
        for _ in range(move.copies):
            if move.act == "claim":
                self._claim(held, move)
            elif move.act == "open":
                self._open(held, move)
            elif move.act == "attempt":
                self._attempt(held, move)
            else:
                upload = wire.Upload(self._flow, 1, 0, None, held.blob, b"x")
                self._send_everywhere(wire.encode_upload(upload), move)

    def _pick(self, pick: str, this: Held | None) -> Held | None:
        line, random = self._line, self._world.clock.random
        if pick == "this":
            return this
        if pick == "fresh":
            return self._fresh
        if not self._all or line is None:
            return None
        if pick == "random":
            return random.choice(self._all)
        if pick == "oldest":
            return self._all[0]
        if pick == "widest":
            return max(islice(reversed(self._all), 64), key=_width)
        if pick == "previous":
            others = (held for held in reversed(self._all) if held.line is not line)
            return next(others, None)
        if not line.held:
            return None
        if pick == "newest":
            return line.held[-1]
        if pick == "first":
            return line.held[0]
        provable = [h for h in line.held[-128:] if line.of(h.continuation.epoch).reach >= h.stop]
        if pick == "before" and len(provable) > 1:
            return provable[-2]
        return provable[-1] if provable else line.held[-1]

    def _report(self, move: Move) -> None:
        """From now on claims of the newest epoch say that this number was lost."""
        if self._line is None or not self._line.received:
            return
        received = list(self._line.received.values())[-1]
        if received.lost < 0:
            received.lost = max(
                received.epoch.base, lost_as_told(move.lost, received, received.reach)
            )

    def _claim(self, held: Held, move: Move) -> None:
        line, c = held.line, held.continuation
        if line is None:
            return
        r = line.of(c.epoch)
        lost = r.lost if move.lost == "true" else lost_as_told(move.lost, r, c.stop)
        start = {
            "accounted": min(line.accounted, c.burst),
            "own": c.burst,
            "under": min(line.accounted, c.burst) - 3,
            "parent": c.epoch.start,
            "over": c.burst + 1,
        }[move.start]
        start = max(0, start, c.epoch.start, c.burst - 256)
        proof = r.proofs.get(c.stop if lost < 0 else lost, 0)
        earlier: tuple[Earlier, ...] = ()
        wants = self._wants(move.wants)
        if move.earlier != "none" and line.claims:
            a, b = line.claims[-1]
            others = [(a, b)] + ([(a, b)] if move.earlier == "twice" else [])
            if move.earlier == "overlap":
                others = [(max(0, start - 4), start)]
            earlier = tuple(Earlier(x, y, wants[:8]) for x, y in others if x < y)
        line.claims.append((start, c.stop))
        self._request(held, move, proof, lost, start, earlier, wants)

    def _open(self, held: Held, move: Move) -> None:
        c, line = held.continuation, held.line
        proof, lost = 0, -1
        if line is not None:
            r = line.of(c.epoch)
            if move.lost == "true":
                lost = r.lost if r.lost >= 0 else -1 if r.reach >= c.stop else r.reach
            else:
                lost = lost_as_told(move.lost, r, c.stop)
            proof = r.proofs.get(c.stop if lost < 0 else min(lost, c.stop), 0)
        wants = self._wants(move.wants)
        self._request(held, move, proof, lost, c.stop, (), wants, opens=True)

    def _attempt(self, held: Held, move: Move) -> None:
        """The next attempt from this continuation, as soon as it may be."""
        c = held.continuation
        name = (c.ordinal, c.stop)
        attempt = self._attempts[name] = min(self._attempts.get(name, 0) + 1, MOST_ATTEMPTS)
        due = held.at + FIRST_RETRY_S * 2 ** (attempt - 1) - self._world.rtt
        wants = self._wants(move.wants)

        def send() -> None:
            self._request(held, move, 0, -1, c.stop, (), wants, opens=True, attempt=attempt)

        self._later(due - self._world.clock.now, send)

    def _wants(self, kind: str) -> Wants:
        at = self._offset
        if kind == "next":
            self._offset += 1 << 16
            return ((at, at + (1 << 24)),)
        if kind == "same":
            return ((0, 1 << 20),) * 4
        if kind == "one":
            return ((at, at + 1000),)
        if kind == "half":
            return (*((at + i, at + i + 705) for i in range(31)), (at, at + (1 << 20)))
        if kind == "tiny":
            return (*((at + i, at + i + 1) for i in range(31)), (at, at + (1 << 20)))
        return tuple((at + 100 * i, at + 100 * i + 3000) for i in range(32))

    # ---- datagrams

    def _request(
        self,
        held: Held,
        move: Move,
        proof: int,
        lost: int,
        start: int,
        earlier: tuple[Earlier, ...],
        wants: Wants,
        opens: bool = False,
        attempt: int = 0,
    ) -> None:
        message = wire.Request(
            *(self._flow, opens, False, False, attempt, move.size, proof, 0, lost, start, 0),
            *(held.blob, wants, earlier, 0, b""),
        )
        pad_to = BASE_DATAGRAM if opens else 0
        self._send_everywhere(wire.encode_request(message, pad_to), move)

    def _send_everywhere(self, datagram: bytes, move: Move) -> None:
        count = len(self._world.servers)
        if move.where == "all":
            for replica in range(count):
                self._send(datagram, replica)
        elif move.where == "random":
            self._send(datagram, self._world.clock.random.randrange(count))
        else:
            self._send(datagram, self._replica)

    def _send(self, datagram: bytes, replica: int = 0) -> None:
        if wire.kind_of(datagram) != Kind.HELLO:  # each is another flow
            self._sent.append((datagram, replica))
        self._echoes[wire.echo_of(datagram)] = (datagram, replica)
        if len(self._echoes) > HOARDED:
            del self._echoes[next(iter(self._echoes))]
        self._transmit(datagram, replica)

    def _transmit(self, datagram: bytes, replica: int) -> None:
        self._count += 1
        if self._count <= MOST_SENT * (1 + self._world.clock.now):
            self._world.up(datagram, replica)


def _width(held: Held) -> int:
    return window(held.continuation.epoch, held.stop)
