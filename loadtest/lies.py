"""Scenario: clients that lie, found by a search in virtual time, against an honest one.

Everything here is per flow: who opens two flows gets what two flows get, as with TCP.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from functools import cache, partial
from typing import Final, NamedTuple

from loadtest.kept_lines import Held
from loadtest.liar import Liar
from loadtest.programs import HONEST_MOVES, Move, Program
from loadtest.report import Options, Report
from loadtest.strategies import KNOWN, search
from loadtest.virtual import LINK, WIDE, Honest, Score, Virtual, play
from trickles_web.testing.network import Path
from trickles_web.transport import wire
from trickles_web.transport.wire import Kind

LOSSES: Final = (0.001, 0.01, 0.05, 0.2)
BOUND: Final = 1.1
"""Of what an honest client gets."""
LINK_LIMITED: Final = 0.02
"""At losses below, the bytes fill the link, whatever packets they are in: smaller ones are more."""
PEAK_LIMIT: Final = 1.25
"""Of an honest client's peak: what a window of half-empty packets brings once they are filled."""
REPLICAS: Final = (2, 3, 5)
ONE: Final = Program(
    {"dry": (Move("open", "provable", wants="one"),)}, first=Move("open", wants="one")
)
"""GETs of one packet, one after the other."""
HALF: Final = KNOWN["half-empty packets"]
BULK: Final = Program(HONEST_MOVES)


class Ratios(NamedTuple):
    """What a liar got, by what the honest client got; `cpu` of the server, in all."""

    packets: float
    bytes: float
    peak: float
    cpu: float
    cpu_of_a_datagram: float

    def most(self, loss: float) -> float:
        """In all: the peak is a matter of its own."""
        return self.bytes if loss < LINK_LIMITED else max(self.packets, self.bytes)


@cache
def honest(seed: int, loss: float, seconds: float, path: Path = LINK) -> Score:
    return play(Honest, seed, loss, seconds, path=path)


def lying(
    program: Program, seed: int, loss: float, seconds: float, replicas: int = 1, path: Path = LINK
) -> Score:
    return play(partial(Liar, program=program), seed, loss, seconds, replicas, path)


def compare(program: Program, seeds: Iterable[int], loss: float, seconds: float) -> Ratios:
    """The sums over all seeds, the liar's by the honest client's."""
    seeds = list(seeds)
    mine = _total(lying(program, seed, loss, seconds) for seed in seeds)
    theirs = _total(honest(seed, loss, seconds) for seed in seeds)
    return Ratios(
        mine.packets / theirs.packets,
        mine.bytes / theirs.bytes,
        mine.peak / theirs.peak,
        mine.cpu / theirs.cpu,
        mine.cpu / mine.requests / (theirs.cpu / theirs.requests),
    )


def _total(scores: Iterable[Score]) -> Score:
    total = Score()
    for score in scores:
        total.packets += score.packets
        total.bytes += score.bytes
        total.peak += score.peak
        total.requests += score.requests
        total.cpu += score.cpu
    return total


def search_at(loss: float, tries: int, seconds: float, seed: int, fresh: int) -> Ratios:
    """The most that any of the three best programs gets, on `fresh` links that it was not chosen
    on.
    """
    chosen_on = range(seed * 1000, seed * 1000 + 3)

    def fitness(program: Program) -> float:
        return compare(program, chosen_on, loss, seconds).most(loss)

    found = search(fitness, tries, random.Random(f"{seed} {loss}"))
    others = range(seed * 1000 + 500, seed * 1000 + 500 + fresh)
    ratios = [compare(f.program, others, loss, seconds) for f in found]
    return max(ratios, key=lambda r: r.most(loss))


# ---- several replicas


def across(replicas: int, loss: float, seconds: float, seed: int) -> tuple[float, float]:
    """What the greediest client gets of so many replicas, by an honest one's; and the bound.

    A claim can be spent once at each, for the same numbers with the same nonces. So each number
    comes up to R times, and is missing only if all its copies are lost: the line grows as one on a
    path that loses p^R of its packets. R replicas send R times what an honest client gets there.
    """
    greedy = lying(everywhere(BULK), seed, loss, seconds, replicas, WIDE).packets
    single = honest(seed, loss, seconds, WIDE).packets
    limit = replicas * honest(seed, loss**replicas, seconds, WIDE).packets
    return greedy / single, limit / single


def everywhere(program: Program) -> Program:
    """The same, and each request to all replicas."""
    moves = {
        event: tuple(move._replace(where="all") for move in some)
        for event, some in program.moves.items()
    }
    return program._replace(moves=moves)


# ---- what a flow hoards


class Turning(Liar):
    """Follows one program, and from some time on another."""

    def __init__(self, world: Virtual, before: Program, at: float, after: Program) -> None:
        super().__init__(world, before)
        world.clock.after(at, partial(self.turn, after))


