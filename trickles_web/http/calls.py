"""The tasks of application calls."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from trickles_web.state.prefixes import PerPrefix

if TYPE_CHECKING:
    from trickles_web.http.run import Run
    from trickles_web.http.scope import ASGIApp
    from trickles_web.state.prefixes import Prefix

TICK_S = 5.0
"""How often clients that fell silent and files that nobody reads are looked for."""

logger = logging.getLogger("trickles.error")


class Calls:
    """The application calls in progress: their tasks, and one timer while there are any."""

    def __init__(self, most: int, tick: Callable[[], bool]) -> None:
        """most: how many there shall be; half of them for one client prefix.

        tick: called every 5 s while it returns True, once a call has started.
        """
        self.runs: set[Run] = set()
        self._most = most
        self._per_prefix = PerPrefix((most + 1) // 2)
        self._tick = tick
        self._loop: asyncio.AbstractEventLoop | None = None
        self._context = contextvars.Context()
        self._timer: asyncio.TimerHandle | None = None

    def full_for(self, prefix: Prefix) -> bool:
        """No more application calls for now, or for clients of this prefix."""
        return len(self.runs) >= self._most or self._per_prefix.full(prefix)

    def soon(self, callback: Callable[[], None]) -> None:
        """Call back in the next turn of the event loop."""
        asyncio.get_running_loop().call_soon(callback)

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call back after this long."""
        asyncio.get_running_loop().call_later(seconds, callback)

    def start(self, run: Run, app: ASGIApp, done: Callable[[Run], None]) -> None:
        """Call the application in a task of its own: frameworks need `current_task()`."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            # Calls start within other calls too, whose context is none of theirs.
            self._context = contextvars.copy_context()
        self.runs.add(run)
        self._per_prefix.add(run.prefix)
        coroutine, context = run.call(app), self._context.copy()
        if sys.version_info >= (3, 12):
            task = asyncio.Task(coroutine, loop=self._loop, context=context, eager_start=True)
        else:
            task = asyncio.Task(coroutine, loop=self._loop, context=context)
        run.task = task

        def ended(_: object = None) -> None:
            self.runs.discard(run)
            self._per_prefix.remove(run.prefix)
            run.leave_body()  # a call cancelled before its first step has not done so
            done(run)
            error = None if task.cancelled() else task.exception()
            if error is not None and not run.stopping:
                logger.error("Exception while answering for an application\n", exc_info=error)

        if task.done():
            ended()
        else:
            task.add_done_callback(ended)
            if self._timer is None:
                self._timer = self._loop.call_later(TICK_S, self._again)

    def _again(self) -> None:
        self._timer = None
        if self._tick() and self._loop is not None:
            self._timer = self._loop.call_later(TICK_S, self._again)

    def restarting(self) -> bool:
        """Let every call say that the process is about to end, where its protocol has words."""
        told = [run.restarting() for run in tuple(self.runs)]
        return any(told)

    async def drain(self, grace_s: float) -> None:
        """Return when the calls of this moment, and what must not run twice, have ended, or this
        time is over.
        """
        now, before = asyncio.get_running_loop().time, set(self.runs)
        deadline = now() + grace_s
        while now() < deadline:
            awaited = [run.task for run in self.runs if run in before or run.p.unsafe]
            tasks = [task for task in awaited if task is not None]
            if not tasks:
                return
            await asyncio.wait(tasks, timeout=deadline - now())

    async def shutdown(self) -> None:
        """Cancel what is left."""
        tasks = {run.task for run in self.runs if run.task is not None}
        for run in self.runs:
            run.stopping = True
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
