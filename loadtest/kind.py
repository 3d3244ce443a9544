"""Of which kind the flows of a scenario's clients are: in clear, or private (`--private`).

The environment says so, because most clients are processes of their own. They trust anybody: an
identity that follows from the secret changes with that, and whom to trust is tested elsewhere.
"""

from __future__ import annotations

import os

from trickles_web.config import ClientConfig, Trust

VARIABLE = "LOADTEST_PRIVATE"
SCENARIOS = ("failover", "rolling", "rotating", "once", "chaos", "soak", "engines")
"""Those whose clients can be private."""


def flows() -> ClientConfig:
    """Of every client."""
    return ClientConfig(private=Trust(insecure=True) if os.environ.get(VARIABLE) else None)
