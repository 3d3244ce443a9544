"""Lines of the log about what was refused."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter

import pytest

from trickles_web.net import complaints


def test_a_line_at_once_and_then_once_in_a_while(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(complaints, "LOOK_S", 0.001)
    counted = Counter(spent=5, secret=1)

    def lines() -> list[str]:
        return [record.getMessage() for record in caplog.records]

    async def until(count: int) -> None:
        async with asyncio.timeout(10):
            while len(lines()) < count:
                await asyncio.sleep(0.001)

    async def main() -> None:
        task = asyncio.create_task(complaints.complain(lambda: Counter(counted)))
        await asyncio.sleep(0.01)
        assert lines() == []  # nothing came since
        counted.update(secret=2, spent=7)
        await until(1)
        counted.update(secret=3)
        counted.update(forged=4)
        await until(2)
        monkeypatch.setattr(complaints, "QUIET_S", 0.0)
        counted.update(forged=1)
        await asyncio.sleep(0.01)
        assert len(lines()) == 2  # both were told of a moment ago
        task.cancel()

    with caplog.at_level(logging.WARNING, "trickles.error"):
        asyncio.run(main())
    assert lines()[0].startswith("Refused (secret): 2 sealed with another secret")
    assert lines()[1].startswith("Refused (forged): 4 not sealed by this service")
