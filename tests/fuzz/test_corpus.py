"""The kept inputs of every target, and some bent from them: the same in each run.

`python -m loadtest fuzz` is the long form: it searches, and says what it reached.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests.fuzz import corpora
from tests.fuzz.targets import TARGETS, Target

BENT = 10_000
BENT_PROGRAMS = 150
"""Inputs made of the kept ones, where each is of one decoder, and where of many datagrams."""


@pytest.mark.parametrize("name", TARGETS)
def test_kept_and_bent_inputs(name: str) -> None:
    target, kept = TARGETS[name], corpora.load(name)
    assert kept
    for data in (*kept, *bent(target, kept, random.Random(name))):
        try:
            target.run(data)
        except Exception as error:
            error.add_note(f"input: bytes.fromhex({data.hex()!r})")
            raise


def bent(target: Target, kept: list[bytes], draw: random.Random) -> Iterator[bytes]:
    for _ in range(BENT if target.is_decoder else BENT_PROGRAMS):
        data = bytearray(draw.choice(kept))
        for _ in range(draw.choice((1, 1, 2, 8))):
            at = draw.randrange(len(data) + 1)
            other = draw.choice(kept)
            cut = draw.randrange(len(other) + 1)
            kind = draw.randrange(5)
            if kind == 0 and at < len(data):
                data[at] ^= 1 << draw.randrange(8)
            elif kind == 1:
                del data[at : at + draw.choice((1, 2, 4, 100))]
            elif kind == 2:
                data[at:at] = other[cut : cut + draw.choice((1, 4, 40))]
            elif kind == 3:
                data[at:] = other[cut:]
            else:
                data[at : at + 1] = draw.choice((b"\0", b"\xff", b"\r\n", b" ", b"\x7f", b"\n"))
        yield bytes(data[: target.most_bytes])


def test_there_is_a_corpus_for_each_target_and_no_stray_one() -> None:
    assert {path.stem for path in corpora.FOLDER.iterdir()} == set(TARGETS)
