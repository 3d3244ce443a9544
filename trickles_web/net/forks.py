"""What must not be the same in a child, if the application forks and the child goes on serving.

A keyring counts the nonces of its seals (see `transport.keys`), and a copy would count on with the
same ones: two seals under one nonce give away what both say, and let anybody forge more.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from trickles_web.transport.keys import Keyring

_in_use: list[Keyring] = []


@contextmanager
def parted_by_forks(keyring: Keyring) -> Iterator[Keyring]:
    """As long as this lasts, a child draws nonces of its own."""
    _in_use.append(keyring)
    try:
        yield keyring
    finally:
        _in_use.remove(keyring)


def _part() -> None:
    for keyring in _in_use:
        keyring.forked()


os.register_at_fork(after_in_child=_part)
