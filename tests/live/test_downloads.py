"""Downloads go on when their server is killed, whoever fetches them, whichever server answers."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtest.failover import sprayed_sockets
from tests.live.stage import SITE, Site, Stage, fetching, grown_to, same_as_site

pytestmark = [pytest.mark.live, pytest.mark.xdist_group("live downloads")]

MEGABYTES = 20
BYTES = MEGABYTES * 1_000_000
PATH = f"files/{MEGABYTES}.bin"

CLIENTS = [
    "trickles-get",
    pytest.param(
        "curl", marks=pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
    ),
]


@contextlib.contextmanager
def address_for(client: str, stage: Stage, port: int) -> Iterator[str]:
    """Where this client asks: the server itself, or a gateway to it."""
    if client != "curl":
        yield f"127.0.0.1:{port}"
    else:
        with stage.gateway(port) as tcp:
            yield f"127.0.0.1:{tcp}"


def stands_still(file: Path) -> int:
    """Its size, once it has not grown for half a second."""
    size, looks = -1, 0
    while looks < 50:
        found = file.stat().st_size
        size, looks = found, (looks + 1 if found == size else 0)
        time.sleep(0.01)
    return size


@pytest.mark.parametrize("client", CLIENTS)
def test_the_only_server_is_killed_twice(client: str, stage: Stage, tmp_path: Path) -> None:
    file = tmp_path / "file"
    with (
        Site(stage, SITE, "--port", "0") as site,
        address_for(client, stage, site.port) as address,
        fetching(client, f"{address}/{PATH}", file, "--limit-rate", "10M"),
    ):
        for share in (0.2, 0.5):
            grown_to(file, int(share * BYTES))
            site.restart()
    assert same_as_site(file, MEGABYTES)


@pytest.mark.parametrize("client", CLIENTS)
def test_a_server_that_is_absent_for_a_while(client: str, stage: Stage, tmp_path: Path) -> None:
    """Killed and not back before what the client had asked for has all been written."""
    file = tmp_path / "file"
    with (
        Site(stage, SITE, "--port", "0") as site,
        address_for(client, stage, site.port) as address,
        fetching(client, f"{address}/{PATH}", file, "--limit-rate", "20M"),
    ):
        grown_to(file, BYTES // 10)
        site.kill()
        size = stands_still(file)
        assert size < BYTES
        site.restart()
    assert same_as_site(file, MEGABYTES)


@pytest.mark.parametrize("client", CLIENTS)
def test_sprayed_over_three_servers_of_which_one_is_killed(
    client: str, stage: Stage, tmp_path: Path
) -> None:
    """Every datagram goes to any of them; what the dead one had in its queue is lost."""
    file = tmp_path / "file"
    with contextlib.ExitStack() as stack:
        with sprayed_sockets(3) as group:
            sites = []
            for sock in group:
                fd = sock.fileno()
                sites.append(stack.enter_context(Site(stage, SITE, "--fd", str(fd), fds=(fd,))))
        # Closed here: the kernel sends nothing more to a server that is dead.
        address = stack.enter_context(address_for(client, stage, sites[0].port))
        with fetching(client, f"{address}/{PATH}", file, "--limit-rate", "10M"):
            grown_to(file, BYTES // 3)
            sites[1].kill()
        for site in (sites[0], sites[2]):
            site.end()
    assert same_as_site(file, MEGABYTES)
