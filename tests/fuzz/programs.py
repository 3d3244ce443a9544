"""Programs: sequences of steps that hypothesis draws as rules, and a fuzzer as bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

Step = Callable[[Any, int, int, int], None]
BYTES_OF_A_STEP = 4
small = st.integers(0, 255)


def steps(data: bytes, table: Sequence[Step]) -> Iterator[tuple[Step, int, int, int]]:
    """Four bytes of each step: which, and its three numbers."""
    for at in range(0, len(data) - BYTES_OF_A_STEP + 1, BYTES_OF_A_STEP):
        which, a, b, c = data[at : at + BYTES_OF_A_STEP]
        yield table[which % len(table)], a, b, c


def machine(
    name: str, begin: Callable[[int], Any], table: Sequence[Step]
) -> type[RuleBasedStateMachine]:
    """A state machine with a rule for each step. `begin` makes the one that the steps are for,
    which has an `end` too.
    """

    def start(self: Any, form: int) -> None:
        self.subject = begin(form)

    def teardown(self: Any) -> None:
        if hasattr(self, "subject"):
            self.subject.end()

    members: dict[str, Any] = {"start": initialize(form=small)(start), "teardown": teardown}
    for step in dict.fromkeys(table):
        members[step.__name__] = _rule_of(step)
    return type(name, (RuleBasedStateMachine,), members)


def _rule_of(step: Step) -> Any:
    def take(self: Any, a: int, b: int, c: int) -> None:
        step(self.subject, a, b, c)

    take.__name__ = step.__name__
    return rule(a=small, b=small, c=small)(take)
