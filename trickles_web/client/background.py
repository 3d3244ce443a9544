"""The thread in which the flows of all sockets of a process live; there is one, or none.

It starts with the first socket, ends when there was none for a while, and is over before the
process is: servers then hear that nobody waits any more. A forked child has none of it: the sockets
that it inherits are its parent's, and its own get a thread of their own.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import socket
import threading
from collections.abc import Callable

from trickles_web.client.relay import OnFailure, OpenFlow, Relay, Warnings

logger = logging.getLogger("trickles.client")

IDLE_S = 5.0
"""The thread ends after this long without a socket."""
FAREWELL_S = 1.0
"""At the end of the process it has this long to tell the servers."""


class Background:
    """A thread, its loop, and the relay that runs there."""

    def __init__(self, on_idle: Callable[[Background], None]) -> None:
        self._on_idle = on_idle
        self._loop = asyncio.new_event_loop()
        self._relay = Relay(self._loop, self._on_forgotten)
        self._warnings = Warnings(logger, self._loop.time)
        self._timer: asyncio.TimerHandle | None = None
        self._coming = 0
        """Sockets that were handed over and are not there yet. Counted under the module's lock."""
        # A daemon, so that a program ends with sockets open; `atexit` says farewell all the same.
        self._thread = threading.Thread(target=self._run, name="trickles-client", daemon=True)
        self._thread.start()

    @property
    def used(self) -> bool:
        """Is there a socket, or one on its way?"""
        return bool(self._coming or self._relay.connections)

    def take(self, sock: socket.socket, open_flow: OpenFlow, fail: OnFailure, server: str) -> None:
        """Carry the connection; for any thread, while it holds the module's lock."""
        self._coming += 1
        self._loop.call_soon_threadsafe(self._take, sock, open_flow, fail, server)

    def _take(self, sock: socket.socket, open_flow: OpenFlow, fail: OnFailure, server: str) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

        def on_failure(error: Exception) -> None:
            fail(error)
            self._warnings.warn(f"{error}; resetting a socket to {server}")

        self._relay.take(sock, open_flow, on_failure)
        with _lock:
            self._coming -= 1

    def _on_forgotten(self) -> None:
        if not self._relay.connections and self._timer is None:
            self._timer = self._loop.call_later(IDLE_S, self._on_idle, self)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            self._loop.run_until_complete(self._relay.settle(FAREWELL_S))
        finally:
            self._loop.close()

    def stop(self) -> None:
        """Let the thread come to its end; what is still open is reset."""
        self._loop.call_soon_threadsafe(self._stop)

    def _stop(self) -> None:
        for connection in list(self._relay.connections):
            connection.end()
        self._loop.call_soon(self._loop.stop)  # behind what the ends have scheduled

    def join(self) -> None:
        """Wait for the thread, but not long."""
        self._thread.join(FAREWELL_S)

    def abandon(self) -> None:
        """In a forked child: give up our share of what the parent's connections consist of.

        Or the end of a connection in the parent would not be one as long as the child lives.
        """
        nothing = os.open(os.devnull, os.O_RDWR)
        for connection in self._relay.connections:
            for transport in (connection.tcp, connection.flow):
                sock = None if transport is None else transport.get_extra_info("socket")
                if sock is not None and sock.fileno() >= 0:
                    # Closed, but not free for others: the objects here still hold the numbers.
                    os.dup2(nothing, sock.fileno(), inheritable=False)
        os.close(nothing)


_lock = threading.Lock()
_current: Background | None = None
_abandoned: list[Background] = []
"""Of parents. Kept, for their objects would close descriptors when they go."""


def carry(sock: socket.socket, open_flow: OpenFlow, on_failure: OnFailure, server: str) -> None:
    """Carry the bytes of this connection over a flow from now on; see `Relay.take`.

    `on_failure` is called in the thread of the flows. `server`: its name, for a warning.
    """
    global _current
    with _lock:
        if _current is None:
            _current = Background(_on_idle)
        _current.take(sock, open_flow, on_failure, server)


def _on_idle(background: Background) -> None:
    global _current
    with _lock:
        if background.used:
            return
        if _current is background:
            _current = None
    background.stop()


def _at_exit() -> None:
    global _current
    with _lock:
        background, _current = _current, None
    if background is not None:
        background.stop()
        background.join()


def _after_fork_in_child() -> None:
    global _current, _lock
    _lock = threading.Lock()  # the other may be held by a thread that is not here
    if _current is not None:
        _current.abandon()
        _abandoned.append(_current)
        _current = None


atexit.register(_at_exit)
os.register_at_fork(after_in_child=_after_fork_in_child)
