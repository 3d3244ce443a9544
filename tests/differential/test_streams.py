"""Request smuggling: no stream of bytes is other requests here than at another server."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests.differential.streams import CLASSICS, Ports, compare, drawn, servers, table

pytestmark = [pytest.mark.live, pytest.mark.xdist_group("differential")]

DRAWN = 120


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ports]:
    with servers(tmp_path_factory.mktemp("streams")) as found:
        yield found


def test_classics(ports: Ports) -> None:
    compared = compare(ports, list(CLASSICS.values()))
    names = dict(zip(CLASSICS, compared, strict=True))
    wrong = {name: one for name, one in names.items() if one.wrong}
    assert not wrong
    taken = {name for name, one in names.items() if one.kind == "taken by all"}
    assert {"an extension", "trailers", "a GET with a body", "Expect"} <= taken


def test_drawn_streams(ports: Ports) -> None:
    draw = random.Random("streams")
    compared = compare(ports, [drawn(draw) for _ in range(DRAWN)])
    wrong = [one for one in compared if one.wrong]
    assert not wrong, "\n".join(map(str, wrong))
    assert len(table(compared)) >= 3
