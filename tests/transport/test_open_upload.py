"""Uploading an open request: never beyond the room there is, but for probes; never bytes that were
released; and through whatever becomes of datagrams, all of it."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trickles_web.http import intake
from trickles_web.http.heads import ENDLESS
from trickles_web.http.intake import Intake
from trickles_web.transport import wire
from trickles_web.transport.rtt import RoundTrip
from trickles_web.transport.upload import PROBE_ROOM, RequestStream, Uploader

WHOLE = random.Random(7).randbytes(60_000)
FLOW, BLOB = b"flow-id!", bytes(160)
MOST_STEPS = 20_000

Ack = tuple[tuple[int, ...], int, int]
"""Numbers, held, room."""


class Exchange:
    """A client's upload, an owner's intake, and between them what a test makes of it.

    No news of room is ever sent for its own sake: all that is told is in answers to UPLOADs.
    """

    def __init__(self, seed: int, window: int, size: int) -> None:
        self.draw = random.Random(seed)
        self.stream = RequestStream()
        self.round_trip = RoundTrip()
        self.uploader = Uploader(self.stream, self.round_trip)
        self.owner = Intake(0, ENDLESS, 0)
        self.whole = WHOLE[:size]
        self.got = b""
        self.now = 0.0
        self.told = 0
        self.up: list[wire.Upload] = []
        self.down: list[Ack] = []
        self.sent = 0
        self.hear(((), 0, window))

    def write(self, size: int) -> None:
        end = self.stream.end
        self.stream.write(self.whole[end : end + size])

    def hear(self, ack: Ack) -> None:
        """As a flow does."""
        numbers, held, room = ack
        self.told = max(self.told, held + room)
        self.uploader.begin(held, held + room)
        self.stream.release(held)
        self.uploader.acknowledged(numbers, held, self.now)
        self.send()

    def send(self) -> None:
        for datagram in self.uploader.transmit(FLOW, BLOB, self.now):
            upload = wire.decode_upload(datagram)
            start, stop = upload.offset, upload.offset + len(upload.request)
            assert self.stream.start <= start < stop <= self.stream.end
            assert upload.request == self.whole[start:stop]
            assert stop <= max(self.told, self.stream.start + PROBE_ROOM)
            self.up.append(upload)
            self.sent += 1

    def arrive(self, upload: wire.Upload) -> None:
        fits = self.owner.take(upload.offset, upload.request)
        numbers = (upload.number,) if fits else ()
        self.down.append((numbers, self.owner.held, self.owner.room))

    def read(self, most: int) -> None:
        self.got += self.owner.read(most)

    def step(self, loss: float, mixed: float) -> None:
        """One thing happens: a datagram arrives or is lost, the reader reads, or time passes."""
        draw = self.draw
        choice = draw.randrange(4)
        if choice == 0:
            self.read(draw.randrange(1, 3000))
        elif choice == 1 and draw.random() < 0.5:
            self.write(draw.randrange(1, 5000))
            self.send()
        else:
            self.move(loss, mixed)

    def move(self, loss: float, mixed: float) -> None:
        draw = self.draw
        queue: list[wire.Upload] | list[Ack] = self.up if draw.random() < 0.5 else self.down
        queue = queue or self.up or self.down
        if not queue:
            self.now = max(self.now + 0.001, self.uploader.deadline() or 0.0)
            self.send()
            return
        at = draw.randrange(len(queue)) if draw.random() < mixed else 0
        datagram = queue[at] if draw.random() < mixed / 4 else queue.pop(at)
        if draw.random() >= loss:
            self.now += 0.001
            if isinstance(datagram, wire.Upload):
                self.arrive(datagram)
            else:
                self.hear(datagram)

    def run(self, loss: float, mixed: float) -> None:
        """To the end, whatever is lost."""
        for _ in range(MOST_STEPS):
            if self.got == self.whole:
                return
            self.step(loss, mixed)
        raise AssertionError(f"{len(self.got)} of {len(self.whole)} bytes have arrived")


@settings(max_examples=150)
@given(
    st.integers(0, 1 << 30),
    st.sampled_from([300, 1000, 4000, 20_000]),
    st.sampled_from([1, 3000, 30_000]),
    st.sampled_from([0.0, 0.05, 0.3]),
    st.sampled_from([0.0, 0.1, 0.8]),
)
def test_all_of_it_arrives_and_never_too_much(
    seed: int, window: int, size: int, loss: float, mixed: float
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(intake, "WINDOW", window)
        Exchange(seed, window, size).run(loss, mixed)


def stalled(window: int = 4000) -> Exchange:
    """All room is used, and told to be."""
    exchange = Exchange(1, window, len(WHOLE))
    exchange.write(len(WHOLE))
    exchange.send()
    while exchange.owner.held < window:
        exchange.arrive(exchange.up.pop(0))
        exchange.hear(exchange.down.pop(0))
    return exchange


def test_a_full_window_is_probed_at_the_pace_of_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "WINDOW", 4000)
    exchange = stalled()
    before = exchange.sent
    for _ in range(20):
        while exchange.up:
            exchange.arrive(exchange.up.pop(0))
        for numbers, held, room in exchange.down:
            assert (numbers, held, room) == ((), 4000, 0)
            exchange.hear((numbers, held, room))
        exchange.down.clear()
        deadline = exchange.uploader.deadline()
        assert deadline is not None
        exchange.now = deadline
        exchange.send()
    assert exchange.sent - before <= 2 * 21
    assert exchange.now > 20, "seconds, for so few datagrams"


def test_a_lost_window_update_is_recovered_at_full_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waited for room was no congestion: the window is what it was."""
    monkeypatch.setattr(intake, "WINDOW", 4000)
    exchange = stalled()
    for _ in range(5):  # every one of these is lost
        exchange.up.clear()
        exchange.now = exchange.uploader.deadline() or 0.0
        exchange.send()
    monkeypatch.setattr(intake, "WINDOW", 40_000)
    exchange.read(4000)
    exchange.arrive(exchange.up.pop(0))
    exchange.up.clear()
    exchange.hear(exchange.down.pop(0))
    assert len(exchange.up) >= 10, "as many as before"


