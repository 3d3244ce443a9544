"""AEAD nonces of many processes that seal under one key, as the workers of a service do: of
continuations, and in one private flow that each of them may serve.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from trickles_web.net.forks import parted_by_forks
from trickles_web.transport.keys import SEAL_NONCE_BYTES, Keyring
from trickles_web.transport.private.channel import Privacy, PrivateChannel
from trickles_web.transport.private.cover import FlowKeys
from trickles_web.transport.wire import START_BYTES

NOW = 1_800_000_000_000
ROTATION_MS = 86_400_000


Sealer = Callable[[], bytes]
"""Seals, and tells with which nonce."""


@contextlib.contextmanager
def by_keyring() -> Iterator[Sealer]:
    with parted_by_forks(_keyring()) as keyring:
        yield lambda: keyring.current(NOW).seal(b"", b"")[:SEAL_NONCE_BYTES]


@contextlib.contextmanager
def in_a_private_flow() -> Iterator[Sealer]:
    keyring = _keyring()
    with parted_by_forks(Privacy(keyring, lambda *what: b"", os.urandom)) as privacy:
        channel = PrivateChannel(FlowKeys(bytes(32)), privacy._nonces, keyring)
        body = slice(START_BYTES, START_BYTES + SEAL_NONCE_BYTES)
        yield lambda: channel.seal(b"\x19flow-id.")[body]


def _keyring() -> Keyring:
    return Keyring((bytes(32),), "test", ROTATION_MS, os.urandom)


def nonces_of_processes(
    starts: int,
    children: int,
    seals: int,
    sealing: Callable[[], AbstractContextManager[Sealer]] = by_keyring,
) -> list[bytes]:
    """The nonces of `seals` seals in a row, of each process that was forked from one that had
    sealed, and of twice as many of that one: before and after.
    """
    data = b"".join(_output_of(lambda: _process(children, seals, sealing)) for _ in range(starts))
    return [data[at : at + SEAL_NONCE_BYTES] for at in range(0, len(data), SEAL_NONCE_BYTES)]


def _process(
    children: int, seals: int, sealing: Callable[[], AbstractContextManager[Sealer]]
) -> bytes:
    """All nonces of a server that starts, seals, forks, and seals again; and of its children."""
    with sealing() as seal:
        found = _sealed(seal, seals)
        for _ in range(children):
            found += _output_of(lambda: _sealed(seal, seals))
        return found + _sealed(seal, seals)


def _sealed(seal: Sealer, seals: int) -> bytes:
    return b"".join([seal() for _ in range(seals)])


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
