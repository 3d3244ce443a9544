"""What is true of flows in clear is true of private ones."""

from __future__ import annotations

import pytest

from tests.sim.world import Config
from trickles_web.testing.cluster import Cluster


@pytest.fixture(params=["clear", "private"])
def each_kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that asks for it runs with flows of each kind: a long one with half of its seeds."""
    for where in (Config, Cluster):
        monkeypatch.setattr(where, "private", request.param == "private")
