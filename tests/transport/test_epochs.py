"""Congestion control as interval arithmetic, against a reference that counts packet by packet."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from trickles_web.transport.epochs import (
    CLAIM_PER_WINDOW,
    INITIAL_WINDOW,
    LARGEST_BURST,
    LARGEST_WINDOW,
    MINIMUM_WINDOW,
    SMALL_BURST,
    TWO_CARRIERS,
    Epoch,
    Span,
    after_loss,
    bursts,
    carriers,
    frontier,
    grant,
    halved,
    largest_burst,
    opened,
    opened_after_timeout,
    resized,
    valid_loss,
    window,
    worth_claiming,
)

PACKETS = 100_000

windows = st.integers(MINIMUM_WINDOW, 400)
starts = st.integers(0, 10_000)


@st.composite
def epochs(draw: st.DrawFn) -> Epoch:
    """Epochs as they come about: the first of a line, or one after a loss in such an epoch."""
    cwnd0 = draw(windows)
    ssthresh = draw(st.one_of(windows, st.just(LARGEST_WINDOW)))
    epoch = Epoch(0, 0, 0, cwnd0, ssthresh)
    for _ in range(draw(st.integers(0, 3))):
        epoch = after_loss(epoch, epoch.base + draw(st.integers(0, 3000)))
    return epoch


def reference(cwnd0: int, ssthresh: int, packets: int) -> list[int]:
    """cwnd after each packet: RFC 5681 §3.1, one more per packet, then one more per window."""
    cwnd, counted = cwnd0, 0
    values = [cwnd]
    for _ in range(packets):
        if cwnd < ssthresh:
            cwnd += 1
        else:
            counted += 1
            if counted == cwnd:
                cwnd, counted = cwnd + 1, 0
        values.append(min(cwnd, LARGEST_WINDOW))
    return values


@pytest.mark.parametrize(
    ("cwnd0", "ssthresh"),
    [
        (10, LARGEST_WINDOW),
        (10, 10),
        (2, 2),
        (2, 3),
        (10, 64),
        (2, 1000),
        (3, 20_000),
        (500, 499),
        (LARGEST_WINDOW, LARGEST_WINDOW),
    ],
)
@pytest.mark.parametrize("base", [0, 12_345])
def test_window_equals_a_step_by_step_count(cwnd0: int, ssthresh: int, base: int) -> None:
    epoch = Epoch(0, base, base, cwnd0, ssthresh)
    expected = reference(cwnd0, ssthresh, PACKETS)
    assert [window(epoch, base + d) for d in range(PACKETS + 1)] == expected
    assert window(epoch, base - 5) == cwnd0


@given(epochs(), st.integers(0, 1 << 31), st.integers(0, 1 << 31))
def test_window_is_monotone_and_bounded(epoch: Epoch, j: int, k: int) -> None:
    low, high = sorted((j, k))
    assert epoch.cwnd0 <= window(epoch, low) <= window(epoch, high) <= LARGEST_WINDOW


@given(epochs())
def test_frontier_never_goes_back(epoch: Epoch) -> None:
    first = max(0, epoch.start - 20)
    values = [frontier(epoch, k) for k in range(first, epoch.base + 500)]
    assert all(a <= b for a, b in pairwise(values))
    assert epoch.start < epoch.base or frontier(epoch, epoch.start) == epoch.base + epoch.cwnd0
    assert frontier(epoch, epoch.base) == epoch.base + epoch.cwnd0


@given(epochs())
def test_frontier_spreads_the_halved_window_evenly(epoch: Epoch) -> None:
    """protocol: m = base - f; f + ceil((k - from) * (cwnd0 + m) / (base - from))."""
    first = frontier(epoch, epoch.start)
    for k in range(epoch.start + 1, epoch.base):
        whole = epoch.base + epoch.cwnd0 - first
        assert frontier(epoch, k) == first - (epoch.start - k) * whole // (epoch.base - epoch.start)


@given(epochs(), st.integers(0, 5000))
def test_loss_halves_the_window_once(epoch: Epoch, offset: int) -> None:
    lost = epoch.base + offset
    following = after_loss(epoch, lost, key=7)
    w = window(epoch, lost)
    assert following == Epoch(7, lost, lost + w + w // 8, max(2, w // 2), max(2, w // 2))
    # The successor goes on where the old epoch's frontier stood when the loss came.
    assert frontier(following, lost) == frontier(epoch, lost)
    assert window(following, following.base) == halved(w)
    assert window(following, following.base + following.cwnd0) == following.cwnd0 + 1


@given(epochs(), st.data())
def test_any_split_of_a_range_is_granted_the_same_numbers(
    epoch: Epoch, data: st.DataObject
) -> None:
    """Without a loss and with one, claims of any size, in any order, tile the line exactly."""
    length = data.draw(st.integers(1, 800))
    first = epoch.start if data.draw(st.booleans()) else epoch.base
    last = first + length
    successor = None
    if data.draw(st.booleans()):
        successor = after_loss(epoch, epoch.base + data.draw(st.integers(0, 600)))
    cuts = sorted(data.draw(st.sets(st.integers(first, last), max_size=40)) | {first, last})
    claims = list(pairwise(cuts))
    order = data.draw(st.permutations(claims))
    granted: list[int] = []
    for p, b in order:
        granted += range(grant(epoch, successor, p), grant(epoch, successor, b))
    whole = range(grant(epoch, successor, first), grant(epoch, successor, last))
    assert sorted(granted) == list(whole)


@pytest.mark.parametrize("seed", range(20))
def test_a_line_with_losses_is_tiled_across_epochs(seed: int) -> None:
    """A whole line: bursts as the server cuts them, losses in each epoch, claims that reach back.

    Each claim takes some bursts that lie side by side, as after carriers lost; every number of the
    line is granted exactly once, though up to three epochs are claimed from at a time.
    """
    rng = random.Random(seed)
    epoch = Epoch(0, 0, 0, 10, LARGEST_WINDOW)
    pending = list(bursts(epoch, None, 0, 10))
    granted = set(range(10))
    losses: dict[int, int] = {}
    successors: dict[int, Epoch] = {}
    while pending and len(granted) < 4000:
        taken = pending[: rng.randint(1, 3)]
        # One claim is of one epoch, that of its last burst; it may reach back into the parent.
        owner = taken[-1].epoch
        while taken[0].start < owner.start:
            taken = taken[:1]
            owner = taken[-1].epoch
        pending = pending[len(taken) :]
        p, b = taken[0].start, taken[-1].stop
        if owner.base not in losses:
            first_loss = owner.base + int(rng.expovariate(0.004))
            losses[owner.base] = first_loss
            successors[owner.base] = after_loss(owner, first_loss)
        lost = losses[owner.base] if losses[owner.base] < b else None
        successor = None if lost is None else successors[owner.base]
        if lost is not None:
            assert valid_loss(owner, lost, b)
        low, high = grant(owner, successor, p), grant(owner, successor, b)
        numbers = set(range(low, high))
        assert not numbers & granted
        granted |= numbers
        pending += bursts(owner, successor, low, high)
        pending.sort(key=lambda span: span.start)
    # Whatever the claims were, the numbers granted have no hole.
    assert granted == set(range(len(granted)))


def test_claims_into_the_parents_tail_equal_the_parents_own() -> None:
    """Between the first loss and the successor's base both epochs give the same grants."""
    for lost in (0, 3, 57, 700):
        epoch = Epoch(0, 0, 0, 10, 100)
        successor = after_loss(epoch, lost)
        for k in range(successor.start, successor.base + 1):
            assert grant(epoch, successor, k) == max(
                frontier(successor, k), frontier(epoch, lost) if k <= lost else 0
            )
            assert grant(successor, None, k) == grant(epoch, successor, k)


