"""Signals as bytes on a socket that a selector watches, SIGCHLD too."""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Iterator
from typing import Final

CAUGHT: Final = (
    *(signal.SIGINT, signal.SIGTERM, signal.SIGCHLD),
    *(signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU),
)


class Signals:
    """Only of the main thread."""

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair()
        for end in (self._ours, self._theirs):
            end.setblocking(False)

    def fileno(self) -> int:
        return self._ours.fileno()

    def tell(self, number: int) -> None:
        """As if a signal had come, from any thread."""
        with contextlib.suppress(OSError):
            self._theirs.send(bytes((number,)))

    def come(self) -> bytes:
        """The numbers of those that have come."""
        try:
            return self._ours.recv(4096)
        except BlockingIOError:
            return b""

    @contextlib.contextmanager
    def caught(self) -> Iterator[None]:
        """From here on, and at the end as before."""
        with self._ours, self._theirs:
            before = {number: signal.signal(number, lambda *_: None) for number in CAUGHT}
            wakeup = signal.set_wakeup_fd(self._theirs.fileno(), warn_on_full_buffer=False)
            try:
                yield
            finally:
                signal.set_wakeup_fd(wakeup)
                for number, handler in before.items():
                    signal.signal(number, handler)
