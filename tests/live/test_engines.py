"""Three replicas behind what operators have: by the files of `deploy/`, between namespaces.

The whole table of behaviours, and figures, are `python -m loadtest engines`.
"""

from __future__ import annotations

import contextlib
import hashlib
import signal
from collections.abc import Iterator

import pytest

from apps.large_files import MEGABYTE
from loadtest import networks
from loadtest.balanced import ECMP, ENGINES, HOSTS, PORT, SERVICE, Balanced, Engine, balanced
from loadtest.engines import SHAPE, table
from loadtest.processes import Replica

pytestmark = [pytest.mark.live, pytest.mark.xdist_group("networks")]

EVERY = 30
"""Of so many rows of the table one is shown."""
STOPPED_S = 2.0
MEGABYTES = 20


@contextlib.contextmanager
def behind(engine: Engine) -> Iterator[Balanced]:
    lack = engine.missing()
    if lack:
        pytest.skip(f"needs {lack}")
    with balanced(engine, SHAPE) as at:
        yield at


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)
def test_behaviours_are_the_same_with_every_datagram_at_another_replica(engine: Engine) -> None:
    with behind(engine) as at:
        said = table(engine, at, STOPPED_S, EVERY)
        assert [one for one in said if one["complaint"]] == []
        assert len(said) > 10
        assert min(at.datagrams()) > 0


def test_a_download_goes_on_when_its_route_leads_to_another_replica() -> None:
    """From a replica's own address, which it prefers, back to the one that all share."""
    with behind(ECMP) as at:
        at.stage.environment["SITE_CACHE_DIR"] = str(at.stage.directory)
        replicas = []
        for host, name in zip(HOSTS, at.replicas, strict=True):
            own = ("--preferred-address", f"{host}:{PORT}", "--store", at.store)
            words = ("apps.site:app", "--host", ECMP.listen, *own)
            replicas.append(Replica(at.stage, f"server {host}", *words, netns=name))
        for replica in replicas:
            replica.ready()
        path, size = f"/files/{MEGABYTES}.bin", str(MEGABYTES * MEGABYTE)
        where = (SERVICE, str(PORT), path, size)
        client = at.stage.python("get", "loadtest.networked", "get", *where, netns=at.client)
        client.says("going")
        counts = at.datagrams()
        replicas[counts.index(max(counts))].process.end(signal.SIGKILL)
        found = networks.seen(client)
        with (at.stage.directory / f"{MEGABYTES}.bin").open("rb") as file:
            assert found["digest"] == hashlib.file_digest(file, "sha256").hexdigest()
        assert sum(count > 0 for count in at.datagrams()) > 1
