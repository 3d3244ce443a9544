"""Fixtures of the live tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.live.stage import Stage


@pytest.fixture(autouse=True)
def no_tokens_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's cache; subprocesses inherit this."""
    monkeypatch.setenv("TRICKLES_TOKENS", "off")


@pytest.fixture(scope="session")
def site_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where apps.site keeps its large files: made once for all tests of a process."""
    return tmp_path_factory.mktemp("site")


@pytest.fixture
def stage(tmp_path: Path, site_cache: Path) -> Stage:
    return Stage(tmp_path, site_cache)
