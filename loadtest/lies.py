"""Scenario: clients that lie, found by a search in virtual time, against an honest one.

Everything here is per flow: who opens two flows gets what two flows get, as with TCP.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from functools import cache, partial
from typing import Final, NamedTuple

from loadtest.kept_lines import Held
from loadtest.liar import Liar
from loadtest.programs import HONEST_MOVES, Move, Program
from loadtest.report import Options, Report
from loadtest.strategies import KNOWN, search
from loadtest.virtual import FAST, LINK, WIDE, Honest, Score, Virtual, play
from trickles_web.testing.network import Path
from trickles_web.transport import wire
from trickles_web.transport.wire import Kind

LOSSES: Final = (0.001, 0.01, 0.05, 0.2)
BOUND: Final = 1.1
"""Of what an honest client gets."""
PEAK_LIMIT: Final = 1.25
"""Of an honest client's peak. It is so much by what comes at once: who waits for no third later
packet, nor for a claim that is worth sending, has a seventh more, and asks for nothing undue.
"""
REPLICAS: Final = (2, 3, 5)
ONE: Final = Program(
    {"dry": (Move("open", "provable", wants="one"),)}, first=Move("open", wants="one")
)
"""GETs of one packet, one after the other."""
HALF: Final = KNOWN["half-empty packets"]
BULK: Final = Program(HONEST_MOVES)


class Effort(NamedTuple):
    """How many programs are tried, on how many links each, and for how many seconds; the best
    three are then measured on `fresh` links.
    """

    programs: int
    links: int
    seconds: float
    fresh: int
    path: Path = LINK


EFFORTS: Final = {
    0.001: Effort(40, 2, 3.0, 6, WIDE),
    0.01: Effort(80, 3, 4.0, 16),
    0.05: Effort(120, 4, 4.0, 24),
    0.2: Effort(200, 6, 4.0, 40),
}
"""The more is lost, the more depends on which packets. At 0.1% the narrow link would say how fast a
flow is, and not its losses. All of it takes some ten minutes of one core."""
QUICK: Final = Effort(len(KNOWN), 2, 2.0, 4)


class Ratios(NamedTuple):
    """What a liar got, by what the honest client got; `requests` are its own datagrams, `cpu` is
    of the server.
    """

    packets: float
    bytes: float
    peak: float
    requests: float
    cpu: float

    @property
    def most(self) -> float:
        """In all: the peak is a matter of its own."""
        return max(self.packets, self.bytes)

    @property
    def cpu_for_as_many(self) -> float:
        """For as many datagrams, from the client or to it."""
        return self.cpu / max(self.packets, self.requests)


@cache
def honest(seed: int, loss: float, seconds: float, path: Path = LINK) -> Score:
    return play(Honest, seed, loss, seconds, path=path)


def lying(
    program: Program, seed: int, loss: float, seconds: float, replicas: int = 1, path: Path = LINK
) -> Score:
    return play(partial(Liar, program=program), seed, loss, seconds, replicas, path)


def compare(
    program: Program, seeds: Iterable[int], loss: float, seconds: float, path: Path = LINK
) -> Ratios:
    """The sums over all seeds, the liar's by the honest client's."""
    seeds = list(seeds)
    mine = _total(lying(program, seed, loss, seconds, path=path) for seed in seeds)
    theirs = _total(honest(seed, loss, seconds, path) for seed in seeds)
    return Ratios(
        mine.packets / theirs.packets,
        mine.bytes / theirs.bytes,
        mine.peak / theirs.peak,
        mine.requests / theirs.requests,
        mine.cpu / theirs.cpu,
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


def search_at(loss: float, effort: Effort, seed: int, measure: Callable[[Ratios], float]) -> Ratios:
    """The most of `measure` that any of the three best programs gets, on links that it was not
    chosen on.
    """

    def fitness(program: Program) -> float:
        chosen_on = range(seed * 1000, seed * 1000 + effort.links)
        return measure(compare(program, chosen_on, loss, effort.seconds, effort.path))

    found = search(fitness, effort.programs, random.Random(f"{seed} {loss}"))
    others = range(seed * 1000 + 500, seed * 1000 + 500 + effort.fresh)
    ratios = [compare(f.program, others, loss, effort.seconds, effort.path) for f in found]
    return max(ratios, key=measure)


# ---- several replicas


def across(
    program: Program, replicas: int, loss: float, seconds: float, seeds: Iterable[int]
) -> tuple[float, float]:
    """What a client gets of so many replicas, by an honest one's of one; and the bound.

    A claim can be spent once at each, for the same numbers with the same nonces. So each number
    comes up to R times, and is missing only if all its copies are lost: the line grows as one on a
    path that loses p^R of its packets. R replicas send R times what an honest client gets there.
    """
    seeds = list(seeds)
    greedy = _total(lying(program, seed, loss, seconds, replicas, WIDE) for seed in seeds)
    single = _total(honest(seed, loss, seconds, WIDE) for seed in seeds)
    limit = _total(honest(seed, loss**replicas, seconds, WIDE) for seed in seeds)
    return greedy.packets / single.packets, replicas * limit.packets / single.packets


def search_across(replicas: int, loss: float, effort: Effort, seed: int) -> tuple[float, float]:
    """The same for the best of the programs that are found, on links that it was not chosen on."""

    def fitness(program: Program) -> float:
        chosen_on = range(seed * 1000, seed * 1000 + effort.links)
        return across(program, replicas, loss, effort.seconds, chosen_on)[0]

    found = search(fitness, effort.programs, random.Random(f"{seed} {replicas}"), everywhere)
    others = range(seed * 1000 + 500, seed * 1000 + 500 + effort.fresh)
    return max(across(f.program, replicas, loss, effort.seconds, others) for f in found)


def everywhere(program: Program) -> Program:
    """The same, and each request to all replicas."""
    moves = {
        event: tuple(move._replace(where="all") for move in some)
        for event, some in program.moves.items()
    }
    return program._replace(moves=moves)


# ---- what a flow hoards


class Turning(Liar):
    """Follows one program, and from certain times on others."""

    def __init__(self, world: Virtual, before: Program, *turns: tuple[float, Program]) -> None:
        super().__init__(world, before)
        for at, program in turns:
            world.clock.after(at, partial(self.turn, program))


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
    world.run(Turning(world, ONE, (at, BULK)), at + 7 * rtt)
    other = Virtual(1, LINK)
    other.run(Liar(other, BULK), 8 * rtt)
    return world.bytes_sent(at, at + 6 * rtt) / other.bytes_sent(0.0, 7.5 * rtt)


def filled(seconds: float) -> float:
    """The most bytes in a round trip of a client that asked for half-empty packets for so long, and
    then for full ones, by an honest client's most.
    """
    turning = play(lambda world: Turning(world, HALF, (seconds, BULK)), 1, 0.0, seconds + 1)
    return turning.peak / honest(1, 0.0, seconds + 1).peak


def enlarged(rounds: int) -> float:
    """Bytes of the round trip in which a client whose datagrams were of 1,200 bytes for so many
    opens with jumbo ones, by those of the most that it got in one before.
    """
    world = Virtual(1, FAST, host="127.0.0.1")
    rtt = world.rtt
    small, jumbo = sized(BULK, 0), sized(BULK, 16_376)
    opens = Program({"tick": (Move("open", "provable", size=16_376),)})
    at = rounds * rtt
    quiet = at + 1.5 * rtt  # between two ticks
    turns = ((at, Program({})), (quiet, opens), (quiet + rtt, jumbo))
    world.run(Turning(world, small, *turns), quiet + 2 * rtt)
    before = max(world.bytes_sent(i * rtt, (i + 1) * rtt) for i in range(rounds + 1))
    return world.bytes_sent(quiet, quiet + 1.9 * rtt) / before


def sized(program: Program, size: int) -> Program:
    """The same, asking for datagrams of another size; 0: the one there is."""
    moves = {
        event: tuple(move._replace(size=size) for move in some)
        for event, some in program.moves.items()
    }
    return program._replace(moves=moves, first=program.first._replace(size=size))


# ---- the report


def run(options: Options) -> Report:
    report, quick, seed = Report(), options.quick, options.seed
    for loss, long in EFFORTS.items():
        effort = QUICK._replace(path=long.path) if quick else long
        found = search_at(loss, effort, seed, lambda r: r.most)
        what = f"best lying program on {effort.links} links, {100 * loss:g}% loss"
        figure = f"bytes {found.bytes:.2f}, packets {found.packets:.2f} of an honest client's"
        row(report, what, effort.programs, figure, found.most <= BOUND)
    effort = QUICK if quick else Effort(80, 4, 3.0, 40)
    for loss in (0.05, 0.2):
        found = search_at(loss, effort, seed, lambda r: r.peak)
        what = f"most bytes in any round trip, {100 * loss:g}% loss"
        figure = f"{found.peak:.2f} of an honest client's; bound {PEAK_LIMIT}"
        row(report, what, effort.programs, figure, found.peak <= PEAK_LIMIT)
    _several_replicas(report, options)
    _hoards(report, options)
    _processor(report, options)
    return report


def _several_replicas(report: Report, options: Options) -> None:
    quick, seed = options.quick, options.seed
    bulk, seconds = everywhere(BULK), 2.0 if quick else 4.0
    for replicas in REPLICAS:
        for loss in (0.05, 0.2):
            got, limit = across(bulk, replicas, loss, seconds, [seed, seed + 1])
            what = f"all claims at {replicas} replicas, {100 * loss:g}% loss"
            row(report, what, 1, _bounded(got, limit), got <= BOUND * limit)
    effort = QUICK if quick else Effort(60, 3, 3.0, 12)
    for replicas in (2, 3):
        got, limit = search_across(replicas, 0.2, effort, seed)
        what = f"best lying program at {replicas} replicas, 20% loss"
        row(report, what, effort.programs, _bounded(got, limit), got <= BOUND * limit)


def _bounded(got: float, limit: float) -> str:
    return f"{got:.1f} of an honest client's; bound R * H(p^R): {limit:.1f}"


def _hoards(report: Report, options: Options) -> None:
    presented, alive = hoard(options.seed)
    what = "old continuations again, with every attempt"
    row(report, what, presented, f"{alive} live generation(s)", alive == 1)
    rounds = first_rounds(10_000)
    figure = f"bytes of 6 round trips {rounds:.2f} of a fresh flow's"
    row(report, "one-packet GETs, then bulk", 10_000, figure, rounds <= BOUND)
    most = filled(2.0)
    figure = f"peak bytes of a round trip {most:.2f} of an honest client's"
    row(report, "half-empty packets, then full ones", 1, figure, most <= BOUND)
    most = enlarged(8)
    figure = f"bytes of the round trip {most:.2f} of the one before"
    row(report, "small packets, then jumbo ones", 1, figure, most <= BOUND)


def _processor(report: Report, options: Options) -> None:
    """In all it costs what it sends: nobody is kept from sending datagrams."""
    effort = QUICK if options.quick else Effort(80, 3, 3.0, 24)
    found = search_at(0.05, effort, options.seed, lambda r: r.cpu)
    figure = (
        f"{found.cpu:.2f} of an honest client's, for {found.requests:.2f} of its datagrams; "
        f"for as many {found.cpu_for_as_many:.2f}"
    )
    met = found.cpu_for_as_many <= BOUND
    row(report, "server CPU for the most expensive, 5% loss", effort.programs, figure, met)


def row(report: Report, what: str, runs: int, figure: str, met: bool) -> None:
    verdict = "met" if met else "MISSED"
    report.attack(what, runs, figure, verdict)
    report.check(met, f"{what}: {figure}")
