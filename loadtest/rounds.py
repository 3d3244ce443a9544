"""Contenders take turns, round after round, and are compared within a round.

The speed of a shared machine drifts by a factor of two within the hour, so figures of different
times say nothing of each other. What was measured within one round does: each ratio here is of
two neighbours in time, and what is reported of them is the median.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from loadtest.measure import CLIENT_BOUND, Interval
from loadtest.report import Row

ROUNDS, QUICK_ROUNDS = 5, 2


@dataclass(frozen=True, slots=True)
class Sample:
    """One contender's turn. `amount`: of what is counted, requests or megabytes."""

    amount: float
    seconds: float
    """In which they were made, by the load generator's own clock."""
    total: float
    """All of them, with what was made before and after those seconds: what the CPU was spent on."""
    cost: Interval
    p50_us: float = 0.0
    p99_us: float = 0.0

    @property
    def rate(self) -> float:
        """Per second."""
        return self.amount / self.seconds

    @property
    def server_us(self) -> float:
        """CPU microseconds of the server for one."""
        return self.cost.server_s * 1e6 / self.total

    @property
    def per_server_s(self) -> float:
        """How many for one CPU second of the server."""
        return self.total / self.cost.server_s

    @property
    def client_share(self) -> float:
        """Of one core."""
        return self.cost.client_s / self.cost.seconds

    @property
    def foreign_share(self) -> float:
        return self.cost.foreign_s / self.cost.seconds


Figure = Callable[[Sample], float]
Turn = Callable[[], Sample]


def per_server_s(sample: Sample) -> float:
    return sample.per_server_s


def p50(sample: Sample) -> float:
    return sample.p50_us


def p99(sample: Sample) -> float:
    return sample.p99_us


def rounds_of(quick: bool) -> int:
    return QUICK_ROUNDS if quick else ROUNDS


@dataclass(slots=True)
class Comparison:
    """Samples by contender, one of each round."""

    samples: dict[str, list[Sample]]

    def values(self, name: str, figure: Figure) -> list[float]:
        return [figure(sample) for sample in self.samples[name]]

    def ratios(self, name: str, baseline: str, figure: Figure = per_server_s) -> list[float]:
        """Of a contender's figure to the baseline's in the same round."""
        pairs = zip(self.values(name, figure), self.values(baseline, figure), strict=True)
        return [mine / other for mine, other in pairs]

    def rows(self, baselines: Mapping[str, str], what: str = "requests") -> list[Row]:
        """One for each contender; `baselines` names whom it is compared with, if with anybody."""
        return [self._row(name, baselines.get(name, ""), what) for name in self.samples]

    def _row(self, name: str, baseline: str, what: str) -> Row:
        rates = self.values(name, lambda sample: sample.rate)
        costs = self.values(name, lambda sample: sample.server_us)
        share = statistics.median(self.values(name, lambda sample: sample.client_share))
        foreign = statistics.median(self.values(name, lambda sample: sample.foreign_share))
        ratios = self.ratios(name, baseline) if baseline else []
        return {
            "server": name,
            f"{what}/s": statistics.median(rates),
            "lowest to highest": spread(rates),
            f"server CPU us per {what.removesuffix('s')}": statistics.median(costs),
            "least to most": spread(costs),
            f"{what} per server CPU s": 1e6 / statistics.median(costs),
            "ratio of these": f"{statistics.median(ratios):.2f}" if ratios else "-",
            "ratio lowest to highest": spread(ratios) if ratios else "-",
            "to": baseline or "-",
            "client CPU %": share * 100,
            "client-bound": "yes" if share > CLIENT_BOUND else "-",
            "foreign CPU %": foreign * 100,
        }


def medians(comparison: Comparison, names: Sequence[str], figure: Figure) -> tuple[float, ...]:
    """Of each of these contenders, for a picture."""
    return tuple(statistics.median(comparison.values(name, figure)) for name in names)


def spread(values: Sequence[float]) -> str:
    """The lowest and the highest, with as many digits as they deserve."""
    low, high = min(values), max(values)
    digits = 0 if high >= 1000 else 1 if high >= 10 else 2
    return f"{low:,.{digits}f} to {high:,.{digits}f}"


def take_turns(turns: Mapping[str, Turn], rounds: int) -> Comparison:
    """Each contender once a round; who begins changes, so that none has the better place.

    Raises what a turn raises.
    """
    samples: dict[str, list[Sample]] = {name: [] for name in turns}
    names = list(turns)
    for number in range(rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            sample = turns[name]()
            samples[name].append(sample)
            print(
                f"round {number + 1} of {rounds}: {name}: {sample.rate:,.1f}/s, "
                f"{sample.server_us:,.1f} us of server CPU each",
                file=sys.stderr,
            )
    return Comparison(samples)
