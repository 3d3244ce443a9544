"""What holds for all tests."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def run_directories() -> Iterator[None]:
    """Servers keep soft state here, not in /dev/shm; processes that tests start inherit this.

    Directly below the folder of temporary files, because the path of a socket must be short.
    """
    with (
        tempfile.TemporaryDirectory(prefix="trickles-tests-", ignore_cleanup_errors=True) as path,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.delenv("RUNTIME_DIRECTORY", raising=False)
        patch.setenv("XDG_RUNTIME_DIR", path)
        yield
