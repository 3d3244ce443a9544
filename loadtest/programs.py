"""What a lying client is told to do: a program says what is sent when."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

EVENTS: Final = ("burst", "gap", "begun", "dry", "refreshed", "tick")
"""A burst can be claimed; a number is missing; a line begins; a short answer is here to its end;
a refreshed continuation came; so many round trips have passed."""
ACTS: Final = ("claim", "report", "open", "attempt", "upload", "replay")
PICKS: Final = (
    *("this", "newest", "provable", "before", "first", "widest", "random", "previous", "oldest"),
    "fresh",
)
LOSSES: Final = ("true", "none", "stop", "base", "early", "late", "window")
STARTS: Final = ("accounted", "own", "under", "parent", "over")
EARLIER: Final = ("none", "before", "overlap", "twice")
WANTS: Final = ("next", "same", "tiny", "half", "one", "overlap")
SIZES: Final = (0, 1200, 1472, 16376)
WHERE: Final = ("same", "random", "all")


class Move(NamedTuple):
    """One thing to send, and what to say in it."""

    act: str
    pick: str = "this"
    """From which continuation."""
    lost: str = "true"
    start: str = "accounted"
    earlier: str = "none"
    wants: str = "next"
    size: int = 1472
    copies: int = 1
    late: float = 0.0
    """Round trips that it is put off by."""
    where: str = "same"
    """To which replicas."""


class Program(NamedTuple):
    """What is sent when. `gather`: numbers that make a claim worth sending; a line's last are
    claimed after a round trip in any case. `patience`: later packets that make one lost."""

    moves: Mapping[str, tuple[Move, ...]]
    gather: int = 1
    patience: int = 1
    every: float = 1.0
    """Round trips from tick to tick."""
    first: Move = Move("open")
    """From what the HELLO brings."""


HONEST_MOVES: Final = {
    "burst": (Move("claim"),),
    "gap": (Move("report"),),
    "dry": (Move("open", "provable"),),
}
