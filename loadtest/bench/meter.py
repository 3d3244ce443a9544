"""What is measured lies between two marks; what comes before, between and after does not count."""

from __future__ import annotations

import contextlib
import gc
import os
import time

MARK = "ctermid"
"""A function of the C library that nothing else here calls: callgrind writes down what it has
counted whenever it is entered, so each odd call begins a stretch that counts, each even one ends
it."""

Meter = contextlib.AbstractContextManager[None]
"""`with meter:` around what is to be measured, as often as it is needed."""
UNMEASURED: Meter = contextlib.nullcontext()


class Marks:
    """For callgrind."""

    def __enter__(self) -> None:
        _settle()
        os.ctermid()

    def __exit__(self, *_: object) -> None:
        os.ctermid()


class Stopwatch:
    """CPU seconds of this process, the kernel's included."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._from = 0.0

    def __enter__(self) -> None:
        _settle()
        self._from = time.process_time()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.process_time() - self._from


def _settle() -> None:
    """What was made before is no matter of the garbage collector's any more."""
    gc.collect()
    gc.freeze()
