"""What a capture of datagrams gives away of a byte string: any eight bytes of it in a row."""

from __future__ import annotations

from collections.abc import Iterable

WINDOW = 8
"""Bytes. In sealed ones they stand by chance once in 2^64 places for each that is looked for."""


def shown(captured: Iterable[bytes], secret: bytes) -> set[bytes]:
    """The pieces of `secret` that stand in what was captured."""
    pieces = {secret[at : at + WINDOW] for at in range(len(secret) - WINDOW + 1)}
    found = set[bytes]()
    for datagram in captured:
        found.update(
            piece
            for at in range(len(datagram) - WINDOW + 1)
            if (piece := datagram[at : at + WINDOW]) in pieces
        )
    return found
