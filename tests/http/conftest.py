"""Property tests draw the same examples in each run, and leave nothing behind."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.http.tree import fill
from tests.state.redis_server import RedisServer, redis_server

settings.register_profile(
    "repeatable", derandomize=True, deadline=None, database=None, max_examples=200
)
settings.load_profile("repeatable")


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    # Short, for the socket's sake; and open, for the test with another user.
    parent = Path(tempfile.mkdtemp(prefix="trickles-"))
    parent.chmod(0o755)
    root = parent / "tree"
    fill(root)
    yield root
    shutil.rmtree(parent)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture(params=["directory", "redis"])
def where(
    request: pytest.FixtureRequest, tmp_path: Path, server: RedisServer
) -> Path | RedisServer:
    if request.param == "directory":
        return tmp_path / "run"
    server.flush()
    return server
