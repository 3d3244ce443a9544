"""Downloads by real clients into files, watched by the files' growth, while servers are killed."""

from __future__ import annotations

import hashlib
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from apps.large_files import MEGABYTE, cache_directory, checksum_file
from loadtest.processes import LOOK_S, PATIENCE_S, Process, Stage
from loadtest.report import Report, Row

CLIENTS = ("trickles-get", "curl")


class Victim(Protocol):
    """A server that can be killed, and comes back."""

    kills: int

    def restart(self) -> None: ...

    @property
    def back(self) -> bool:
        """Does it serve, since it was started last?"""

    @property
    def log(self) -> str: ...


Disturb = Callable[[int, float], None]
"""Called at every look with the bytes in the file, and monotonic seconds."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One download."""

    client: str
    megabytes: int
    limit: str
    kills: int
    seconds: float
    longest_stall_s: float
    """Longest time without growth, from the file's first bytes to the client's end."""
    exit_code: int
    complaint: str
    """What the client wrote to stderr."""
    same: bool
    """SHA-256 equal."""

    @property
    def right(self) -> bool:
        return self.same and self.exit_code == 0 and not self.complaint

    def row(self) -> Row:
        return {
            "client": self.client,
            "MB": self.megabytes,
            "limit": self.limit or "none",
            "kills": self.kills,
            "seconds": self.seconds,
            "MB/s": self.megabytes / self.seconds,
            "longest stall s": self.longest_stall_s,
            "SHA-256 equal": self.same,
            "exit code": self.exit_code,
            "complaint": self.complaint.rpartition("\n")[2] or "-",
        }


def command(client: str, url: str, file: Path, limit: str) -> tuple[str, ...]:
    """`url` without a scheme."""
    rate = ("--limit-rate", limit) if limit else ()
    if client == "curl":
        return ("curl", "-sS", *rate, "-o", str(file), f"http://{url}")
    return ("trickles-get", *rate, "-o", str(file), f"trickles://{url}")


def start(stage: Stage, words: tuple[str, ...], netns: str = "", *, piped: bool = False) -> Process:
    """Our own command as a module of this checkout, not as whatever is installed."""
    if words[0] == "trickles-get":
        return stage.python("client", "trickles_web.cli.get", *words[1:], netns=netns, piped=piped)
    return stage.start("client", *words, netns=netns, piped=piped)


def download(
    stage: Stage,
    client: str,
    authority: str,
    megabytes: int,
    limit: str,
    replicas: Sequence[Victim],
    disturb: Disturb,
) -> Outcome:
    """Fetch the large file of that size from `authority` (host:port) to its end."""
    file = stage.directory / "output.bin"
    file.unlink(missing_ok=True)
    kills = sum(replica.kills for replica in replicas)
    began = time.monotonic()
    process = start(stage, command(client, f"{authority}/files/{megabytes}.bin", file, limit))
    longest = watch(process.popen, file, disturb, began + PATIENCE_S + megabytes)
    seconds = time.monotonic() - began
    return Outcome(
        client,
        megabytes,
        limit,
        sum(replica.kills for replica in replicas) - kills,
        seconds,
        longest,
        process.popen.wait(),
        process.log.strip(),
        sha256(file) == expected_sha256(megabytes),
    )


def watch(client: subprocess.Popen[bytes], file: Path, disturb: Disturb, deadline: float) -> float:
    """Looks until the client ends; the longest stall."""
    size, grown_at, longest = 0, 0.0, 0.0
    while client.poll() is None:
        now = time.monotonic()
        if now > deadline:
            client.kill()
        found = file.stat().st_size if file.exists() else 0
        if found > size:
            if size:
                longest = max(longest, now - grown_at)
            size, grown_at = found, now
        if size:
            disturb(size, now)
        time.sleep(LOOK_S)
    return max(longest, time.monotonic() - grown_at) if size else 0.0


def sha256(file: Path) -> str:
    if not file.exists():
        return ""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def expected_sha256(megabytes: int) -> str:
    """From the sum beside the file, which is made first if need be."""
    return checksum_file(cache_directory(), megabytes).read_text(encoding="ascii").split()[0]


def at_shares(replica: Victim, megabytes: int, kills: int) -> Disturb:
    """Kills so often, evenly spread over the file."""
    marks = [megabytes * MEGABYTE * (n + 1) // (kills + 1) for n in range(kills)]

    def disturb(size: int, now: float) -> None:
        if marks and size >= marks[0]:
            marks.pop(0)
            replica.restart()

    return disturb


def in_turn(replicas: Sequence[Victim], interval_s: float) -> Disturb:
    """One of them every `interval_s`, if all the others serve then."""
    state = [0.0, 0.0]  # when the next is due, how many were killed

    def disturb(size: int, now: float) -> None:
        if not state[0]:
            state[0] = now + interval_s
        elif now >= state[0] and all(replica.back for replica in replicas):
            state[0] = now + interval_s
            replicas[int(state[1]) % len(replicas)].restart()
            state[1] += 1

    return disturb


def judge(report: Report, outcome: Outcome, least_kills: int, servers: str) -> None:
    report.add(outcome.row() | {"servers": servers})
    what = f"{outcome.megabytes} MB by {outcome.client}"
    report.check(outcome.right, f"{what}: the right bytes without an error")
    report.check(outcome.kills >= least_kills, f"{what}: at least {least_kills} kills meanwhile")


def judge_logs(report: Report, replicas: Sequence[Victim]) -> None:
    traces = sum(replica.log.count("Traceback") for replica in replicas)
    report.figures["tracebacks in server logs"] = traces
    report.check(traces == 0, "no traceback in a server's log")