def test_probes_count_for_nothing_once_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """They were dropped, most likely: nobody waits for a timer to find out."""
    monkeypatch.setattr(intake, "WINDOW", 4000)
    exchange = stalled()
    exchange.up.clear()
    exchange.read(4000)
    exchange.hear(((), 4000, 4000))
    assert exchange.up[0].offset == 4000


def test_stale_acknowledgements_do_no_harm() -> None:
    exchange = Exchange(1, 4000, len(WHOLE))
    exchange.write(8000)
    exchange.send()
    exchange.hear(((0, 1, 2, 3, 4), 4000, 262_144))
    sent, exchange.up[:] = exchange.sent, []
    for held in (0, 100, 3999):
        exchange.hear(((), held, 10))
        exchange.hear(((7_777,), held, 10))
    assert exchange.up == []
    assert exchange.sent == sent
    assert exchange.stream.start == 4000


def test_what_was_acknowledged_and_is_not_held_is_sent_again() -> None:
    exchange = Exchange(1, 20_000, len(WHOLE))
    exchange.write(8000)
    exchange.send()
    exchange.hear((tuple(range(9)), 4000, 20_000))
    exchange.up.clear()
    exchange.hear(((), 4000, 20_000))
    assert exchange.up[0].offset == 4000
    assert exchange.up[-1].offset + len(exchange.up[-1].request) == 8000


def test_what_is_asked_for_again_waits_for_room_too() -> None:
    exchange = Exchange(1, 4000, len(WHOLE))
    exchange.write(8000)
    exchange.uploader.needed(((0, 8000),))
    exchange.send()
    assert exchange.up[-1].offset + len(exchange.up[-1].request) == 4000
    exchange.up.clear()
    exchange.hear((tuple(range(5)), 4000, 4000))
    assert exchange.up[0].offset == 4000
    assert exchange.up[-1].offset + len(exchange.up[-1].request) == 8000


def test_room_counts_also_when_the_upload_began_without_a_limit() -> None:
    """The head came in several datagrams, and what was sent behind it may not have been kept."""
    stream = RequestStream()
    stream.write(WHOLE)
    uploader = Uploader(stream, RoundTrip())
    uploader.begin(1000)
    first = [wire.decode_upload(d) for d in uploader.transmit(FLOW, BLOB, 0.0)]
    assert len(first) == 10
    uploader.acknowledged(tuple(u.number for u in first[1:]), 1000, 0.1)
    uploader.begin(2000, 5000)
    stream.release(2000)
    again = [wire.decode_upload(d) for d in uploader.transmit(FLOW, BLOB, 0.1)]
    assert [u.offset for u in again] == list(range(2000, 5000, len(again[0].request)))
    assert again[-1].offset + len(again[-1].request) == 5000


def test_released_bytes_cannot_be_read() -> None:
    stream = RequestStream()
    stream.write(WHOLE[:1000])
    stream.release(400)
    assert stream.digest() is None
    assert stream.read(400, 1000) == WHOLE[400:1000]
    for start, stop in ((399, 500), (0, 1), (900, 1001), (500, 400)):
        with pytest.raises(AssertionError):
            stream.read(start, stop)
    stream.release(100)
    stream.release(5000)
    assert (stream.start, stream.end) == (1000, 1000)
    stream.write(b"more")
    assert stream.read(1000, 1004) == b"more"
