"""Scenario: one file from three replicas at three addresses, each behind a slow link of its own.

Beside the same file from one of them; and once more, with one replica SIGKILLed half-way.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass

from apps.large_files import MEGABYTE, cache_directory
from loadtest.downloads import Disturb, expected_sha256, sha256, start, watch
from loadtest.processes import PATIENCE_S, Replica, Stage
from loadtest.report import Options, Report
from loadtest.rounds import spread
from loadtest.star import Ray, star

REPLICAS = 3
PORT = 8000
MBIT, QUEUE_MS = 50.0, 40.0
"""Of each link."""
MEGABYTES, QUICK_MEGABYTES = 200, 30
ROUNDS, QUICK_ROUNDS = 2, 1
"""Few: what bounds them are the links, which do not drift."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One download, from the file's first bytes to its last: without the start of the client."""

    mbit: float
    seconds: float
    longest_stall_s: float


def run(options: Options) -> Report:
    report = Report()
    megabytes = QUICK_MEGABYTES if options.quick else MEGABYTES
    one, three = [], []
    with Setting() as setting:
        for _ in range(QUICK_ROUNDS if options.quick else ROUNDS):
            one.append(setting.download(megabytes, setting.replicas[:1]))
            three.append(setting.download(megabytes, setting.replicas))
        _tell(report, megabytes, "one replica", one)
        _tell(report, megabytes, "three replicas", three)
        report.judge("striped", [b.mbit / a.mbit for a, b in zip(one, three, strict=True)])
        killed = setting.download(megabytes, setting.replicas, setting.kill_half_way(megabytes))
        _tell(report, megabytes, "three, one SIGKILLed half-way", [killed])
        report.check(setting.killed, "a replica was killed half-way")
    return report


def _tell(report: Report, megabytes: int, who: str, turns: Sequence[Turn]) -> None:
    rates = [turn.mbit for turn in turns]
    report.add(
        {
            "from": who,
            "MB": megabytes,
            "Mbit/s": sum(rates) / len(rates),
            "lowest to highest": spread(rates),
            "seconds": sum(turn.seconds for turn in turns) / len(turns),
            "longest stall s": max(turn.longest_stall_s for turn in turns),
            "SHA-256 equal": True,
        }
    )


class Setting:
    """The links, and a server at the far end of each."""

    def __init__(self, mbit: float = MBIT, replicas: int = REPLICAS) -> None:
        self._links = star(replicas, mbit, QUEUE_MS)
        self._stage = Stage()
        self.replicas: list[tuple[Ray, Replica]] = []
        self.killed = False

    def __enter__(self) -> Setting:
        for number, link in enumerate(self._links.__enter__()):
            where = ("--host", link.address, "--port", str(PORT), "--store", "memory")
            words = ("--static", str(cache_directory()), *where)
            replica = Replica(self._stage, f"server{number}", *words, netns=link.far)
            self.replicas.append((link, replica))
        for _, replica in self.replicas:
            replica.ready()
        return self

    def __exit__(self, *error: object) -> None:
        self._stage.__exit__(None, None, None)
        self._links.__exit__(None, None, None)

    def download(
        self,
        megabytes: int,
        replicas: Sequence[tuple[Ray, Replica]],
        disturb: Disturb = lambda size, now: None,
    ) -> Turn:
        """The file of that size by trickles-get. Raises RuntimeError if it is not the right one."""
        expected = expected_sha256(megabytes)
        file = self._stage.directory / "output.bin"
        file.unlink(missing_ok=True)
        places = [f"{link.address}:{PORT}" for link, _ in replicas]
        others = [word for place in places[1:] for word in ("--replica", place)]
        words = ("trickles-get", *others, "-o", str(file))
        looks: list[tuple[int, float]] = []

        def look(size: int, now: float) -> None:
            if not looks or size > looks[-1][0]:
                looks.append((size, now))
            disturb(size, now)

        process = start(
            self._stage,
            (*words, f"trickles://{places[0]}/{megabytes}.bin"),
            netns=replicas[0][0].near,
        )
        stall = watch(process.popen, file, look, time.monotonic() + PATIENCE_S + megabytes)
        if process.popen.wait() or sha256(file) != expected:
            raise RuntimeError(f"the wrong file, or an error: {process.log.strip()}")
        (first, began), (last, ended) = looks[0], looks[-1]
        return Turn((last - first) * 8e-6 / (ended - began), ended - began, stall)

    def kill_half_way(self, megabytes: int) -> Disturb:
        """SIGKILL of the last replica when half of the file is there; it does not come back."""

        def disturb(size: int, now: float) -> None:
            if size >= megabytes * MEGABYTE // 2 and not self.killed:
                self.killed = True
                self.replicas[-1][1].process.end(signal.SIGKILL)

        return disturb
