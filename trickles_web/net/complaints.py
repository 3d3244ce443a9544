"""What an operator should know of what was refused: a line in the log, at most once in a while."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from typing import Final

logger = logging.getLogger("trickles.error")

LOOK_S: Final = 1.0
QUIET_S: Final = 60.0
"""Between two lines about the same."""
WORTH_A_LINE: Final = {
    "secret": "sealed with another secret: that of another server here, or one that was replaced "
    "and taken away (compare the --secret-file of all), or made up",
    "forged": "not sealed by this service, or changed on the way: an attack, or two services that "
    "share a secret",
    "future": "from the future: the clocks of the servers differ by more than 5 s",
    "cleartext": "in clear, where only private flows are served: clients have to ask trickless://, "
    "or the server needs --allow-cleartext",
    "filter_full": "times what the replay filter was too full to remember",
}
"""Counters, and what they mean to whom can do something about them."""


async def complain(counters: Callable[[], Counter[str]]) -> None:
    """For ever: of each reason the first, and then what has come since the last line."""
    told, due = counters(), dict.fromkeys(WORTH_A_LINE, 0.0)
    clock = asyncio.get_running_loop().time
    while True:
        await asyncio.sleep(LOOK_S)
        now = counters()
        for reason, meaning in WORTH_A_LINE.items():
            more = now[reason] - told[reason]
            if more and clock() >= due[reason]:
                logger.warning("Refused (%s): %d %s", reason, more, meaning)
                told[reason], due[reason] = now[reason], clock() + QUIET_S
