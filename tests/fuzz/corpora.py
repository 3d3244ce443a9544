"""Inputs that are kept of each target: one file, one input a line, in hex.

Each reached code, when it was found, that no other reached; so together they are a test of the
whole decoder, and where the next search begins.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

FOLDER = Path(__file__).with_name("corpus")


def path(target: str) -> Path:
    return FOLDER / f"{target}.hex"


def load(target: str) -> list[bytes]:
    file = path(target)
    lines = file.read_text(encoding="ascii").splitlines() if file.exists() else []
    return [bytes.fromhex(line) for line in lines]


def unpack(target: str, folder: Path) -> None:
    """One file an input: what fuzzers read."""
    for number, data in enumerate(load(target)):
        (folder / f"kept-{number}").write_bytes(data)


def save(target: str, inputs: Iterable[bytes]) -> None:
    """In an order that changes little when a few are added."""
    lines = [data.hex() for data in sorted(set(inputs), key=lambda data: (len(data), data))]
    path(target).write_text("".join(f"{line}\n" for line in lines), encoding="ascii")
