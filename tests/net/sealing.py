"""AEAD nonces of many processes that seal under one key, as the workers of a service do."""

from __future__ import annotations

import os
from collections.abc import Callable

from trickles_web.net.forks import parted_by_forks
from trickles_web.transport.keys import SEAL_NONCE_BYTES, Keyring

NOW = 1_800_000_000_000
ROTATION_MS = 86_400_000


def nonces_of_processes(starts: int, children: int, seals: int) -> list[bytes]:
    """The nonces of `seals` seals in a row, of each process that was forked from one that had
    sealed, and of twice as many of that one: before and after.
    """
    data = b"".join(_output_of(lambda: _process(children, seals)) for _ in range(starts))
    return [data[at : at + SEAL_NONCE_BYTES] for at in range(0, len(data), SEAL_NONCE_BYTES)]


def _process(children: int, seals: int) -> bytes:
    """All nonces of a server that starts, seals, forks, and seals again; and of its children."""
    with parted_by_forks(Keyring((bytes(32),), "test", ROTATION_MS, os.urandom)) as keyring:
        found = _sealed(keyring, seals)
        for _ in range(children):
            found += _output_of(lambda: _sealed(keyring, seals))
        return found + _sealed(keyring, seals)


def _sealed(keyring: Keyring, seals: int) -> bytes:
    seal = keyring.current(NOW).seal
    return b"".join([seal(b"", b"")[:SEAL_NONCE_BYTES] for _ in range(seals)])


def _output_of(run: Callable[[], bytes]) -> bytes:
    """What it returns in a process of its own."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        code = 1
        try:
            with open(writing, "wb") as pipe:
                pipe.write(run())
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    with open(reading, "rb") as pipe:
        data = pipe.read()
    _, status = os.waitpid(pid, 0)
    if status:
        raise RuntimeError(f"a process that seals ended with status {status}")
    return data