class Hoarder(Liar):
    """Presents all that it has kept again, with every attempt; then claims of everything."""

    AGE: Final = 45.0
    """Seconds by which all attempts may be served, and claims, too."""

    def __init__(self, world: Virtual, program: Program, until: float) -> None:
        super().__init__(world, program)
        self.presented = 0
        self.alive: set[tuple[int, int]] = set()
        """The generations of which claims were answered in the end."""
        self._counting = False
        world.clock.after(until, partial(self.turn, Program({})))
        world.clock.after(until + self.AGE, self._present_all)

    def _present_all(self) -> None:
        chance = self._world.clock.random
        kept = chance.sample(list(self._all), min(100, len(self._all)))
        requests = [(held, attempt) for held in kept for attempt in range(11)]
        chance.shuffle(requests)
        for i, (held, attempt) in enumerate(requests):
            self._later(i / 500, partial(self.present, held, attempt))
        self._later(len(requests) / 500 + 0.5, self._claim_all)

    def present(self, held: Held, attempt: int) -> None:
        self.presented += 1
        self._attempts[held.continuation.ordinal, held.stop] = attempt - 1
        if attempt:
            self._attempt(held, Move("attempt"))
        else:
            self._open(held, Move("open"))

    def _claim_all(self) -> None:
        self._counting = True
        for i, held in enumerate(self._all):
            self._later(i / 500, partial(self._claim, held, Move("claim", start="own")))

    def receive(self, datagram: bytes) -> None:
        if self._counting and wire.kind_of(datagram) == Kind.DATA:
            data = wire.decode_data(datagram)
            if data.base or data.burst >= data.cwnd0:  # not of an opening
                self.alive.add((data.ordinal, data.generation))
        super().receive(datagram)


def hoard(seed: int) -> tuple[int, int]:
    """How often continuations were presented again, and how many generations lived then."""
    world = Virtual(seed, LINK)
    client = Hoarder(world, KNOWN["attempts twice at each beginning"], 3.0)
    world.run(client, 3.0 + Hoarder.AGE + 11.0)
    return client.presented, len(client.alive)


def first_rounds(gets: int) -> float:
    """Bytes of the first six round trips of a bulk transfer after so many GETs of one packet, by
    those of a fresh flow.
    """
    world = Virtual(1, LINK)
    rtt = world.rtt
    at = (gets + 2) * (rtt + 0.002)
    world.run(Turning(world, ONE, at, BULK), at + 7 * rtt)
    other = Virtual(1, LINK)
    other.run(Liar(other, BULK), 8 * rtt)
    return world.bytes_sent(at, at + 6 * rtt) / other.bytes_sent(0.0, 7.5 * rtt)


def filled(seconds: float) -> float:
    """The most bytes in a round trip of a client that asked for half-empty packets for so long, and
    then for full ones, by an honest client's most.
    """
    turning = play(partial(Turning, before=HALF, at=seconds, after=BULK), 1, 0.0, seconds + 1)
    return turning.peak / honest(1, 0.0, seconds + 1).peak


# ---- the report


def run(options: Options) -> Report:
    report = Report()
    quick = options.quick
    tries, seconds, fresh = (len(KNOWN), 3.0, 4) if quick else (200, 6.0, 24)
    cpu = Ratios(0, 0, 0, 0, 0)
    for loss in LOSSES:
        found = search_at(loss, tries, seconds, options.seed, fresh)
        cpu = max(cpu, found, key=lambda r: r.cpu)
        what = f"best lying program found, {100 * loss:g}% loss"
        figure = f"bytes {found.bytes:.2f}, packets {found.packets:.2f} of an honest client's"
        row(report, what, tries, figure, found.most(loss) <= BOUND)
        figure = f"{found.peak:.2f} of an honest client's"
        row(report, "... its bytes in any round trip, at most", tries, figure, found.peak <= BOUND)
    for replicas in REPLICAS:
        for loss in (0.05, 0.2):
            got, limit = across(replicas, loss, 2.0 if quick else 5.0, options.seed)
            figure = f"{got:.1f} of an honest client's; bound R * H(p^R): {limit:.1f}"
            what = f"all claims at {replicas} replicas, {100 * loss:g}% loss"
            row(report, what, 1, figure, got <= BOUND * limit)
    presented, alive = hoard(options.seed)
    figure = f"{alive} live generation(s)"
    row(report, "hoarded continuations, every attempt", presented, figure, alive == 1)
    gets = 300 if quick else 10_000
    rounds = first_rounds(gets)
    figure = f"bytes of 6 round trips {rounds:.2f} of a fresh flow's"
    row(report, "one-packet GETs, then bulk", gets, figure, rounds <= BOUND)
    most = filled(2.0)
    figure = f"peak bytes of a round trip {most:.2f} of an honest client's"
    row(report, "half-empty packets, then full ones", 1, figure, most <= PEAK_LIMIT)
    figure = f"{cpu.cpu:.2f} of an honest client's"
    row(report, "server CPU for the most expensive of these", 1, figure, cpu.cpu <= BOUND)
    figure = f"{cpu.cpu_of_a_datagram:.2f} of an honest client's"
    row(report, "... for each datagram of it", 1, figure, cpu.cpu_of_a_datagram <= BOUND)
    return report


def row(report: Report, what: str, runs: int, figure: str, met: bool) -> None:
    verdict = "met" if met else "MISSED"
    report.attack(what, runs, figure, verdict)
    report.check(met, f"{what}: {figure}")
