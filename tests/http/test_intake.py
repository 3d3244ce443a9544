"""What is taken of an open request: exactly its body, whatever the pieces, in bounded memory."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.http.apps import get, hello
from tests.http.peer import QUIET, Peer, Site
from trickles_web.http import intake
from trickles_web.http.heads import CHUNKED, ENDLESS
from trickles_web.http.intake import Intake
from trickles_web.state import Conflict
from trickles_web.state.spool import BLOCK_BYTES, BLOCK_OVERHEAD, ISLAND_OVERHEAD, SPOOL_OVERHEAD

WINDOW = 2000
START = 123
BEHIND = b"GET /next HTTP/1.1\r\n\r\n" * 20
"""What a client has written behind the body."""

FRAMINGS = ["length", "chunked", "endless"]


def framed(framing: str, body: bytes, draw: random.Random) -> bytes:
    """The body on the wire."""
    if framing != "chunked":
        return body
    wire, at = b"", 0
    while at < len(body):
        size = draw.choice((1, 10, 1000, draw.randrange(1, 3000)))
        piece = body[at : at + size]
        extension = draw.choice((b"", b"", b";name=value", b';n="quoted \t value"'))
        wire += b"%0*x%b\r\n%b\r\n" % (draw.choice((1, 4)), len(piece), extension, piece)
        at += size
    trailers = b"".join(b"trailer-%d: value\r\n" % i for i in range(draw.choice((0, 0, 5))))
    return wire + b"0\r\n" + trailers + b"\r\n"


class Taking:
    """An intake, what was read of it, and what must hold of it at any time."""

    def __init__(self, framing: str, size: int, seed: int) -> None:
        self.draw = random.Random(seed)
        self.framing = framing
        self.body = self.draw.randbytes(size)
        self.wire = framed(framing, self.body, self.draw)
        self.end = START + len(self.wire)
        length = {"length": size, "chunked": CHUNKED, "endless": ENDLESS}[framing]
        self.intake = Intake(START, length, max(size, 1))
        self.got = b""
        self._held, self._limit = START, self.intake.limit
        self.check()

    def take(self, offset: int, length: int) -> None:
        """Of the wire and what is behind it, from stream offset `offset` on."""
        stream = self.wire if self.framing == "endless" else self.wire + BEHIND
        piece = stream[offset - START : offset - START + length]
        whole, limit = self.intake.whole, self.intake.limit
        assert self.intake.take(offset, piece) == (whole or offset + len(piece) <= limit)
        self.check()

    def read(self, most: int) -> bytes:
        data = self.intake.read(most)
        assert len(data) <= most
        self.got += data
        self.check()
        return data

    def check(self) -> None:
        taken = self.intake
        assert self.body.startswith(self.got)
        assert taken.start <= taken.held <= taken.limit
        assert taken.held >= self._held
        assert taken.limit >= min(self._limit, self.end)
        assert taken.held <= self.end
        assert taken.room == taken.limit - taken.held
        assert taken.whole == (self.framing != "endless" and taken.held == self.end)
        assert taken.ended == (taken.whole and self.got == self.body)
        assert taken.refusal is None
        blocks = WINDOW // BLOCK_BYTES + 2
        islands = blocks * (BLOCK_BYTES + BLOCK_OVERHEAD) + WINDOW * ISLAND_OVERHEAD // 2
        assert taken.size <= SPOOL_OVERHEAD + WINDOW + islands
        self._held, self._limit = taken.held, taken.limit

    def finish(self) -> None:
        """As a client does that sends on from what is held."""
        while not self.intake.ended:
            before = self.intake.held, len(self.got)
            self.take(self.intake.held, self.draw.randrange(1, 1200))
            if self.draw.random() < 0.5 or not self.intake.room:
                self.read(self.draw.randrange(1, 3000))
            if self.framing == "endless" and self.got == self.body:
                break
            assert self.intake.room or (self.intake.held, len(self.got)) != before
        assert self.got == self.body


@given(
    st.sampled_from(FRAMINGS),
    st.integers(0, 12_000),
    st.integers(0, 1 << 30),
    st.lists(
        st.one_of(
            st.tuples(st.just("take"), st.integers(0, 12_000), st.integers(0, 1500)),
            st.tuples(st.just("near"), st.integers(-1500, 2500), st.integers(0, 1500)),
            st.tuples(st.just("read"), st.integers(0, 4000), st.just(0)),
        ),
        max_size=40,
    ),
)
def test_the_application_gets_the_body(
    framing: str, size: int, seed: int, steps: list[tuple[str, int, int]]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(intake, "WINDOW", WINDOW)
        taking = Taking(framing, size, seed)
        for step, a, b in steps:
            if step == "take":
                taking.take(START + a, b)
            elif step == "near":
                taking.take(max(START, taking.intake.held + a), b)
            else:
                taking.read(a)
        taking.finish()


@given(st.integers(1, WINDOW), st.integers(0, 1 << 30), st.booleans())
def test_other_bytes_at_the_same_place_are_a_conflict(size: int, seed: int, island: bool) -> None:
    draw = random.Random(seed)
    body = draw.randbytes(size)
    taken = Intake(START, ENDLESS, 0)
    offset = START + 10 * island
    taken.take(offset, body)
    at = draw.randrange(size)
    other = bytearray(body)
    other[at] ^= 1 + draw.randrange(255)
    low = draw.randrange(at + 1)
    with pytest.raises(Conflict):
        taken.take(offset + low, bytes(other[low:]))
    taken.take(START, draw.randbytes(10) if island else b"")
    assert taken.read(1 << 20)[10 * island :] == body, "what was held first stays"


@pytest.mark.parametrize(
    ("wire", "status"),
    [
        (b"3\r\nabcd\r\n", 400),
        (b"x\r\n", 400),
        (b"3\nabc\r\n", 400),
        (b"-3\r\nabc\r\n", 400),
        (b"3" * 300, 400),
        (b"65\r\n", 413),
        (b"40\r\n" + b"x" * 64 + b"\r\n40\r\n", 413),
        (b"0\r\nno colon\r\n\r\n", 400),
        (b"0\r\n" + b"a:b\r\n" * 200 + b"\r\n", 431),
        (b"0\r\na:" + b"b" * 9000 + b"\r\n\r\n", 431),
    ],
)
def test_what_is_no_chunk_is_refused(wire: bytes, status: int) -> None:
    taken = Intake(START, CHUNKED, 100)
    taken.take(START, b"3\r\nabc\r\n")
    taken.take(START + 8, wire)
    assert taken.refusal is not None
    assert taken.refusal.status == status
    # It stays so: nothing behind an error can be told from anything.
    held = taken.held
    taken.take(held, b"3\r\ndef\r\n0\r\n\r\n")
    assert (taken.held, taken.whole) == (held, False)
    assert b"def" not in taken.read(100)


def test_room_is_told_when_it_is_worth_it() -> None:
    taken = Intake(START, ENDLESS, 0)
    told = taken.limit
    assert told == START + intake.WINDOW
    for at in range(START, told, 1024):
        taken.take(at, bytes(1024))
    assert taken.room == 0
    read = 0
    while not taken.is_worth_telling(told):
        read += len(taken.read(1024))
    assert read == intake.WINDOW // 2
    end = Intake(START, 5, 0)
    assert end.is_worth_telling(0), "the end is always worth it"


def test_room_is_told_in_steps() -> None:
    taken = Intake(START, 300_000, 0)
    told = taken.limit_after(0)
    taken.take(START, bytes(2000))
    taken.read(999)
    assert taken.limit == told + 999
    assert taken.limit_after(told) == told
    taken.read(1)
    assert taken.limit_after(told) == told + 1000
    end = START + 300_000
    for _ in range(400):
        taken.take(taken.held, bytes(1000))
        taken.read(999)
    assert taken.limit_after(end - 1) == end, "the end is a step however small"


@pytest.mark.parametrize("more", [b"", b"3\r\nabc\r\n"])
def test_a_chunk_error_in_the_first_datagram_is_answered(more: bytes) -> None:
    """The application is not left waiting for what never comes."""

    async def main() -> None:
        site = Site(hello, replace(QUIET, request_buffering=False))
        peer = Peer(lambda: site)
        head = get("/", "Transfer-Encoding: chunked", method="POST")
        answer = await peer.exchange(head + more + b"no chunk\r\n")
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert peer.closed
        await site.service.shutdown()

    asyncio.run(main())
