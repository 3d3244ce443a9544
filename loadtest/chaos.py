"""Scenario: mixed exchanges with three replicas of which, and of whose path, everything goes wrong.

    client -> Path (weather, addresses) -> any of three replicas -> one store: a directory, or Redis

Faults begin at random moments and overlap. All the time: clocks apart by as much as is allowed, a
filter that is overfilled many times, keys that change under way, 1% loss. Each exchange has to end
in a bounded time, with its answer or an error that has a name; nothing unsafe is executed twice.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from loadtest import faults, mixture
from loadtest.faults import Fault, Storm
from loadtest.mixed import FILE_BYTES, PATIENCE_S
from loadtest.processes import Process, Stage
from loadtest.report import Options, Report

EXCHANGES, QUICK_EXCHANGES = 10_000, 600
STORES = ("directory", "Redis")
MOST_AT_ONCE = 2
LOOK_S = 0.05
BETWEEN_S = (0.1, 0.6)
LONGEST_S = 1800.0
MOST_FAILED = 0.2
"""Share of exchanges that may fail: without Redis, or room, nothing unsafe is begun."""
UNSAFE = ("post", "upload")
REFUSED = "503"
INTERNAL_ERROR = "Exception while answering a datagram"


class Exchange(NamedTuple):
    """A line of `loadtest.mixed`."""

    kind: str
    name: str
    outcome: str
    began: float
    ended: float
    why: str = ""


@dataclass(slots=True)
class Spell:
    """One fault, from when to when (monotonic seconds)."""

    name: str
    began: float
    ended: float
    end: Callable[[], None]


@dataclass(slots=True)
class Spells:
    """What is wrong, drawn at random, and what was."""

    storm: Storm
    chance: random.Random
    faults: dict[str, Fault]
    active: list[Spell] = field(default_factory=list)
    over: list[Spell] = field(default_factory=list)
    _next: float = 0.0

    def look(self, now: float) -> None:
        for spell in [spell for spell in self.active if spell.ended <= now]:
            self._end(spell)
        going = {spell.name for spell in self.active}
        free = [name for name in self.faults if name not in going]
        if free and now >= self._next and len(self.active) < MOST_AT_ONCE:
            self._next = now + self.chance.uniform(*BETWEEN_S)
            name = self.chance.choice(free)
            fault = self.faults[name]
            end = fault.begin(self.storm, self.chance)
            lasts = self.chance.uniform(*fault.seconds)
            self.active.append(Spell(name, now, now + lasts, end))

    def _end(self, spell: Spell) -> None:
        spell.end()
        spell.ended = time.monotonic()
        self.active.remove(spell)
        self.over.append(spell)

    def close(self) -> None:
        for spell in list(self.active):
            self._end(spell)


def run(options: Options) -> Report:
    report = Report()
    exchanges = QUICK_EXCHANGES if options.quick else EXCHANGES
    for store in STORES:
        storm_over(report, store, exchanges, options.seed, faults.FAULTS)
    return report


def storm_over(
    report: Report, store: str, exchanges: int, seed: int, chosen: dict[str, Fault]
) -> None:
    """So many exchanges with replicas on this store, under the chosen faults."""
    with Stage() as stage, Storm(stage, store, seed) as storm:
        (stage.directory / "file.bin").write_bytes(mixture.content(0, FILE_BYTES))
        possible = {name: fault for name, fault in chosen.items() if fault.possible(storm)}
        client = storm.client(exchanges, LONGEST_S, seed)
        spells = Spells(storm, random.Random(seed), possible)
        _until_ended(client, spells)
        seen = [Exchange(*json.loads(line)) for line in re.findall(r"(?m)^\[.*\]$", client.log)]
        report.check(not client.popen.returncode, f"{store}: the client ends: {client.log[-500:]}")
        codes = storm.end()
        report.check(not any(codes), f"{store}: replicas end cleanly, not with {codes}")
        executed = mixture.executions(storm.executions)
        judge(report, store, seen, executed, exchanges)
        for name in possible:
            _tell(report, store, name, [s for s in spells.over if s.name == name], seen)
        _tell_lasting(report, store, storm, seen)


def _until_ended(client: Process, spells: Spells) -> None:
    deadline = time.monotonic() + LONGEST_S + PATIENCE_S
    try:
        while client.popen.poll() is None:
            if time.monotonic() > deadline:
                raise RuntimeError(f"the client does not end: {client.log[-1000:]}")
            time.sleep(LOOK_S)
            spells.storm.look()
            spells.look(time.monotonic())
    finally:
        spells.close()


# ---- what came of it


def judge(
    report: Report, store: str, seen: list[Exchange], executed: list[str], count: int
) -> None:
    """All that is asked of a run."""
    outcomes = Counter(exchange.outcome for exchange in seen)
    right = {e.name for e in seen if e.outcome == "right" and e.kind in UNSAFE}
    refused = {e.name for e in seen if e.outcome == REFUSED}
    times = Counter(executed)
    early = [e for e in seen if e.outcome == "early end" and e.kind != "websocket"]
    bounds = {
        "every exchange ends": len(seen) == count and not outcomes["HANG"],
        "no wrong byte": not outcomes["WRONG"],
        "no body that ends early without an error": not early,
        "nothing unsafe is executed twice": max(times.values(), default=0) <= 1,
        "every success is executed": right <= set(times),
        "what is refused is not executed": not refused & set(times),
        "four in five are answered": outcomes["right"] >= (1 - MOST_FAILED) * count,
    }
    for bound, met in bounds.items():
        report.check(met, f"{store}: {bound}")
    _add(report, f"{store}: all faults at random", len(seen), told(seen), all(bounds.values()))


def told(seen: list[Exchange]) -> str:
    """How exchanges ended, and how long the longest took."""
    counted = Counter(exchange.outcome for exchange in seen)
    right = counted.pop("right", 0)
    others = ", ".join(f"{count} {outcome}" for outcome, count in counted.most_common())
    longest = max((e.ended - e.began for e in seen), default=0.0)
    return f"{right:,} right, {others or 'no error'}; longest {longest:.1f} s"


def sound(seen: list[Exchange]) -> bool:
    return not {"WRONG", "HANG"} & {exchange.outcome for exchange in seen}


def _tell(report: Report, store: str, name: str, spells: list[Spell], seen: list[Exchange]) -> None:
    """Of one fault: the exchanges that it met."""
    met = [e for e in seen if any(s.began < e.ended and e.began < s.ended for s in spells)]
    _add(report, f"{store}: {name}", len(spells), f"met {len(met):,}: {told(met)}", sound(met))


def _tell_lasting(report: Report, store: str, storm: Storm, seen: list[Exchange]) -> None:
    errors = [text for log in storm.logs() for text in log.split(INTERNAL_ERROR)[1:]]
    report.check(not errors, f"{store}: no internal error; the first: {errors[:1]}"[:3000])
    for name, figure in storm.lasting().items():
        _add(report, f"{store}: {name}", 1, figure, sound(seen) and not errors)


def _add(report: Report, what: str, runs: int, figure: str, held: bool) -> None:
    verdict = "held" if held else "MISSED"
    report.attack(what, runs, figure, verdict)
