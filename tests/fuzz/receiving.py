"""A client between an honest server and somebody who drops, repeats, reorders, alters and invents.

Each step is a method that takes three small numbers, as in `serving`. Held against the client:

- nothing is raised, whatever arrives, and no loop is without end;
- unless datagrams were altered or invented, the bytes handed on are the response's, in order, and
  in the end it has all of them, or an error that says what happened;
- what it keeps and what it sends are bounded by what it was given.
"""

from __future__ import annotations

import gc
from collections.abc import Callable

from tests.transport.driver import (
    ADDRESS,
    EVERYTHING,
    FLOW,
    NOW,
    Bytes,
    datagrams,
    keyring,
    readable,
    server,
)
from trickles_web.config import ClientConfig
from trickles_web.errors import FlowError
from trickles_web.transport import wire
from trickles_web.transport.epochs import Epoch
from trickles_web.transport.flow import Flow
from trickles_web.transport.server import Redeemed
from trickles_web.transport.wire import Code, Kind

REQUEST_BYTES = 3000
RESPONSE_BYTES = 60_000
RECEIVE_BUFFER = 20_000
MOST_ON_THE_WAY = 200
MOST_OUT = 20_000
"""Datagrams of a whole program; the honest exchange needs a hundred."""
MOST_OBJECTS = 20_000
"""That hang on a flow."""
SILENCE_S = 70.0
"""Longer than a client waits for a server."""
NUMBERS = (0, 1, 5, 10, 46, 1000, (1 << 31) - 1, (1 << 32) - 1)
OFFSETS = (0, 1, 1000, 30_000, RESPONSE_BYTES, 1 << 31, (1 << 62) - 1, (1 << 64) - 1)


