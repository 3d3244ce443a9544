"""A supervisor and its child process: the two ends of the channel between them.

    supervisor -> child    what it needs to begin, in one message; then PING, again and again
    child -> supervisor    READY once it serves; PONG, and behind it what a worker has counted;
                           WORN when it wants to be replaced

Children are fresh interpreters in process groups of their own, so that a Ctrl-C reaches them once,
through the supervisor. They die with it: the channel ends, and the kernel sees to it, too.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final

READY: Final = b"ready"
PING: Final = b"ping"
PONG: Final = b"pong"
WORN: Final = b"worn"
LARGEST_MESSAGE: Final = 1 << 20
LARGEST_PONG: Final = 1 << 16

PR_SET_PDEATHSIG: Final = 1
PING_S: Final = 1.0
"""Between two pings, or less: the answers are what is known of a worker's counts."""
MOST_PINGS: Final = 5
"""So many pings in a row without an answer, or more where there is more time, and the child counts
as hung. A supervisor that was itself stopped has sent none meanwhile."""


def pong(told: bytes) -> bytes:
    """The message. What is told is left out if it is too long."""
    return PONG + told if len(PONG) + len(told) <= LARGEST_PONG else PONG


class Child:
    """A process from its start to its end."""

    def __init__(
        self,
        name: str,
        command: Callable[[int], list[str]],
        environment: dict[str, str],
        told: bytes = b"",
        *,
        inherited: Iterable[int] = (),
    ) -> None:
        """Starts it. Raises OSError.

        command(fd): its command line, given its end of the channel. told: the first message there,
        for one that reads it. inherited: more descriptors for it.
        """
        ours, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
        with theirs:
            if told:
                ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LARGEST_MESSAGE)
                ours.send(told)
            ours.setblocking(False)
            self.name = name
            self.channel = ours
            self.started = time.monotonic()
            self.ready = False
            self.kill_at = float("inf")
            """When it has been told to end, and waited for long enough."""
            self._unanswered = 0
            try:
                self._process = subprocess.Popen(
                    command(theirs.fileno()),
                    env=environment,
                    pass_fds=[theirs.fileno(), *inherited],
                    process_group=0,
                )
            except OSError:
                ours.close()
                raise

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def code(self) -> int | None:
        """How it ended; None: it has not."""
        return self._process.poll()

    @property
    def ending(self) -> str:
        """The same in words."""
        code = self.code or 0
        return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"

    def hung(self, most: float) -> bool:
        """It does not answer: more than so many pings in a row."""
        return self._unanswered > most

    def ping(self) -> None:
        """Ask for a sign of life."""
        self._unanswered += 1
        with contextlib.suppress(OSError):  # it is full, or the child is gone
            self.channel.send(PING)

    def heard(self) -> bytes:
        """The next message; b"" at the end of all, and when there is none."""
        try:
            message = self.channel.recv(LARGEST_PONG)
        except (BlockingIOError, ConnectionResetError):  # it died before it read what it was told
            return b""
        if message.startswith(PONG):
            self._unanswered = 0
        elif message == READY:
            self.ready = True
        return message

    def terminate(self, patience_s: float) -> None:
        """Let it end by itself in this time."""
        self._process.terminate()
        self.kill_at = min(self.kill_at, time.monotonic() + patience_s)

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        """End it at once, if it has not, and wait for that."""
        self._process.kill()
        self._process.wait()
        self.channel.close()


class Place:
    """A process that there is to be, always: a worker, or the gateway."""

    def __init__(self, name: str, start: Callable[[], Child]) -> None:
        self.name = name
        self.start = start
        self.now: Child | None = None
        """Who serves, or is about to."""
        self.successor: Child | None = None
        """Who will, once it is ready."""
        self.ever_ready = False
        self.quick_deaths = 0
        self.start_at = 0.0


class Link:
    """A child's end of the channel."""

    def __init__(self, descriptor: int) -> None:
        self._channel = socket.socket(fileno=descriptor)
        self._channel.set_inheritable(False)  # the child's own children are none of its business

    def told(self) -> bytes:
        """The first message, for a child that is told something."""
        return self._channel.recv(LARGEST_MESSAGE)

    def say(self, message: bytes) -> None:
        with contextlib.suppress(OSError):  # the supervisor is gone, and soon we are
            self._channel.send(message)

    def live(self, counted: Callable[[], bytes] = bytes, *, pdeathsig: bool = True) -> None:
        """Answer pings from now on, and die with the supervisor.

        In a thread of its own: who keeps the event loop busy is slow, not hung. counted: called
        there, for what an answer is to tell. pdeathsig: the kernel may kill this process, which it
        does whatever that is busy with.
        """
        if pdeathsig:
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        threading.Thread(target=self._answer, args=(counted,), name="link", daemon=True).start()

    def _answer(self, counted: Callable[[], bytes]) -> None:
        with contextlib.suppress(OSError):
            while self._channel.recv(64) == PING:
                self._channel.send(pong(counted()))
        os.kill(os.getpid(), signal.SIGKILL)
