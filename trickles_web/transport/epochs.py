"""Congestion control as interval arithmetic: which packet numbers may fly.

TCP keeps a congestion window and changes it with every acknowledgement. Here the window is a
*function* of a few sealed integers and of how far the numbers have been received, so any replica,
and the client, compute the same value without having seen the packets before (NSDI'05 §3.2, whose
per-packet rule `TCPCwnd(k)` is lifted to intervals here).

The one function that matters is `frontier(E, k)`: once all numbers below k have been settled, every
number below the frontier may have been sent. A client that reports the interval [p, b) is granted
exactly [frontier(p), frontier(b)). Since `frontier` is monotone, the grants of adjacent claims are
adjacent: whatever the sizes of the bursts, the order in which they arrive, or the replica that
serves them, the grants tile the number line and each number is granted once.

                 window(E, L)       1/8 more
        |<------------------------->|<-->|
    ----L--------------------------------base'----------------->  k
        first loss in E                  first number of next(E, L), which has half the window;
                                         while k goes from L to base', the frontier moves about half
                                         as fast, so packets leave evenly spread and at once, as in
                                         RFC 6937 (proportional rate reduction)

What leaves together with the last numbers of the full window meets the queue that has just
overflowed; a loss among it is the same event, as it is to TCP, which counts whatever was sent
before the loss was noticed. Hence the eighth, the size of a burst.

Integers only: two machines must never disagree by a rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isqrt
from typing import Final

INITIAL_WINDOW: Final = 10
"""Packets, RFC 6928."""
MINIMUM_WINDOW: Final = 2
"""Packets; below it a loss can never be told from silence (RFC 9002 §7.2)."""
LARGEST_WINDOW: Final = (1 << 16) - 1
"""Sealed in 16 bits. As ssthresh it means "none yet": slow start runs up to here."""
LARGEST_BURST: Final = 46
"""Datagrams in one UDP_SEGMENT send of 1,400 bytes each (65,507 bytes in all)."""
WINDOW_PER_BURST: Final = 8
"""A window is cut into this many bursts: small enough that loss of one carrier costs little,
large enough that a continuation serves several packets."""
SMALL_BURST: Final = 4
SMALL_WINDOW_PER_BURST: Final = 3
"""A small window is cut into fewer bursts, of up to SMALL_BURST packets. A continuation takes a
sixth of its packet: one in each would cost a lossy path as much of its goodput."""
TWO_CARRIERS: Final = 8
"""A burst this long carries its continuation twice."""
CLAIM_PER_WINDOW: Final = 16
"""A claim smaller than window / 16 waits for the next burst, or bursts crumble after halvings."""
LONGEST_REACH: Final = 256
"""How far a claim may reach back before its own burst: bounds the replay filter's work."""
LAST_NUMBER: Final = 1 << 31
"""Numbers of a line stay below this; an answer that would pass it is short."""


# Both classes here write `__init__` out, for the reason that `transport.redeemed` gives, and none
# changes once it is made.
@dataclass(slots=True, init=False)
class Epoch:
    """A stretch of packet numbers under one congestion state.

    `key` is the keyed identity: only holders of the secret can compute it; 0 at the client.
    `start` (`from` in the specification) is the first loss of the epoch before, else `base`.
    """

    key: int
    start: int
    base: int
    cwnd0: int
    ssthresh: int

    def __init__(self, key: int, start: int, base: int, cwnd0: int, ssthresh: int) -> None:
        self.key = key
        self.start = start
        self.base = base
        self.cwnd0 = cwnd0
        self.ssthresh = ssthresh

    @property
    def numbers(self) -> tuple[int, int, int, int]:
        """What both ends know of it: start, base, cwnd0 and ssthresh."""
        return self.start, self.base, self.cwnd0, self.ssthresh


