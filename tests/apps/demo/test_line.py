"""A line: in order, at its rate, no more than its queue holds. Time passes when a test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from apps.demo.line import QUEUE, Line

RATE = 100
DATAGRAMS = [bytes([number]) * 50 for number in range(3 * QUEUE)]
"""Of half a second each."""


class Loop(asyncio.SelectorEventLoop):
    """With a clock that is set by hand."""

    now = 1000.0

    def time(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        """So much later, all that is due has been done."""
        self.now += seconds
        self.run_until_complete(asyncio.sleep(0))


def line_in(loop: Loop, send: Callable[[bytes], None]) -> Line:
    async def make() -> Line:
        return Line(RATE, send)

    return loop.run_until_complete(make())


def test_one_after_the_other_and_what_comes_beyond_the_queue_is_lost() -> None:
    sent: list[bytes] = []
    loop = Loop()
    line = line_in(loop, sent.append)
    for datagram in DATAGRAMS:
        line.put(datagram)
    for count in range(1, 1 + QUEUE):
        assert sent == DATAGRAMS[:count]
        loop.wait(0.5)
    loop.wait(100.0)
    assert sent == DATAGRAMS[: 1 + QUEUE]
    loop.close()


def test_a_loop_that_was_busy_makes_up_for_it() -> None:
    sent: list[bytes] = []
    loop = Loop()
    line = line_in(loop, sent.append)
    for datagram in DATAGRAMS[:5]:
        line.put(datagram)
    loop.wait(1.25)
    assert sent == DATAGRAMS[:3]
    loop.wait(0.25)
    assert sent == DATAGRAMS[:4]
    loop.close()


def test_who_was_silent_gains_nothing_by_it() -> None:
    sent: list[bytes] = []
    loop = Loop()
    line = line_in(loop, sent.append)
    line.put(DATAGRAMS[0])
    loop.wait(100.0)
    for datagram in DATAGRAMS[1:4]:
        line.put(datagram)
    assert sent == DATAGRAMS[:2]
    loop.wait(0.5)
    assert sent == DATAGRAMS[:3]
    loop.close()


def test_what_waits_is_lost_with_the_line() -> None:
    sent: list[bytes] = []
    loop = Loop()
    line = line_in(loop, sent.append)
    for datagram in DATAGRAMS[:3]:
        line.put(datagram)
    line.close()
    loop.wait(100.0)
    assert sent == DATAGRAMS[:1]
    loop.close()
