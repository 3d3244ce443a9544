"""Lists that stay short however much is put in: every second entry goes when they are full."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Thinned(Generic[T]):
    """At most `most` of the entries, evenly spread; `count` says how many there were."""

    def __init__(self, most: int) -> None:
        self.count = 0
        self._most = most
        self._stride = 1
        self._kept: list[T] = []

    def add(self, entry: T) -> None:
        if self.count % self._stride == 0:
            if len(self._kept) == self._most:
                del self._kept[1::2]
                self._stride *= 2
            if self.count % self._stride == 0:
                self._kept.append(entry)
        self.count += 1

    def __iter__(self) -> Iterator[T]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)