class Receiving:
    """See the module."""

    def __init__(self) -> None:
        self.server = server(keys=keyring())
        self.flow = Flow(FLOW, ClientConfig(receive_buffer_bytes=RECEIVE_BUFFER), 0.0)
        self.response = Bytes(end=RESPONSE_BYTES)
        self.response.request_wanted = REQUEST_BYTES
        self.now = 0.0
        self.up: list[bytes] = []
        self.down: list[bytes] = []
        self.seen: list[bytes] = []
        """All that the server ever sent."""
        self.delivered = 0
        self.out = 0
        self.lied_to = False
        self.taken = bytearray(REQUEST_BYTES)
        """Request bytes at the server: 1 where one is."""
        self.flow.write(bytes(x % 251 for x in range(REQUEST_BYTES)))
        self._send()

    # ---- steps

    def serve(self, which: int, place: int, form: int) -> None:
        """The server gets a datagram; not always the oldest."""
        for _ in range(1 + form % 4):
            if self.up:
                self._serve(self.up.pop(which % min(len(self.up), 1 + place % 3)))

    def deliver(self, which: int, place: int, form: int) -> None:
        """The client gets some."""
        for _ in range(1 + form % 16):
            if self.down:
                self._receive(self.down.pop(which % min(len(self.down), 1 + place % 3)))

    def deliver_train(self, which: int, place: int, form: int) -> None:
        """Datagrams of one length, as one."""
        if self.down:
            size = len(self.down[0])
            count = 1
            while count < len(self.down) and len(self.down[count - 1]) == size >= len(
                self.down[count]
            ):
                count += 1
            train, self.down = b"".join(self.down[:count]), self.down[count:]
            self.flow.receive_train(train, size, self.now)
            self._send()

    def drop(self, which: int, place: int, form: int) -> None:
        for queue in (self.up, self.down):
            if queue and form & 1:
                del queue[which % len(queue)]
            form //= 2

    def repeat(self, which: int, place: int, form: int) -> None:
        """Something that arrived long ago arrives again."""
        if self.seen:
            self._receive(self.seen[(which * 256 + place) % len(self.seen)])

    def pass_time(self, which: int, place: int, form: int) -> None:
        """Up to the next timer, or beyond."""
        at = self.flow.timeout()
        beyond = (0.0, 0.01, 0.3, 2.0)[form % 4]
        self.now = (self.now if at is None else max(self.now, at)) + beyond
        self._send()

    def kill(self, which: int, place: int, form: int) -> None:
        """The server forgets all."""
        self.server = server(keys=keyring(), replica=form)
        self.taken = bytearray(REQUEST_BYTES)

    def refuse(self, which: int, place: int, form: int) -> None:
        """The server does not want to."""
        if self.up:
            datagram = self.up.pop(which % len(self.up))
            result = self.server.redeem(datagram, ADDRESS, self._clock())
            if isinstance(result, Redeemed):
                code = (Code.BUSY, Code.TOO_SOON, Code.EXPIRED)[form % 3]
                self._reply(self.server.refuse(result, code, place))

    def put_off(self, which: int, place: int, form: int) -> None:
        if self.up:
            datagram = self.up.pop(which % len(self.up))
            result = self.server.redeem(datagram, ADDRESS, self._clock())
            if isinstance(result, Redeemed):
                self._reply(self.server.wait(result, form * 4, self._clock()))

    def alter(self, which: int, place: int, form: int) -> None:
        """A datagram on its way back gets a byte changed, or loses its end."""
        self.lied_to = True
        if self.seen:
            changed = bytearray(self.seen[-1 - which % len(self.seen)])
            if form < 192 and changed:
                changed[form * len(changed) // 192] ^= place or 1
            else:
                del changed[(form - 192) * len(changed) // 64 :]
            self._receive(bytes(changed))

    def invent_data(self, which: int, place: int, form: int) -> None:
        self.lied_to = True
        epoch = Epoch(0, *(NUMBERS[n % 8] for n in (which, which // 8, 3, form)))
        burst = NUMBERS[place % 8]
        blob = b""
        if form & 1:
            blob = readable(
                flags=form // 8,
                epoch=Epoch(0, 0, 0, 10, 10),
                burst=burst,
                stop=burst + 1 + place // 32,
                ordinal=form % 3,
                response_end=(-1, 100, RESPONSE_BYTES)[which % 3],
                request_wanted=OFFSETS[form % 8],
                edition=place % 3,
            )
        prefix = wire.data_prefix(
            FLOW,
            *(form % 3, 1, epoch.start, epoch.base, epoch.cwnd0 & 0xFFFF, epoch.ssthresh & 0xFFFF),
            *(0, form // 64, 0, place % 3, burst, 1 + place // 32, which % 4),
        )
        own = wire.DATA_PACKET.pack(place // 64, 7, OFFSETS[which % 8], len(blob))
        self._receive(prefix + own + blob + bytes(form))

    def invent_ack(self, which: int, place: int, form: int) -> None:
        self.lied_to = True
        blob = b""
        if form & 1:
            numbers = {"burst": NUMBERS[place % 8], "stop": NUMBERS[place % 8] + place // 16}
            blob = readable(flags=form, request_wanted=OFFSETS[which % 8], **numbers)
            blob += bytes(which * (form // 64))
        room = (-1, 0, 1000, (1 << 32) - 1)[form // 2 % 4]
        ack = wire.Ack(FLOW, form & 8 > 0, OFFSETS[place // 8 % 8], room, (which % 9, 3), blob)
        self._receive(wire.encode_ack(ack))

    def invent_others(self, which: int, place: int, form: int) -> None:
        self.lied_to = True
        starts = [OFFSETS[n % 7] for n in (which, place)]
        echo = wire.echo_of(self.up[-1]) if self.up else bytes(8)
        self._receive(
            (
                wire.encode_need(FLOW, [(x, x + 1 + form * 100) for x in starts if x < 1 << 61]),
                wire.encode_wait(wire.Wait(FLOW, form % 3, which, NUMBERS[place % 8], form * 250)),
                wire.encode_refused(wire.Refused(FLOW, which % 18, form * 250, echo)),
                wire.encode_preferred(wire.Preferred(FLOW, echo, bytes(6))),
            )[form % 4]
        )

    # ---- what is common to them

    def _clock(self) -> int:
        return NOW + int(self.now * 1000)

    def _reply(self, reply: bytes | None) -> None:
        if reply is not None:
            self.down.append(reply)
            self.seen.append(reply)

    def _serve(self, datagram: bytes) -> None:
        now = self._clock()
        result = self.server.redeem(datagram, ADDRESS, now)
        if not isinstance(result, Redeemed):
            self._reply(result.reply)
            return
        start, carried = result.request_offset, result.request_bytes
        assert carried == bytes(x % 251 for x in range(start, start + len(carried)))
        if result.kind == Kind.CANCEL:
            return
        if result.validated:
            self.taken[start : start + len(carried)] = b"\1" * len(carried)
        held = (self.taken + b"\0").index(0)
        if held < REQUEST_BYTES and result.wants != EVERYTHING and result.kind == Kind.REQUEST:
            self._reply(self.server.need(result, [(held, REQUEST_BYTES)]))
        elif result.kind != Kind.REQUEST or held < REQUEST_BYTES:
            self._reply(self.server.acknowledge(result, held, b"", now))
        elif result.handed_on and result.edition not in (0, self.response.edition):
            self._reply(self.server.refuse(result, Code.GONE))
        else:
            for datagram in datagrams(self.server.burst(result, self.response, now)):
                self._reply(datagram)

    def _receive(self, datagram: bytes) -> None:
        self.flow.receive(datagram, self.now)
        self._send()

    def _send(self) -> None:
        """What the client says, and what its reader gets."""
        sent = self.flow.transmit(self.now)
        self.out += len(sent)
        assert self.out < MOST_OUT, "there is no end to what it sends"
        self.up += sent
        del self.up[:-MOST_ON_THE_WAY], self.down[:-MOST_ON_THE_WAY], self.seen[:-1000]
        data = self.flow.read()
        if not self.lied_to:
            assert data == bytes(x % 251 for x in range(self.delivered, self.delivered + len(data)))
        self.delivered += len(data)
        assert 0 <= self.flow.unacknowledged() <= REQUEST_BYTES
        assert self.flow.untaken() >= 0

    def end(self) -> None:
        """From now on nothing is lost and nobody lies: it comes to an end."""
        assert objects_of(self.flow) < MOST_OBJECTS
        deadline = self.now + SILENCE_S
        while self.now < deadline and not self.flow.idle and self.flow.error is None:
            before = self.delivered
            self.serve(0, 0, 3)
            self.deliver(0, 0, 15)
            if self.delivered > before:
                deadline = self.now + SILENCE_S
            elif not self.up and not self.down:
                self.pass_time(0, 0, 0)
        if self.lied_to:
            return
        if self.flow.error is None:
            assert self.flow.idle, "it hangs"
            assert self.delivered == RESPONSE_BYTES
        else:
            assert isinstance(self.flow.error, FlowError)


def objects_of(root: object) -> int:
    """How many objects can be reached from it, but for classes, modules and what they hold."""
    seen = {id(root)}
    waiting = [root]
    while waiting:
        for found in gc.get_referents(waiting.pop()):
            kind = type(found)
            if id(found) in seen or kind is type or kind.__name__ in ("module", "function"):
                continue
            seen.add(id(found))
            waiting.append(found)
    return len(seen)


STEPS: tuple[Callable[[Receiving, int, int, int], None], ...] = (
    Receiving.serve,
    Receiving.serve,
    Receiving.serve,
    Receiving.deliver,
    Receiving.deliver,
    Receiving.deliver,
    Receiving.deliver_train,
    Receiving.drop,
    Receiving.repeat,
    Receiving.pass_time,
    Receiving.kill,
    Receiving.refuse,
    Receiving.put_off,
    Receiving.alter,
    Receiving.invent_data,
    Receiving.invent_ack,
    Receiving.invent_others,
)
HONEST = tuple(
    step
    for step in STEPS
    if step.__name__ not in ("alter", "invent_data", "invent_ack", "invent_others")
)
