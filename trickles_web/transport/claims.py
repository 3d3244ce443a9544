"""What a request is worth: the checks between an authentic continuation and a grant of numbers.

Two ways to redeem a continuation. A *claim* exchanges the arrival of the numbers [p, b) for new
ones of the same generation; an *opening* begins a new generation, after the line ran dry, after
silence, or with the next exchange. Both are pure: they read the replay filter and return what to
test again and what to mark when the answer is really sent (`Server.burst`).
"""

from __future__ import annotations

from typing import Final

from trickles_web.transport.claimed import filter_key, unclaimed
from trickles_web.transport.continuation import UNMEASURED, Continuation
from trickles_web.transport.epochs import (
    INITIAL_WINDOW,
    LARGEST_WINDOW,
    LAST_NUMBER,
    LONGEST_REACH,
    Epoch,
    after_loss,
    grant,
    halved,
    opened,
    opened_after_timeout,
    resized,
    valid_loss,
    window,
)
from trickles_web.transport.keys import Keyring, Keys, short_of
from trickles_web.transport.nonces import proves
from trickles_web.transport.redeemed import Answer
from trickles_web.transport.refused import RefusedError
from trickles_web.transport.replay import ReplayFilter
from trickles_web.transport.wire import OPEN_END, Code, Earlier, Request

IDLE_MS: Final = 1000
"""After this long without sending, the window is no longer current (RFC 5681 §4.1)."""
FIRST_RETRY_MS: Final = 20
LONGEST_TRIP_MS: Final = 500
"""Attempt n of an opening is served 2^(n-1) times the former, or two round trips, but none longer
than the latter, after the mint, not before: an honest client has waited for an answer by then."""
LONGEST_WAIT_MS: Final = 10_240
"""Or this long: servers may be gone for many attempts, and continuations are good for a minute."""
MOST_ATTEMPTS: Final = 10
"""The last attempt, 10 s after the mint. Each opens a window of two packets and closes the ones
before, so a client that asks for all of them has one live generation."""

ATTEMPT_BITS: Final = 15
"""The low bits of a generation's name: by which attempt it was opened."""

PROBE_EVERY: Final = 64
"""Packet numbers of a generation among which one probe of the path's size comes on top of the
window; for their first so many numbers, so many generations have one together."""
MOST_TESTS: Final = 2048
"""Numbers that one opening may ask the filter about: at most 127 look-ups."""


