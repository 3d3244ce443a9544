"""Which numbers of a generation were claimed, as the replay filter knows it.

A claim leaves a key at each number that it reaches back to, and at its last one. Numbers share
another key by blocks: where that is absent, none of the block was claimed. So a claim that reaches
far back, or an opening that asks about a whole window, costs few look-ups.
"""

from __future__ import annotations

import struct
from typing import Final

from trickles_web.transport.redeemed import Answer
from trickles_web.transport.replay import ReplayFilter

CLAIM_BLOCK: Final = 32
"""Numbers that share a key. Smaller blocks are more look-ups over a long stretch, larger ones more
at its ends, where others may have claimed of the same block."""

_KEY: Final = struct.Struct(">cQI")


def filter_key(purpose: bytes, name: int, number: int = 0) -> bytes:
    """A key of the replay filter; `purpose` is one byte."""
    return _KEY.pack(purpose, name, number)


def marks_of(answer: Answer) -> list[bytes]:
    """The filter keys that are set when the answer is sent."""
    marks = list(answer.marks)
    if answer.paid:
        generation, numbers = answer.generation, [*range(*answer.reached), answer.paid - 1]
        blocks = {number // CLAIM_BLOCK for number in numbers}
        marks += [filter_key(b"c", generation, number) for number in numbers]
        marks += [filter_key(b"k", generation, block) for block in blocks]
    return marks


def unclaimed(generation: int, start: int, stop: int, replay: ReplayFilter) -> list[bytes] | None:
    """Keys that are absent, because none of these numbers was claimed; None if one was."""
    absent: list[bytes] = []
    while start < stop:
        end = min(stop, (start // CLAIM_BLOCK + 1) * CLAIM_BLOCK)
        keys = [filter_key(b"k", generation, start // CLAIM_BLOCK)]
        if keys[0] in replay:
            keys = [filter_key(b"c", generation, number) for number in range(start, end)]
            if replay.has_any(keys):
                return None
        absent += keys
        start = end
    return absent
