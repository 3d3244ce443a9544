"""Hostile datagrams at a live server, in short; `python -m loadtest garbage` is the long form."""

from __future__ import annotations

import random

import pytest

from loadtest.garbage import UNVALIDATED, Honest, assault
from loadtest.processes import counters
from tests.live.stage import SITE, Site, Stage

pytestmark = [pytest.mark.live, pytest.mark.xdist_group("live crowds")]


def test_hostile_datagrams_harm_nobody(stage: Stage) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")  # shown if it fails
    with Site(stage, SITE, "--port", "0", "--log-level", "debug", "--no-access-log") as site:
        honest = Honest(site.port)
        attack = assault(site.port, honest, 2.0, seed, 100)
        assert site.running.process.poll() is None
        site.end()
        counted = counters(site.running.stderr)
    assert honest.errors == []
    assert honest.wrong == 0
    assert honest.downloads > 0 and honest.uploads > 0
    assert len(attack.sent) == 7  # random, replayed, and five mutations
    assert max(attack.peak(address) for address in UNVALIDATED) <= 3
    assert max(attack.shot_ratios) <= 3
    assert counted["forged"] > 0 and counted["kind"] > 0
    assert counted["internal error"] == 0
