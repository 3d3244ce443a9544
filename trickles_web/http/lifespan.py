"""The ASGI lifespan protocol: "auto" (tried, and left alone if the application does not know it),
"on" (it must), "off"."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from trickles_web.errors import LifespanFailed

if TYPE_CHECKING:
    from trickles_web.http.scope import ASGIApp, Message

logger = logging.getLogger("trickles.error")

_PATIENCE_S = 1.0

_OUT_OF_ORDER = "Got invalid state transition on lifespan protocol."


class Lifespan:
    """One application's start and stop. `state` is what it shares with its requests."""

    def __init__(self, app: ASGIApp, mode: str) -> None:
        self.state: dict[str, Any] = {}
        self._app = app
        self._mode = mode
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        self._started = asyncio.Event()
        self._stopped = asyncio.Event()
        self._failed = False
        self._gone = False
        self._task: asyncio.Task[None] | None = None

    async def startup(self) -> None:
        """Returns when the application is ready. Raises LifespanFailed."""
        if self._mode == "off":
            return
        logger.info("Waiting for application startup.")
        self._task = asyncio.get_running_loop().create_task(self._run())
        await self._inbox.put({"type": "lifespan.startup"})
        await self._started.wait()
        if self._failed or (self._gone and self._mode == "on"):
            logger.error("Application startup failed. Exiting.")
            await self._finish(self._task)
            raise LifespanFailed("application startup failed")
        logger.info("Application startup complete.")

    async def shutdown(self) -> None:
        """Returns when the application has cleaned up, or has failed to (which is logged)."""
        if self._task is None:
            return
        if not self._gone:
            logger.info("Waiting for application shutdown.")
            await self._inbox.put({"type": "lifespan.shutdown"})
            await self._stopped.wait()
            if self._failed or (self._gone and self._mode == "on"):
                logger.error("Application shutdown failed. Exiting.")
            else:
                logger.info("Application shutdown complete.")
        await self._finish(self._task)
        self._task = None

    async def _finish(self, task: asyncio.Task[None]) -> None:
        """The application has said its last word; it may return, but is not waited for long."""
        _, pending = await asyncio.wait({task}, timeout=_PATIENCE_S)
        if pending:
            task.cancel()
            await asyncio.wait({task}, timeout=_PATIENCE_S)

    async def _run(self) -> None:
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
        }
        try:
            await self._app(scope, self._inbox.get, self._send)
        except BaseException as error:
            self._gone = True
            if isinstance(error, asyncio.CancelledError | KeyboardInterrupt):
                raise
            if not self._failed and self._mode == "auto" and not self._started.is_set():
                logger.info("ASGI 'lifespan' protocol appears unsupported.")
            elif not self._failed:
                logger.error("Exception in 'lifespan' protocol\n", exc_info=error)
        finally:
            self._started.set()
            self._stopped.set()

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        phase, _, outcome = kind.removeprefix("lifespan.").partition(".")
        if phase not in ("startup", "shutdown") or outcome not in ("complete", "failed"):
            raise RuntimeError(f"Unexpected ASGI message {kind!r} on lifespan protocol.")
        done = self._started if phase == "startup" else self._stopped
        if done.is_set() or (phase == "shutdown" and not self._started.is_set()):
            raise RuntimeError(_OUT_OF_ORDER)
        if outcome == "failed":
            self._failed = True
            if message.get("message"):
                logger.error(message["message"])
        done.set()
