from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

NAMES = ("", "trickles", "trickles.error", "trickles.access")


@pytest.fixture(autouse=True)
def loggers_as_before() -> Iterator[None]:
    """Some tests configure the logging of this process, and others look at what is logged."""
    loggers = [logging.getLogger(name) for name in NAMES]
    before = [(logger.level, logger.handlers[:], logger.propagate) for logger in loggers]
    yield
    for logger, (level, handlers, propagate) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.handlers[:] = handlers
        logger.propagate = propagate