def probe_key(incarnation: int, answer: Answer) -> bytes:
    """Marks that a probe of the path's size went out beside these numbers or their neighbours."""
    if answer.low < PROBE_EVERY:
        return filter_key(b"q", incarnation, answer.ordinal // PROBE_EVERY)
    return filter_key(b"p", answer.generation, answer.low // PROBE_EVERY)


def initial_epoch(ssthresh: int, key: int = 0) -> Epoch:
    return Epoch(key, 0, 0, INITIAL_WINDOW, ssthresh)


def _successor(epoch: Epoch, lost: int, keys: Keys) -> Epoch:
    return after_loss(epoch, lost, keys.identity(b"l", epoch.key, lost, 0))


def _closed(c: Continuation) -> tuple[bytes, bytes]:
    """Both keys that close the generation of `c`: something was opened from one of its ordinal, or
    the opening of that ordinal was attempted again.
    """
    ordinal = filter_key(b"x", c.incarnation, c.ordinal)
    return ordinal, ordinal + bytes((c.generation & ATTEMPT_BITS,))


def first_contact(
    attempt: int, incarnation: int, mark: bytes, keys: Keys, key_generation: int, size: int
) -> Answer:
    """The answer to a HELLO: the first window of a flow whose incarnation was just drawn."""
    generation = keys.identity(b"h", incarnation, 0, 0) & ~ATTEMPT_BITS
    return Answer(
        ordinal=0,
        generation=generation,
        epoch=initial_epoch(LARGEST_WINDOW, keys.identity(b"e", generation, 0, 0)),
        successor=None,
        low=0,
        high=INITIAL_WINDOW,
        wants=((0, OPEN_END),),
        size=size,
        nonce_generation=short_of(key_generation),
        attempt=attempt,
        paid=0,
        marks=(mark,),
        absent=(mark,),
    )


def claims(
    m: Request,
    c: Continuation,
    keyring: Keyring,
    replay: ReplayFilter,
    replica: int,
    now: int,
    fresh: bool,
) -> tuple[Answer, ...]:
    """The answers to a claim and to the earlier claims it repeats; raises RefusedError."""
    if not fresh:
        raise RefusedError(Code.EXPIRED)
    if c.refreshed or m.attempt or m.lost >= LAST_NUMBER:
        raise RefusedError(Code.CLAIM)
    closed = _closed(c)
    if replay.has_any(closed):
        raise RefusedError(Code.CLOSED)
    own = filter_key(b"c", c.generation, c.stop - 1)
    if own in replay:
        raise RefusedError(Code.SPENT)
    epoch = c.epoch
    generation, keys = keyring.of_nonces(c.nonce_generation, now)
    lost_marks, not_lost = _check_loss(m, c, replay)
    end = c.stop if m.lost < 0 else m.lost
    if not proves(keys, epoch.key, epoch.base, end, m.proof):
        raise RefusedError(Code.PROOF)
    reached, mixed, absent = _reach(m.start, c, replay, replica)
    begun, no_other = _begin(c, replay)
    successor = None if m.lost < 0 else _successor(epoch, m.lost, keys)
    # The nonces' key is about to expire, or the numbers: end the line, and the next one is renewed.
    ends = generation != keyring.generation(now)

    def answer(
        start: int, stop: int, claim: Request | Earlier, reached: int, absent: list[bytes]
    ) -> Answer:
        high = grant(epoch, successor, stop)
        return Answer(
            ordinal=c.ordinal,
            generation=c.generation,
            epoch=epoch,
            successor=successor,
            low=grant(epoch, successor, start),
            high=min(high, LAST_NUMBER),
            wants=claim.wants,
            size=c.size,
            nonce_generation=c.nonce_generation,
            attempt=0,
            paid=stop,
            marks=(*lost_marks, *begun, *mixed, filter_key(b"s", c.generation, start)),
            absent=(*closed, *not_lost, *no_other, *absent),
            ends=ends or high > LAST_NUMBER,
            reached=(start, reached),
        )

    answers = [answer(m.start, c.stop, m, reached, [*absent, own])]
    if c.replica == replica:
        following = m.start
        for e in reversed(m.earlier):
            none_of_them = _earlier(e, following, c, replay)
            if none_of_them is not None:
                answers.append(answer(e.start, e.stop, e, e.stop - 1, none_of_them))
                following = e.start
    return tuple(reversed(answers))


def _begin(c: Continuation, replay: ReplayFilter) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """The first claim of a generation: from then on nothing is opened from the ordinal before, and
    no other generation of this ordinal and attempt, which another replica may have opened, is
    claimed of. Returns what to mark, and what must not be marked until then.
    """
    this = filter_key(b"v", c.generation)
    if this in replay:
        return (), ()
    ordinal = filter_key(b"u", c.incarnation, c.ordinal)
    attempt = ordinal + bytes((c.generation & ATTEMPT_BITS,))
    if attempt in replay:
        raise RefusedError(Code.CLOSED)
    return (ordinal, attempt, this), (attempt,)


def _check_loss(
    m: Request, c: Continuation, replay: ReplayFilter
) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """An epoch has one successor: a second loss, or none after one, is refused.

    Returns what to mark, and what must not be marked until then.
    """
    any_loss = filter_key(b"l", c.epoch.key)
    if m.lost < 0:
        if any_loss in replay:
            raise RefusedError(Code.CLAIM)
        return (), (any_loss,)
    if not valid_loss(c.epoch, m.lost, c.stop):
        raise RefusedError(Code.CLAIM)
    this_loss = filter_key(b"l", c.epoch.key, m.lost + 1)
    if this_loss in replay:
        return (), ()
    if any_loss in replay:
        raise RefusedError(Code.CLAIM)
    return (any_loss, this_loss), (any_loss,)


def _reach(
    start: int, c: Continuation, replay: ReplayFilter, replica: int
) -> tuple[int, tuple[bytes, ...], list[bytes]]:
    """A claim that begins before its burst covers bursts that were lost whole, or small ones.

    No number of them may have been claimed: an interval that ends where the burst begins contains
    the last number of every burst it touches, so any overlap is found. Within the burst there is
    nothing to test, as long as this process minted all that was claimed of the generation. What
    others minted may cut the same numbers into other bursts, which overlap: from the first claim of
    such a one on, each number is tested.

    Returns up to where numbers are marked, beside the last; what to mark of others; what is absent.
    """
    if start > c.burst or start < c.epoch.start or c.burst - start > LONGEST_REACH:
        raise RefusedError(Code.CLAIM)
    others = filter_key(b"f", c.generation)
    foreign = c.replica != replica
    among_others = foreign or others in replay
    stop = c.stop - 1 if among_others else c.burst
    absent = unclaimed(c.generation, start, stop, replay)
    if absent is None:
        raise RefusedError(Code.SPENT)
    if not among_others:
        absent.append(others)
    return stop, (others,) if foreign else (), absent


def _earlier(
    e: Earlier, following: int, c: Continuation, replay: ReplayFilter
) -> list[bytes] | None:
    """Keys that are absent for an earlier claim of the same epoch, or None when it is not to be
    served.

    No continuation is here to say where its burst ended, so its end must be where another claim
    starts, in this request (at `following`) or served before: else it could end within a claim that
    was served, whose one mark is at its last number, and those numbers would be granted twice.
    """
    if not c.epoch.start <= e.start < e.stop <= following or not e.wants:
        return None
    if e.stop - e.start > LONGEST_REACH or e.stop <= c.epoch.base:
        return None
    if filter_key(b"c", c.generation, e.stop - 1) in replay:
        return None  # the usual case: its request was not lost
    if e.stop != following and filter_key(b"s", c.generation, e.stop) not in replay:
        return None
    return unclaimed(c.generation, e.start, e.stop, replay)


def opening(
    m: Request,
    c: Continuation,
    size: int,
    keyring: Keyring,
    replay: ReplayFilter,
    replica: int,
    now: int,
    fresh: bool,
) -> tuple[Answer, ...]:
    """The answer to an opening; raises RefusedError.

    Generations are closed, and attempts counted, by ordinal: or each of those that attempts leave
    behind could be opened by attempts again, and they would multiply. And who has opened from one
    ordinal, or claimed anything of it, opens no more from the one before: or each attempt would
    bring back a window from before the losses that the last one met.
    """
    attempt, ordinal = m.attempt, c.ordinal + 1 & 0xFFFF_FFFF
    if attempt > MOST_ATTEMPTS or m.lost >= LAST_NUMBER:
        raise RefusedError(Code.CLAIM)
    opened = filter_key(b"x", c.incarnation, ordinal)
    absent = [opened, filter_key(b"u", c.incarnation, ordinal)]
    if replay.has_any(absent):
        raise RefusedError(Code.CLOSED)
    proven = _proof_holds(m, c, keyring, now)
    closing = _closed(c)
    closed = replay.has_any(closing)
    if not closed:
        absent += closing
    if attempt:
        trip = 0 if c.round_trip == UNMEASURED else min(c.round_trip, LONGEST_TRIP_MS)
        due = max(FIRST_RETRY_MS, 2 * trip) << attempt - 1
        wait = min(due, LONGEST_WAIT_MS) - (now - c.minted)
        if wait > 0:
            raise RefusedError(Code.TOO_SOON, wait)
        if c.replica == replica and proven and not closed:
            # Only the request was lost, at the replica that would know: the window need not be.
            attempt *= _opened(c, ordinal, 0) in replay
    elif closed:
        raise RefusedError(Code.CLOSED)
    elif not proven and fresh and not c.refreshed:
        raise RefusedError(Code.PROOF)
    spent = _opened(c, ordinal, attempt)
    if spent in replay:
        raise RefusedError(Code.SPENT)
    outdone = [opened + bytes((j,)) for j in range(attempt + 1)]
    if outdone[-1] in replay:
        raise RefusedError(Code.CLOSED)
    absent += (spent, outdone.pop())
    marks = [spent, closing[0], *outdone]
    if not fresh:
        # The filter has forgotten what this flow spent: a small window, once per flow and horizon.
        old = filter_key(b"i", c.incarnation)
        if old in replay:
            raise RefusedError(Code.EXPIRED)
        marks.append(old)
        absent.append(old)
    keys = keyring.current(now)
    # Never the same twice: who holds the nonces of a generation could prove any receipt in another.
    name = keys.identity(b"g", c.generation ^ replica, now & 0xFFFF_FFFF, attempt)
    name = name & ~ATTEMPT_BITS | attempt
    e = resized(_first_epoch(m, c, attempt, proven, replay, now, fresh, absent), c.size, size)
    key = keys.identity(b"e", name, e.cwnd0, e.ssthresh)
    answer = Answer(
        ordinal=ordinal,
        generation=name,
        epoch=Epoch(key, e.start, e.base, e.cwnd0, e.ssthresh),
        successor=None,
        low=0,
        high=e.cwnd0,
        wants=m.wants,
        size=size,
        nonce_generation=short_of(keyring.generation(now)),
        attempt=attempt,
        paid=0,
        marks=tuple(marks),
        absent=tuple(absent),
    )
    return (answer,)


def _opened(c: Continuation, ordinal: int, attempt: int) -> bytes:
    return filter_key(b"o", c.incarnation, ordinal) + bytes((attempt,))


def _first_epoch(
    m: Request,
    c: Continuation,
    attempt: int,
    proven: bool,
    replay: ReplayFilter,
    now: int,
    fresh: bool,
    absent: list[bytes],
) -> Epoch:
    """The congestion state that a generation opens with. Adds the keys whose absence it takes for
    granted to `absent`.
    """
    lost = None if m.lost < 0 else m.lost
    if attempt:
        if lost is not None and lost < c.epoch.base:
            raise RefusedError(Code.CLAIM)
        return opened_after_timeout(c.epoch, c.stop, lost)
    if not fresh:
        if not proven:
            ssthresh = halved(window(c.epoch, c.stop))
        elif lost is not None and lost < c.stop:
            ssthresh = halved(window(c.epoch, lost))
        else:
            ssthresh = c.epoch.ssthresh
        return initial_epoch(ssthresh)
    idle = c.refreshed or now - c.minted > IDLE_MS
    if not proven or _sent_more(c, replay, absent):
        return opened_after_timeout(c.epoch, c.stop, lost)
    return opened(c.epoch, c.stop, lost, idle)


def _sent_more(c: Continuation, replay: ReplayFilter, absent: list[bytes]) -> bool:
    """Were numbers sent beyond this burst, of its own answer or of claims served after it?

    If they were settled, a later burst would be presented: so they are lost, or in flight still. A
    claim leaves its mark at the last number of its burst.
    """
    if c.followed or c.stop - c.paid > MOST_TESTS:
        return True
    keys = unclaimed(c.generation, c.paid, c.stop, replay)
    if keys is None:
        return True
    absent += keys
    return False


def _proof_holds(m: Request, c: Continuation, keyring: Keyring, now: int) -> bool:
    _, keys = keyring.of_nonces(c.nonce_generation, now)
    if m.lost < 0:
        end = c.stop
    else:
        if not valid_loss(c.epoch, m.lost, c.stop):
            return False
        end = min(m.lost, c.stop)
    return proves(keys, c.epoch.key, c.epoch.base, end, m.proof)
