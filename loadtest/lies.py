"""Scenario: clients that lie, found by a search, against an honest one on the same link."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from functools import cache, partial
from typing import Final, NamedTuple

from loadtest import liar
from loadtest.liar import HONEST_MOVES, Liar, Move, Program
from loadtest.report import Options, Report
from loadtest.virtual import Honest, Score, play

LOSSES: Final = (0.001, 0.01, 0.05, 0.2)
BOUND: Final = 1.1
"""Of what an honest client gets."""

KNOWN: Final = {
    "impatient": Program(HONEST_MOVES),
    "waits for windows": Program(HONEST_MOVES, gather=1000),
    "opens from before the gap": Program(
        {**HONEST_MOVES, "gap": (Move("open", "provable", "none"),)}, gather=1000
    ),
    "opens with the gap": Program({**HONEST_MOVES, "gap": (Move("open", "newest"),)}),
    "refreshed": Program(
        {
            **HONEST_MOVES,
            "gap": (Move("report"), Move("upload", "newest")),
            "refreshed": (Move("open"),),
        }
    ),
    "refreshed each round": Program(
        {**HONEST_MOVES, "tick": (Move("upload", "newest"),), "refreshed": (Move("open"),)}
    ),
    "opens from the first burst": Program(
        {**HONEST_MOVES, "gap": (Move("report"), Move("open", "first"))}
    ),
    "opens from the widest": Program(
        {**HONEST_MOVES, "gap": (Move("report"), Move("open", "widest"))}
    ),
    "attempts from the widest": Program(
        {**HONEST_MOVES, "gap": (Move("report"), Move("attempt", "widest"))}
    ),
    "attempts each round": Program({**HONEST_MOVES, "tick": (Move("attempt", "newest"),)}),
    "early loss": Program({**HONEST_MOVES, "gap": (Move("report", lost="window"),)}),
    "late loss": Program({**HONEST_MOVES, "gap": (Move("report", lost="late"),)}),
    "probes": Program({"burst": (Move("open", size=1200), Move("claim"))}),
    "all at all replicas": Program(
        {
            "burst": (Move("claim", where="all"),),
            "gap": (Move("report"),),
            "dry": (Move("open", "provable", where="all"),),
        }
    ),
}


class Ratios(NamedTuple):
    """What a liar got, by what the honest client got."""

    packets: float
    bytes: float
    peak: float

    @property
    def most(self) -> float:
        """In all: the peak is a matter of its own."""
        return max(self.packets, self.bytes)


@cache
def honest(seed: int, loss: float, seconds: float) -> Score:
    return play(Honest, seed, loss, seconds)


def lying(program: Program, seed: int, loss: float, seconds: float, replicas: int = 1) -> Score:
    return play(partial(Liar, program=program), seed, loss, seconds, replicas)


def compare(
    program: Program, seeds: Iterable[int], loss: float, seconds: float, replicas: int = 1
) -> Ratios:
    """The sums over all seeds, the liar's by the honest client's."""
    pairs = [
        (lying(program, s, loss, seconds, replicas), honest(s, loss, seconds)) for s in seeds
    ]
    mine, theirs = zip(*pairs, strict=True)
    return Ratios(
        sum(x.packets for x in mine) / sum(x.packets for x in theirs),
        sum(x.bytes for x in mine) / sum(x.bytes for x in theirs),
        sum(x.peak for x in mine) / sum(x.peak for x in theirs),
    )


# ---- the search


def random_move(chance: random.Random) -> Move:
    return Move(
        chance.choice(liar.ACTS),
        chance.choice(liar.PICKS),
        chance.choice(liar.LOSSES),
        chance.choice(liar.STARTS),
        chance.choice(liar.EARLIER),
        chance.choice(liar.WANTS),
        chance.choice(liar.SIZES),
        chance.choice((1, 1, 1, 2, 3)),
        chance.choice((0.0, 0.0, 0.0, 0.25, 1.0, 2.0, 10.0)),
        chance.choice(liar.WHERE),
    )


def random_program(chance: random.Random) -> Program:
    moves = dict(HONEST_MOVES)
    for _ in range(chance.randint(1, 4)):
        event = chance.choice(liar.EVENTS)
        some = tuple(random_move(chance) for _ in range(chance.randint(1, 3)))
        moves[event] = some if chance.random() < 0.5 else (*moves.get(event, ()), *some)[-4:]
    return Program(
        moves,
        chance.choice((1, 1, 4, 1000)),
        chance.choice((1, 1, 3)),
        chance.choice((0.25, 1.0, 3.0)),
    )


def mutated(program: Program, chance: random.Random) -> Program:
    """The same but for one thing."""
    moves = dict(program.moves)
    event = chance.choice(liar.EVENTS)
    here = list(moves.get(event, ()))
    what = chance.randrange(6)
    if what == 0 and here:
        del here[chance.randrange(len(here))]
    elif what == 1 and len(here) < 4:
        here.insert(chance.randrange(len(here) + 1), random_move(chance))
    elif what <= 4 and here:
        i = chance.randrange(len(here))
        field = chance.choice(Move._fields)
        here[i] = here[i]._replace(**{field: getattr(random_move(chance), field)})
    else:
        other = random_program(chance)
        field = chance.choice(("gather", "patience", "every"))
        return program._replace(**{field: getattr(other, field)})
    moves[event] = tuple(here)
    return program._replace(moves=moves)


class Found(NamedTuple):
    """The best of a search, by the seeds that it was searched with."""

    program: Program
    fitness: float
    tried: int


def search(
    loss: float, tries: int, seconds: float, seed: int, objective: str = "most"
) -> list[Found]:
    """The three best programs: known ones, random ones, and what is near to the best so far.

    objective: the name of the ratio that is to become large.
    """
    chance = random.Random(f"{seed} {loss} {objective}")
    seeds = range(seed * 100, seed * 100 + 3)
    best: list[tuple[float, int, Program]] = []
    known = list(KNOWN.values())
    for i in range(tries):
        if i < len(known):
            program = known[i]
        elif i < tries // 2 or not best:
            program = random_program(chance)
        else:
            program = chance.choice(best)[2]
            for _ in range(chance.randint(1, 3)):
                program = mutated(program, chance)
        ratio = getattr(compare(program, seeds, loss, seconds), objective)
        best = sorted([*best, (ratio, i, program)], key=lambda b: (-b[0], b[1]))[:6]
    return [Found(program, fitness, tries) for fitness, _, program in best[:3]]


def confirm(found: Sequence[Found], seeds: Iterable[int], loss: float, seconds: float) -> Ratios:
    """The most that any of them gets on links that none was chosen on."""
    seeds = list(seeds)
    ratios = [compare(f.program, seeds, loss, seconds) for f in found]
    return max(ratios, key=lambda r: r.most)


def run(options: Options) -> Report:
    report = Report()
    return report
