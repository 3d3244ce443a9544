"""Paths that change under a flow, and paths that swallow datagrams, between namespaces.

How long a client is out of touch is measured by `python -m loadtest networks`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from apps.large_files import MEGABYTE
from loadtest import networks
from loadtest.link import missing

pytestmark = [pytest.mark.live, pytest.mark.xdist_group("networks")]

LACK = missing()
MEGABYTES = 10


@pytest.fixture(scope="module")
def site() -> Iterator[networks.Site]:
    """A link of 100 Mbit/s and 20 ms, and a server at its far end."""
    if LACK:
        pytest.skip(f"needs {LACK}")
    with networks.site() as made:
        yield made


@pytest.mark.parametrize("move", networks.MOVING)
def test_a_download_goes_on_from_another_address(site: networks.Site, move: str) -> None:
    assert networks.moved(site, networks.MOVING[move], 1, MEGABYTES).right


def test_the_largest_datagrams_that_pass_are_used(site: networks.Site) -> None:
    megabytes = 3 * MEGABYTES  # the search has its end long before that of the file
    with networks.narrow(site.link):
        path = f"/files/{megabytes}.bin"
        found = networks.seen(site.client("get", path, megabytes * MEGABYTE))
    assert found["digest"] == site.digest(megabytes)
    assert found["datagram"] == networks.LARGEST_PACKET - networks.HEADERS


def test_uploads_pass_where_large_datagrams_vanish(site: networks.Site) -> None:
    with networks.narrow(site.link):
        found = networks.seen(site.client("put", "/upload", 3_000_000))
    assert found["digest"] in found["answer"]
