"""Every row of the table, in each of its ways, by both parsers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.behaviours.rows import ROWS
from tests.behaviours.ways import Row, Stage, world_of
from tests.state.redis_server import RedisServer, redis_server

CASES = [
    pytest.param(row, way, parser, id=f"{row.name}-{way}-{parser}")
    for row in ROWS
    for way in row.ways
    for parser in ("h11", "httptools")
]


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


def test_names_are_unique() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize(("row", "way", "parser"), CASES)
def test_behaviour(row: Row, way: str, parser: str, server: RedisServer, tmp_path: Path) -> None:
    async def main() -> None:
        stage = Stage(tmp_path / "file")
        async with world_of(row, way, parser, stage, server) as world:
            await world.play()
            checks = [row.checks] if callable(row.checks) else row.checks
            for check in checks:
                check(world.outcome)

    asyncio.run(main())
