"""The tasks of application calls."""

from __future__ import annotations

import asyncio
import contextvars
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from trickles_web.state.prefixes import PerPrefix

if TYPE_CHECKING:
    from trickles_web.http.run import Run
    from trickles_web.http.scope import ASGIApp
    from trickles_web.state.prefixes import Prefix

TICK_S: Final = 5.0
"""How often clients that fell silent and files that nobody reads are looked for."""

SLOW_AFTER_S: Final = 0.010
"""Half of what clients wait at least before they ask again."""


class Calls:
    """The application calls in progress: their tasks, and one timer while there are any."""

    def __init__(self, most: int, tick: Callable[[], bool], slow: Callable[[Run], None]) -> None:
        """most: how many there shall be; half of them for one client prefix.

        tick: called every 5 s while it returns True, once a call has started. slow: called once for
        each call that takes longer than 10 ms.
        """
        self.runs: set[Run] = set()
        self.begun = 0
        """So many calls in all."""
        self._expected = -1
        self._then: Callable[[], None] = lambda: None
        self._most = most
        self._per_prefix = PerPrefix((most + 1) // 2)
        self._tick = tick
        self._slow = slow
        # When they are to be looked at: sorted without sorting, because the delay is a constant.
        self._young: dict[Run, float] = {}
        self._slow_timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._context = contextvars.Context()
        self._timer: asyncio.TimerHandle | None = None

    def expect(self, count: int, then: Callable[[], None]) -> None:
        """Call `then` when so many calls have begun."""
        self._expected, self._then = count, then

    def full_for(self, prefix: Prefix) -> bool:
        """No more application calls for now, or for clients of this prefix."""
        return len(self.runs) >= self._most or self._per_prefix.full(prefix)

    def soon(self, callback: Callable[[], None]) -> None:
        """Call back in the next turn of the event loop."""
        asyncio.get_running_loop().call_soon(callback)

    def start(self, run: Run, app: ASGIApp) -> None:
        """Call the application in a task of its own: frameworks need `current_task()`.

        At its end the run tells `ended`.
        """
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            # Calls start within other calls too, whose context is none of theirs.
            self._context = contextvars.copy_context()
        self.runs.add(run)
        self.begun += 1
        if self.begun == self._expected:
            self._then()
        self._per_prefix.add(run.prefix)
        coroutine, context = run.call(app), self._context.copy()
        if sys.version_info >= (3, 12):
            task = asyncio.Task(coroutine, loop=self._loop, context=context, eager_start=True)
        else:
            task = asyncio.Task(coroutine, loop=self._loop, context=context)
        if run not in self.runs:
            return  # it has ended already
        run.task = task
        self._young[run] = self._loop.time() + SLOW_AFTER_S
        if self._slow_timer is None:
            self._slow_timer = self._loop.call_later(SLOW_AFTER_S, self._look)
        if self._timer is None:
            self._timer = self._loop.call_later(TICK_S, self._again)

    def ended(self, run: Run) -> None:
        """The call has returned."""
        if run in self.runs:
            self.runs.remove(run)
            self._young.pop(run, None)
            self._per_prefix.remove(run.prefix)
            run.leave_body()

    def _look(self) -> None:
        """Which of the calls that have become old enough are still running?"""
        assert self._loop is not None
        now, young = self._loop.time(), self._young
        self._slow_timer = None
        while young:
            run, due = next(iter(young.items()))
            if due > now:
                self._slow_timer = self._loop.call_at(due, self._look)
                break
            del young[run]
            if run.begun:
                self._slow(run)
            else:
                young[run] = now + SLOW_AFTER_S

    def _again(self) -> None:
        self._timer = None
        if self._tick() and self._loop is not None:
            self._timer = self._loop.call_later(TICK_S, self._again)

    def restarting(self) -> bool:
        """Let every call say that the process is about to end, where its protocol has words."""
        told = [run.restarting() for run in tuple(self.runs)]
        return any(told)

    async def drain(self, grace_s: float) -> int:
        """Return when the calls of this moment, and what must not run twice, have ended, or this
        time is over: how many have not.
        """
        now, before = asyncio.get_running_loop().time, set(self.runs)
        deadline = now() + grace_s
        while now() < deadline:
            awaited = [run.task for run in self.runs if run in before or run.p.unsafe]
            tasks = [task for task in awaited if task is not None]
            if not tasks:
                return 0
            await asyncio.wait(tasks, timeout=deadline - now())
        return sum(run in before or run.p.unsafe for run in self.runs)

    async def shutdown(self) -> None:
        """Cancel what is left."""
        tasks = {run.task for run in self.runs if run.task is not None}
        for run in self.runs:
            run.stopping = True
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for run in tuple(self.runs):
            self.ended(run)  # one that was cancelled before its first step has not said so
        self._young.clear()
        for timer in (self._timer, self._slow_timer):
            if timer is not None:
                timer.cancel()
        self._timer = self._slow_timer = None
