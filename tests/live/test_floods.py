"""Floods at a live server, in short; `python -m loadtest floods` is the long form."""

from __future__ import annotations

import pytest

from loadtest import peers
from loadtest.floods import MOST_DESCRIPTORS, MOST_GROWN_MB, assault
from loadtest.rejection import costs

pytestmark = [pytest.mark.live, pytest.mark.xdist_group("live crowds")]

SECONDS = 1.5


@pytest.mark.parametrize(("attack", "rate"), [("HELLOs", 4_000.0), ("parked", 100.0)])
def test_open_flows_go_on_under_a_flood(attack: str, rate: float) -> None:
    calm, attacked = assault(peers.Server("trickles"), attack, rate, SECONDS)
    assert calm.kept.share == 1
    assert attacked.sent > 0
    assert attacked.kept.share >= 0.99
    assert attacked.grown_mb <= MOST_GROWN_MB
    assert attacked.descriptors <= MOST_DESCRIPTORS


def test_what_is_bad_is_refused_for_what_is_wrong_with_it() -> None:
    """How long that takes is for the long form to say."""
    refused = {cost.what: cost.refused for cost in costs() if not cost.good}
    assert len(refused) > 30
    assert refused["HELLO, a copy"] == refused["claim, spent"] == "spent"
    assert refused["claim, wrong proof"] == refused["opening, wrong proof"] == "proof"
    assert refused["REQUEST, of another service"] == "secret"
    assert refused["CANCEL, seal forged"] == "forged"
    assert refused["REQUEST, too old"] == "expired"
    assert refused["what a server sends"] == "kind"
