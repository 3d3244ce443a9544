"""Scenario: a client that moves between addresses, and a path that swallows large datagrams."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from apps.large_files import MEGABYTE
from loadtest.link import FAR_ADDRESS, NEAR_ADDRESS, Link, Shape, link
from loadtest.processes import Process, Replica, Stage
from loadtest.report import Options, Report

APP = "apps.site:app"
PORT = 8000
SHAPE = Shape()
MOVES = 5
MOVES_APART_S = 0.4
MOST_WAITS = 2.0
"""Probe timeouts, from the last byte at the old address to the first at the new one."""
AROUND_S = 0.2
"""After a move: the gap that it makes begins within this, when what was on its way is here."""
UPLOAD_BYTES = 10_000_000
LARGEST_PACKET = 1300
"""Bytes of IP that pass the narrow path."""
HEADERS = 28
"""Bytes of IPv4 and UDP."""

Move = Callable[[Link, str, str], None]


def by_new_address(between: Link, old: str, new: str) -> None:
    """The network that the client was in is gone."""
    _ip(between.near, f"address del {old}/24 dev em0\naddress add {new}/24 dev em0\n")


def by_new_route(between: Link, old: str, new: str) -> None:
    """The old address is still there, but nothing that is sent from it arrives."""
    route = f"route replace 10.88.0.0/24 dev em0 src {new}\n"
    _ip(between.near, f"address add {new}/24 dev em0\n{route}")
    _nft(between.far, f"add element ip gone addresses {{ {old} }}")


MOVING: dict[str, Move] = {
    "old address taken away": by_new_address,
    "old address silent": by_new_route,
}
_GONE = """\
table ip gone {
    set addresses { type ipv4_addr; }
    chain in { type filter hook input priority 0; ip saddr @addresses drop; }
    chain out { type filter hook output priority 0; ip daddr @addresses drop; }
}
"""
# Where packets come in: what goes out is cut into datagrams only behind that hook.
_NARROW = f"""\
table ip narrow {{
    chain in {{ type filter hook input priority 0; ip length > {LARGEST_PACKET} drop; }}
}}
"""


def _ip(namespace: str, script: str) -> None:
    _fed(["ip", "-n", namespace, "-batch", "-"], script)


def _nft(namespace: str, script: str) -> None:
    _fed(["ip", "netns", "exec", namespace, "nft", "-f", "-"], script)


def _fed(command: list[str], script: str) -> None:
    done = subprocess.run(command, input=script, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


@dataclass(frozen=True, slots=True)
class Site:
    """A server at the far end of a link, and clients at the near end."""

    link: Link
    stage: Stage

    def client(self, what: str, path: str, size: int) -> Process:
        words = (what, FAR_ADDRESS, str(PORT), path, str(size))
        return self.stage.python(what, "loadtest.networked", *words, netns=self.link.near)

    def digest(self, megabytes: int) -> str:
        """SHA-256 of the file of that size, which the server has made."""
        with (self.stage.directory / f"{megabytes}.bin").open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def site() -> Iterator[Site]:
    """RuntimeError for what this machine lacks."""
    with link(SHAPE) as between, Stage() as stage:
        stage.environment["SITE_CACHE_DIR"] = str(stage.directory)
        Replica(stage, "server", APP, "--host", FAR_ADDRESS, netns=between.far).ready()
        yield Site(between, stage)


def seen(process: Process) -> dict[str, Any]:
    """What a client saw, once it has ended. RuntimeError if it failed."""
    found: dict[str, Any] = json.loads(process.says(r"(?m)^\{.*\}$")[0])
    return found


@dataclass(frozen=True, slots=True)
class Moved:
    right: bool
    """Are the bytes the right ones, and the client at its last address?"""
    waits: list[float]
    """Of each move, how long nothing came, in probe timeouts."""


def moved(at: Site, move: Move, moves: int, megabytes: int) -> Moved:
    """A download of which the client moves so often."""
    where, moments = NEAR_ADDRESS, []
    _nft(at.link.far, _GONE)
    try:
        process = at.client("get", f"/files/{megabytes}.bin", megabytes * MEGABYTE)
        process.says("going")
        for number in range(moves):
            time.sleep(MOVES_APART_S)
            old, where = where, f"10.88.0.{10 + number}"
            moments.append(time.monotonic())
            move(at.link, old, where)
        found = seen(process)
    finally:
        _nft(at.link.far, "delete table ip gone")
        _ip(at.link.near, f"address flush dev em0\naddress add {NEAR_ADDRESS}/24 dev em0\n")
    right = found["digest"] == at.digest(megabytes) and found["host"] == where
    return Moved(right, [_wait(found["arrivals"], moment) for moment in moments])


def _wait(arrivals: list[tuple[float, float]], moment: float) -> float:
    """The longest gap about that moment, in probe timeouts as they were when it began."""
    gaps = [
        (b - a, patience)
        for (a, patience), (b, _) in itertools.pairwise(arrivals)
        if b > moment and a < moment + AROUND_S
    ]
    return max(gap / patience for gap, patience in gaps)


@contextlib.contextmanager
def narrow(between: Link) -> Iterator[None]:
    """Packets of more than LARGEST_PACKET bytes vanish, either way, and nobody is told."""
    sides = (between.near, between.far)
    for side in sides:
        _nft(side, _NARROW)
    try:
        yield
    finally:
        for side in sides:
            _nft(side, "delete table ip narrow")


def run(options: Options) -> Report:
    report = Report()
    megabytes = 20 if options.quick else 100
    with site() as at:
        for name, move in MOVING.items():
            result = moved(at, move, MOVES, megabytes)
            wait = statistics.median(result.waits)
            told = f"{wait:.2f} probe timeouts without a byte, {max(result.waits):.2f} at most"
            path = f"client moves {MOVES} times, {name}"
            report.add({"path": path, "bytes right": result.right, "figure": told})
            report.check(result.right, f"{name}: bytes right")
            report.check(
                wait <= MOST_WAITS, f"{name}: goes on within {MOST_WAITS:g} probe timeouts"
            )
        with narrow(at.link):
            process = at.client("get", f"/files/{megabytes}.bin", megabytes * MEGABYTE)
            down = seen(process)
            up = seen(at.client("put", "/upload", UPLOAD_BYTES))
        right = down["digest"] == at.digest(megabytes) and up["digest"] in up["answer"]
        seconds = down["arrivals"][-1][0] - down["arrivals"][0][0]
        rate = down["bytes"] * 8e-6 / seconds
        told = f"packets of {down['datagram'] + HEADERS} bytes, {rate:.0f} Mbit/s down"
        path = f"packets over {LARGEST_PACKET} bytes vanish"
        report.add({"path": path, "bytes right": right, "figure": told})
        report.check(right, "narrow path: bytes right")
        report.check(
            down["datagram"] + HEADERS == LARGEST_PACKET, "the largest that passes is used"
        )
    return report
