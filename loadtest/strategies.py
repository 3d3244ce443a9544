"""Programs of lying clients: those that were thought of, those that are drawn, and a search.

Each of the known ones once got more than it should have, or was meant to.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final, NamedTuple

from loadtest import programs
from loadtest.programs import HONEST_MOVES, Move, Program

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
    "probes": Program({"burst": (Move("open", "provable", size=1200), Move("claim"))}),
    "attempts twice at each beginning": Program(
        {"burst": (Move("claim"),), "begun": (Move("attempt", copies=2),)}
    ),
    "attempts four times a round": Program(
        {"burst": (Move("claim"),), "tick": (Move("attempt", "first"),)}, every=0.25
    ),
    "half-empty packets": Program(
        {
            "burst": (Move("claim", wants="half"),),
            "gap": (Move("report"),),
            "dry": (Move("open", "provable", wants="half"),),
        }
    ),
    "all at all replicas": Program(
        {
            "burst": (Move("claim", where="all"),),
            "gap": (Move("report"),),
            "dry": (Move("open", "provable", where="all"),),
        }
    ),
}


def random_move(chance: random.Random) -> Move:
    return Move(
        chance.choice(programs.ACTS),
        chance.choice(programs.PICKS),
        chance.choice(programs.LOSSES),
        chance.choice(programs.STARTS),
        chance.choice(programs.EARLIER),
        chance.choice(programs.WANTS),
        chance.choice(programs.SIZES),
        chance.choice((1, 1, 1, 2, 3)),
        chance.choice((0.0, 0.0, 0.0, 0.25, 1.0, 2.0, 10.0)),
        chance.choice(programs.WHERE),
    )


def random_program(chance: random.Random) -> Program:
    moves: dict[str, tuple[Move, ...]] = dict(HONEST_MOVES)
    for _ in range(chance.randint(1, 4)):
        event = chance.choice(programs.EVENTS)
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
    event = chance.choice(programs.EVENTS)
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
    """A program, and what it got in the search."""

    program: Program
    fitness: float


def search(
    fitness: Callable[[Program], float],
    tries: int,
    chance: random.Random,
    of: Callable[[Program], Program] = lambda program: program,
) -> list[Found]:
    """The three best: of the known programs, of random ones, and of what is near to the best.

    of: what the known and the random ones are made to first.
    """
    best: list[tuple[float, int, Program]] = []
    known = list(KNOWN.values())
    for i in range(tries):
        if i < len(known):
            program = of(known[i])
        elif i < tries // 2 or not best:
            program = of(random_program(chance))
        else:
            program = chance.choice(best)[2]
            for _ in range(chance.randint(1, 3)):
                program = mutated(program, chance)
        best.append((-fitness(program), i, program))
        best = sorted(best, key=lambda b: b[:2])[:6]
    return [Found(program, -negative) for negative, _, program in best[:3]]
