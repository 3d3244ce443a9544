"""What must not be the same in a child, if the application forks and the child goes on serving.

A keyring counts the nonces of its seals (see `transport.keys`), and so do private flows; a copy
would count on with the same ones: two seals under one nonce give away what both say, and let
anybody forge more.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar


class Counting(Protocol):
    """What counts nonces."""

    def forked(self) -> None:
        """This is a child's copy: what was counted goes on to be counted in the parent."""


_in_use: list[Counting] = []
CountingT = TypeVar("CountingT", bound=Counting)


@contextmanager
def parted_by_forks(counting: CountingT) -> Iterator[CountingT]:
    """As long as this lasts, a child draws nonces of its own."""
    _in_use.append(counting)
    try:
        yield counting
    finally:
        _in_use.remove(counting)


def _part() -> None:
    for counting in _in_use:
        counting.forked()


os.register_at_fork(after_in_child=_part)
