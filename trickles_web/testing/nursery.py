"""Where replicas are forked: a process with one thread and no sockets but its own.

    test --fork--> nursery --fork--> world     the simulation; it asks the nursery for replicas
                           --fork--> replica   each calls the application

So a replica inherits the application as the test had it, and nothing of the simulation. Each
process ends when the one that it talks to does: none outlives the test, however that ends.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

from trickles_web.testing import called


def fork(body: Callable[[], object]) -> int:
    """A child that calls `body` and ends then; its process id."""
    _flush()
    pid = os.fork()
    if pid == 0:
        _be_child(body)
    return pid


def _be_child(body: Callable[[], object]) -> NoReturn:
    """Never back into the parent's stack, whatever happens."""
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the test; the others follow it
        body()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        _flush()
        os._exit(code)


def fork_afresh(body: Callable[[], object]) -> int:
    """The same from a thread of its own, so that the child has neither the test's event loop, nor
    its context, nor what libraries keep for each thread.
    """
    pids: list[int] = []
    thread = threading.Thread(target=lambda: pids.append(fork(body)))
    with warnings.catch_warnings():
        # Python 3.12 warns of locks that other threads hold. This one does nothing but wait.
        warnings.simplefilter("ignore", DeprecationWarning)
        thread.start()
        thread.join()
    return pids[0]


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(ValueError, OSError, AttributeError):
            stream.flush()


def tend(app: Any, requests: socket.socket) -> None:
    """Fork a replica for each socket that comes, and answer with its process id, until the end."""
    gc.freeze()
    while True:
        message, descriptors, _, _ = socket.recv_fds(requests, 1, 1)
        if not message:
            return
        theirs = socket.socket(fileno=descriptors[0])
        pid = fork(lambda theirs=theirs: _replica(app, requests, theirs))  # type: ignore[misc]
        theirs.close()
        requests.sendall(pid.to_bytes(4, "big"))
        _bury()


def _replica(app: Any, requests: socket.socket, sock: socket.socket) -> None:
    requests.close()
    called.run(app, sock)


def _bury() -> None:
    """Take note of children that ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def order(requests: socket.socket) -> tuple[socket.socket, int]:
    """A new replica, from the world: the socket to it, and its process id."""
    ours, theirs = socket.socketpair()
    with theirs:
        socket.send_fds(requests, [b"r"], [theirs.fileno()])
    answer = requests.recv(4)
    if len(answer) < 4:
        raise RuntimeError("the process that forks replicas has ended; was it killed?")
    return ours, int.from_bytes(answer, "big")