def window(epoch: Epoch, k: int) -> int:
    """Packets in flight once all of the epoch below k has arrived.

    Slow start adds one per packet (RFC 5681 §3.1); congestion avoidance one per window, in closed
    form: after w + (w+1) + ... + (w+n-1) packets the window is w + n.
    """
    d = k - epoch.base
    w = epoch.cwnd0
    if d <= 0:
        return w
    if w < epoch.ssthresh:
        if d <= epoch.ssthresh - w:
            return w + d
        d -= epoch.ssthresh - w
        w = epoch.ssthresh
    q = 2 * w - 1
    return min(w + (isqrt(q * q + 8 * d) - q) // 2, LARGEST_WINDOW)


def frontier(epoch: Epoch, k: int) -> int:
    """The first number that may not fly yet, once everything below k is settled."""
    base = epoch.base
    if k >= base:
        return k + window(epoch, k)
    recovery = base - epoch.start
    more = recovery // (WINDOW_PER_BURST + 1)  # w // 8 where recovery is w + w // 8
    if k <= epoch.start:
        return base - more
    return base - more - (epoch.start - k) * (epoch.cwnd0 + more) // recovery  # ceiling


def halved(w: int) -> int:
    """Multiplicative decrease, RFC 5681 §3.1."""
    return max(MINIMUM_WINDOW, w // 2)


def after_loss(epoch: Epoch, lost: int, key: int = 0) -> Epoch:
    """`next(E, L)`: the epoch that follows E when `lost`, its first such number, did not arrive."""
    w = window(epoch, lost)
    h = halved(w)
    return Epoch(key, lost, lost + w + w // WINDOW_PER_BURST, h, h)


def valid_loss(epoch: Epoch, lost: int, end: int) -> bool:
    """Can the first loss of the epoch be `lost`, if a burst of it ends at `end`?"""
    return epoch.base <= lost and end <= after_loss(epoch, lost).base


def grant(epoch: Epoch, successor: Epoch | None, k: int) -> int:
    """G(E, L, k); `successor` is `after_loss(E, L)` where a loss is reported."""
    if successor is None or k <= successor.start:
        return frontier(epoch, k)
    return frontier(successor, k)


def opened(epoch: Epoch, end: int, lost: int | None, idle: bool, key: int = 0) -> Epoch:
    """The first epoch of a generation opened, by proof, from a burst of `epoch` that ends at `end`.

    A line that ran dry keeps the window that it has really used (RFC 7661): `kept`.
    """
    if lost is not None and lost < end:
        cwnd0 = ssthresh = halved(window(epoch, lost))
    else:
        flown = end - epoch.base
        ssthresh = epoch.ssthresh
        if flown < epoch.cwnd0:
            cwnd0 = max(min(INITIAL_WINDOW, epoch.cwnd0), epoch.cwnd0 // 2, flown)
        else:
            cwnd0 = window(epoch, _last_answered(epoch, end))
    if idle:
        cwnd0 = min(cwnd0, INITIAL_WINDOW)  # RFC 5681 §4.1
    return Epoch(key, 0, 0, max(cwnd0, MINIMUM_WINDOW), ssthresh)


def opened_after_timeout(epoch: Epoch, end: int, lost: int | None, key: int = 0) -> Epoch:
    """The same after silence: RFC 9002 §7.6, persistent congestion."""
    last = end if lost is None else min(lost, end)
    return Epoch(key, 0, 0, MINIMUM_WINDOW, halved(window(epoch, last)))


def resized(epoch: Epoch, old: int, new: int) -> Epoch:
    """The epoch for datagrams of `new` bytes instead of `old`: the window in bytes never grows, and
    slow start ends at the same bytes.
    """
    if new == old:
        return epoch
    cwnd0, ssthresh = epoch.cwnd0, epoch.ssthresh
    if new > old:
        cwnd0 = max(MINIMUM_WINDOW, cwnd0 * old // new)
    if ssthresh != LARGEST_WINDOW:
        ssthresh = min(max(MINIMUM_WINDOW, ssthresh * old // new), LARGEST_WINDOW - 1)
    return Epoch(epoch.key, epoch.start, epoch.base, cwnd0, ssthresh)


def _last_answered(epoch: Epoch, end: int) -> int:
    """The largest k >= base with frontier(E, k) <= end; the caller knows that base is one."""
    low, high = epoch.base, end
    while low < high:
        middle = (low + high + 1) // 2
        if frontier(epoch, middle) <= end:
            low = middle
        else:
            high = middle - 1
    return low


def largest_burst(w: int) -> int:
    """Packets in one burst at most, where the window is w."""
    small = min(SMALL_BURST, w // SMALL_WINDOW_PER_BURST)
    return max(1, small, min(LARGEST_BURST, w // WINDOW_PER_BURST))


def worth_claiming(w: int) -> int:
    """Numbers that make a claim worth sending at once, where the window is w."""
    half = (min(SMALL_BURST, largest_burst(w)) + 1) // 2
    return max(half, min(LARGEST_BURST, w // CLAIM_PER_WINDOW))


def whole_claim(w: int) -> int:
    """Numbers of settled bursts that go into one claim: or small bursts bring ever smaller ones."""
    return max(worth_claiming(w), min(SMALL_BURST, largest_burst(w)))


@dataclass(slots=True, init=False)
class Span:
    """One burst to send: numbers [start, stop) of one epoch."""

    epoch: Epoch
    start: int
    stop: int

    def __init__(self, epoch: Epoch, start: int, stop: int) -> None:
        self.epoch = epoch
        self.start = start
        self.stop = stop


def bursts(epoch: Epoch, successor: Epoch | None, low: int, high: int) -> Iterator[Span]:
    """Cut the numbers [low, high) into bursts; both ends call this, so both know the layout.

    Numbers from `successor.base` on belong to the successor. The split is even (no crumbs).
    """
    while low < high:
        owner, stop = epoch, high
        if successor is not None:
            if low >= successor.base:
                owner = successor
            else:
                stop = min(high, successor.base)
        most = largest_burst(window(owner, low))
        parts = -(-(stop - low) // most)
        for i in range(parts, 0, -1):
            following = low - (low - stop) // i
            yield Span(owner, low, following)
            low = following


def carriers(span: Span) -> tuple[int, ...]:
    """The packets of a burst that carry its continuation: the first, and the last of a long one."""
    if span.stop - span.start < TWO_CARRIERS:
        return (span.start,)
    return span.start, span.stop - 1
