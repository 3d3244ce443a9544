"""Responses on their way to a store that is told, and not waited for: piece after piece, in order.

Of each response one piece at a time is under way, and what was produced meanwhile goes with the
next. One that is refused or lost ends the part: what came of it there goes when its time is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from trickles_web.state.store import EMPTY, MOST_APPENDED, Key, Part

Tell = Callable[[Key, Part, bytes], Awaitable[bool]]
"""Append a piece, so that `part` is what is there then. False: it is not."""


class _Outgoing:
    """One part: as promised, as told, and the pieces between."""

    __slots__ = ("part", "task", "told", "waiting")

    def __init__(self, part: Part) -> None:
        self.part = part
        self.told = part
        self.waiting: list[bytes] = []
        self.task: asyncio.Task[None] | None = None


class Parts:
    """The parts that this process is producing, at most `most_bytes` of them."""

    def __init__(
        self,
        owner: int,
        most_bytes: int,
        tell: Tell,
        do: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
    ) -> None:
        """do: begin a task."""
        self.used = 0
        self._owner = owner
        self._most_bytes = most_bytes
        self._tell = tell
        self._do = do
        self._serial = 0
        self._open: dict[Key, _Outgoing] = {}

    def append(self, key: Key, part: Part, piece: bytes) -> Part | None:
        """As the store's `append`; of a key that has a part, no other one is begun."""
        if part == EMPTY:
            self._serial += 1
            part = Part(self._owner, self._serial)
            self._open[key] = _Outgoing(part)
        outgoing = self._open.get(key)
        if outgoing is None or outgoing.part != part:
            return None
        longer = part._replace(length=part.length + len(piece))
        if longer.length > MOST_APPENDED or self.used + len(piece) > self._most_bytes:
            return None
        outgoing.part = longer
        outgoing.waiting.append(piece)
        self.used += len(piece)
        if outgoing.task is None:
            outgoing.task = self._do(self._send(key, outgoing))
        return longer

    async def _send(self, key: Key, outgoing: _Outgoing) -> None:
        while outgoing.waiting:
            piece = b"".join(outgoing.waiting)
            outgoing.waiting.clear()
            told = outgoing.told
            outgoing.told = told._replace(length=told.length + len(piece))
            if not await self._tell(key, outgoing.told, piece) and self._open.get(key) is outgoing:
                self.give_up(key)
        outgoing.task = None

    async def told(self, key: Key) -> None:
        """Return when all of it was told; from then on it takes no room here."""
        outgoing = self._open.get(key)
        if outgoing is not None and outgoing.task is not None:
            await asyncio.wait([outgoing.task])
        if self._open.get(key) is outgoing:
            self.give_up(key)

    def give_up(self, key: Key) -> Part | None:
        """Nothing more of it is told; returns what it was."""
        outgoing = self._open.pop(key, None)
        if outgoing is None:
            return None
        outgoing.waiting.clear()
        self.used -= outgoing.part.length
        return outgoing.part

    def clear(self) -> None:
        """Give up all."""
        for key in list(self._open):
            self.give_up(key)
