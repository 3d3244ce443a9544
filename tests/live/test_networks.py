"""Paths that change under a flow, and paths that swallow datagrams, between namespaces."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loadtest import link as links
from tests.net.processes import ROOT, serving

pytestmark = [pytest.mark.live, pytest.mark.xdist_group("networks")]

LACK = links.missing()
MOVES = 5
UDP_HEADERS = 28
"""Bytes of IPv4 and UDP."""


def in_namespace(name: str, *command: str) -> None:
    done = subprocess.run(["ip", "netns", "exec", name, *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def client(where: links.Link, what: str, path: str, size: int) -> Iterator[subprocess.Popen[str]]:
    words = ["-m", "tests.live.networked", what, links.FAR_ADDRESS, "8000", path, str(size)]
    process = subprocess.Popen(
        ["ip", "netns", "exec", where.near, sys.executable, *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[links.Link, Path]]:
    """A link of 100 Mbit/s and 20 ms, a server at its far end, and the folder with its files."""
    if LACK:
        pytest.skip(f"needs {LACK}")
    directory = tmp_path_factory.mktemp("network")
    with links.link(links.Shape(delay_ms=10)) as link:
        arguments = ("apps.site:app", "--host", links.FAR_ADDRESS, "--app-dir", str(ROOT))
        environment = {"SITE_CACHE_DIR": str(directory)}
        within = ("ip", "netns", "exec", link.far)
        with serving(directory, *arguments, environment=environment, within=within) as server:
            server.port()
            yield link, directory


def downloaded(process: subprocess.Popen[str], directory: Path, megabytes: int) -> dict[str, Any]:
    """What the client of /files/MEGABYTES.bin saw, if it has the right bytes."""
    assert process.stdout is not None
    seen: dict[str, Any] = json.loads(process.stdout.read().removeprefix("going\n"))
    with (directory / f"{megabytes}.bin").open("rb") as file:
        assert seen["digest"] == hashlib.file_digest(file, "sha256").hexdigest()
    return seen


def moved_by_new_address(link: links.Link, old: str, new: str) -> None:
    """The network that the client was in is gone."""
    script = f"address del {old}/24 dev em0\naddress add {new}/24 dev em0\n"
    command = ["ip", "-n", link.near, "-batch", "-"]
    subprocess.run(command, input=script, text=True, check=True)


def moved_by_new_route(link: links.Link, old: str, new: str) -> None:
    """The old address is still there, but nothing that is sent from it comes back."""
    script = f"address add {new}/24 dev em0\nroute replace 10.88.0.0/24 dev em0 src {new}\n"
    command = ["ip", "-n", link.near, "-batch", "-"]
    subprocess.run(command, input=script, text=True, check=True)
    in_namespace(link.far, "nft", "add", "element", "ip", "gone", "addresses", f"{{ {old} }}")


@pytest.mark.parametrize("move", [moved_by_new_address, moved_by_new_route])
def test_a_download_goes_on_from_another_address(path: tuple[links.Link, Path], move: Any) -> None:
    link, directory = path
    in_namespace(
        link.far,
        "nft",
        "table ip gone { set addresses { type ipv4_addr; }; chain in { type filter hook input "
        "priority 0; ip saddr @addresses drop; }; chain out { type filter hook output priority 0; "
        "ip daddr @addresses drop; }; }",
    )
    ran = links.NEAR_ADDRESS
    moments: list[float] = []
    try:
        with client(link, "get", "/files/20.bin", 20_000_000) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "going\n"
            for number in range(MOVES):
                time.sleep(0.3)  # of the download
                ran, old = f"10.88.0.{10 + number}", ran
                moments.append(time.monotonic())
                move(link, old, ran)
            seen = downloaded(process, directory, 20)
    finally:
        in_namespace(link.far, "nft", "delete", "table", "ip", "gone")
        in_namespace(link.near, "ip", "address", "flush", "dev", "em0")
        in_namespace(link.near, "ip", "address", "add", f"{links.NEAR_ADDRESS}/24", "dev", "em0")
    assert seen["host"] == ran
    waits = []
    for moment in moments:
        before = [arrival for arrival in seen["arrivals"] if arrival[0] < moment]
        after = itertools.pairwise(t for t, _ in seen["arrivals"] if t > before[-1][0] - 1e-9)
        # What was on its way when the client moved still comes; the gap is what follows that.
        gap = max(b - a for a, b in after if a < moment + 0.1)
        waits.append(gap / before[-1][1])
    print(f"{move.__name__}: out of touch for {[round(wait, 2) for wait in waits]} probe timeouts")
    assert statistics.median(waits) <= 2


@pytest.fixture
def narrow(path: tuple[links.Link, Path]) -> Iterator[int]:
    """Packets of IP of more than so many bytes vanish, either way. Nobody is told."""
    link, _ = path
    largest = 1300
    table = (
        "table ip narrow { chain in { type filter hook input priority 0; "
        f"ip length > {largest} counter drop; }}; }}"
    )
    for side in (link.near, link.far):
        in_namespace(side, "nft", table)
    yield largest
    for side in (link.near, link.far):
        in_namespace(side, "nft", "delete", "table", "ip", "narrow")


def test_the_largest_datagrams_that_pass_are_used(
    path: tuple[links.Link, Path], narrow: int
) -> None:
    link, directory = path
    with client(link, "get", "/files/20.bin", 20_000_000) as process:
        seen = downloaded(process, directory, 20)
    assert seen["datagram"] == narrow - UDP_HEADERS
    began, ended = seen["arrivals"][0][0], seen["arrivals"][-1][0]
    rate = seen["bytes"] * 8 / (ended - began) / 1e6
    print(f"datagrams of {seen['datagram']} bytes, {rate:.0f} Mbit/s")
    assert rate > 50


def test_uploads_pass_where_large_datagrams_vanish(
    path: tuple[links.Link, Path], narrow: int
) -> None:
    link, _ = path
    with client(link, "put", "/upload", 5_000_000) as process:
        assert process.stdout is not None
        seen = json.loads(process.stdout.read())
    assert json.loads(seen["answer"]) == {"sha256": seen["digest"], "size": 5_000_000}