@given(epochs(), st.integers(0, 3000), st.integers(1, 300))
def test_valid_loss_admits_what_was_in_flight(epoch: Epoch, offset: int, length: int) -> None:
    lost = epoch.base + offset
    reach = frontier(epoch, lost) + window(epoch, lost) // 8
    assert valid_loss(epoch, lost, reach)
    assert not valid_loss(epoch, lost, reach + length)
    assert not valid_loss(epoch, epoch.base - 1, epoch.base)


@given(epochs(), st.integers(1, 20_000), st.booleans())
def test_opening_keeps_the_window_that_was_used(epoch: Epoch, flown: int, idle: bool) -> None:
    """protocol, section 3: kept(E, b, L) without a loss; our lines begin at number 0."""
    end = epoch.base + flown
    child = opened(epoch, end, None, idle, key=5)
    if flown < epoch.cwnd0:
        expected = max(min(INITIAL_WINDOW, epoch.cwnd0), epoch.cwnd0 // 2, flown)
    else:
        last = max(
            k for k in range(epoch.base, min(end, epoch.base + flown) + 1)
            if frontier(epoch, k) <= end
        )  # fmt: skip
        expected = window(epoch, last)
    if idle:
        expected = min(expected, INITIAL_WINDOW)
    assert child == Epoch(5, 0, 0, max(2, expected), epoch.ssthresh)
    assert child.cwnd0 <= max(window(epoch, end), epoch.cwnd0)


@given(epochs(), st.integers(1, 5000), st.integers(0, 5000), st.booleans())
def test_opening_with_a_loss_halves(epoch: Epoch, flown: int, offset: int, idle: bool) -> None:
    end, lost = epoch.base + flown, epoch.base + offset
    child = opened(epoch, end, lost, idle)
    if lost < end:
        h = max(2, window(epoch, lost) // 2)
        assert child == Epoch(0, 0, 0, max(2, min(h, 10)) if idle else h, h)
    else:
        assert child == opened(epoch, end, None, idle)


@given(epochs(), st.integers(1, 5000), st.one_of(st.none(), st.integers(0, 5000)))
def test_opening_after_a_timeout_begins_with_two(
    epoch: Epoch, flown: int, offset: int | None
) -> None:
    end = epoch.base + flown
    lost = None if offset is None else epoch.base + offset
    last = end if lost is None else min(end, lost)
    child = opened_after_timeout(epoch, end, lost, key=3)
    assert child == Epoch(3, 0, 0, 2, max(2, window(epoch, last) // 2))


@given(epochs(), st.integers(1200, 16_384), st.integers(1200, 16_384))
def test_resizing_never_grows_the_window_in_bytes(epoch: Epoch, old: int, new: int) -> None:
    """Where slow start ends keeps its bytes either way."""
    child = resized(epoch, old, new)
    if new <= old:
        assert child.cwnd0 == epoch.cwnd0
    else:
        assert child.cwnd0 == max(MINIMUM_WINDOW, epoch.cwnd0 * old // new)
        assert child.cwnd0 * new <= max(epoch.cwnd0 * old, MINIMUM_WINDOW * new)
    if epoch.ssthresh == LARGEST_WINDOW or old == new:
        assert child.ssthresh == epoch.ssthresh
    else:
        scaled = max(MINIMUM_WINDOW, epoch.ssthresh * old // new)
        assert child.ssthresh == min(scaled, LARGEST_WINDOW - 1)  # the largest stands for none
    assert (child.key, child.start, child.base) == (epoch.key, epoch.start, epoch.base)


@given(epochs(), st.integers(0, 3000), st.integers(1, 3000), st.booleans())
def test_bursts_are_an_even_split(epoch: Epoch, offset: int, length: int, lossy: bool) -> None:
    successor = after_loss(epoch, epoch.base + offset // 2) if lossy else None
    low = epoch.base + offset
    spans = list(bursts(epoch, successor, low, low + length))
    assert [k for span in spans for k in range(span.start, span.stop)] == list(
        range(low, low + length)
    )
    for owner in (epoch, successor):
        mine = [span for span in spans if span.epoch == owner]
        if owner is None or not mine:
            continue
        sizes = [span.stop - span.start for span in mine]
        most = largest_burst(window(owner, mine[0].start))
        assert 0 < max(sizes) <= min(most, LARGEST_BURST)
        assert max(sizes) - min(sizes) <= 1
        assert len(sizes) == -(-sum(sizes) // most)
        if successor is not None:
            assert all((span.start >= successor.base) == (owner == successor) for span in mine)
            assert all(span.stop <= successor.base for span in mine if owner == epoch)


def test_the_largest_window_is_sixteen_bits() -> None:
    """Sealed in 16 bits: growth stops there, in either phase, and so do an epoch's children."""
    for epoch in (
        Epoch(0, 0, 0, 10, LARGEST_WINDOW),
        Epoch(0, 0, 0, LARGEST_WINDOW, LARGEST_WINDOW),
        Epoch(0, 0, 0, LARGEST_WINDOW, 2),
    ):
        far = (1 << 31) - 1
        assert window(epoch, far) == LARGEST_WINDOW
        child = after_loss(epoch, far)
        assert child.cwnd0 == child.ssthresh == LARGEST_WINDOW // 2
        for made in (
            opened(epoch, far, None, False),
            opened(epoch, far, far - 1, False),
            opened_after_timeout(epoch, far, None),
        ):
            assert made.cwnd0 <= LARGEST_WINDOW
            assert made.ssthresh <= LARGEST_WINDOW


@pytest.mark.parametrize(
    ("w", "largest"),
    [(2, 1), (5, 1), (6, 2), (8, 2), (9, 3), (12, 4), (39, 4), (40, 5), (160, 20), (9999, 46)],
)
def test_a_window_is_cut_into_eight_bursts_and_a_small_one_into_three(w: int, largest: int) -> None:
    assert largest_burst(w) == largest


@given(st.integers(2, LARGEST_WINDOW))
def test_half_a_burst_is_worth_claiming_while_bursts_are_small(w: int) -> None:
    """So a claim after a loss, whose grant is half of it, does not leave the line in crumbs."""
    enough = worth_claiming(w)
    assert 1 <= enough <= max(largest_burst(w), w // CLAIM_PER_WINDOW)
    assert 2 * enough >= min(SMALL_BURST, largest_burst(w))
    assert enough <= LARGEST_BURST, "more than a whole burst may never come within its reach"
    assert enough <= w // 2, "others must be in flight while it waits"


@given(st.integers(0, 100), st.integers(1, 46))
def test_the_first_packet_carries_the_continuation_and_the_last_of_a_long_burst(
    start: int, length: int
) -> None:
    span = Span(Epoch(0, 0, 0, 10, 10), start, start + length)
    found = list(carriers(span))
    assert found == ([start] if length < TWO_CARRIERS else [start, start + length - 1])


@settings(max_examples=50)
@given(epochs(), st.integers(0, 2000))
def test_one_reported_loss_covers_all_that_was_in_flight(epoch: Epoch, offset: int) -> None:
    """One halving per window: no number below the successor's base halves it again."""
    lost = epoch.base + offset
    successor = after_loss(epoch, lost)
    assume(successor.base > lost + 1)
    for other in (lost + 1, successor.base - 1):
        assert not valid_loss(successor, other, other + 1)
