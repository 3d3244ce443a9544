"""What happened in a simulation: which replica served which request, and what became of packets."""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass, field

from trickles_web.trace.words import described

MOST_PACKETS = 30
"""Lines of packets that are kept: the last ones."""
MOST_PROBLEMS = 50
SAFE = {"GET", "HEAD", "OPTIONS", "TRACE"}


@dataclass
class Asked:
    """One request of the test."""

    number: int
    method: str
    target: str
    digest: bytes
    """Of all its bytes."""
    replicas: list[int] = field(default_factory=list)
    """Where the application was called for it,"""
    killed: list[int] = field(default_factory=list)
    """and which of these were killed as it answered."""
    status: int = 0
    unknown: bool = False
    """Nobody knows whether it was executed."""
    error: str = ""
    repeats: int = 0
    """The number of the same unsafe request before it, whose outcome is unknown."""

    def __str__(self) -> str:
        where = ", ".join(f"replica {number}" for number in self.replicas) or "no replica"
        if self.killed:
            where += f" (killed as it answered: {', '.join(map(str, self.killed))})"
        outcome = self.error or (str(self.status) if self.status else "no response")
        if self.unknown:
            outcome += ", outcome unknown"
        again = f"; repeats request {self.repeats}" if self.repeats else ""
        return f"{self.number:3}  {self.method} {self.target}: {where}: {outcome}{again}"


@dataclass
class Packets:
    """Datagrams of one kind that followed each other; `text` is the first one in words."""

    at: float
    flow: int
    upward: bool
    replica: int
    text: str
    carried: bool
    count: int = 1
    size: int = 0
    """Bytes of all of them."""

    def __str__(self) -> str:
        arrow = "->" if self.upward else "<-"
        more = self.count - 1
        others = f", and {more} like it, {self.size:,} bytes in all" if more else ""
        lost = "" if self.carried else "  lost"
        ends = f"flow {self.flow} {arrow} replica {self.replica}"
        return f"{self.at * 1000:9.1f} ms  {ends}  {self.text}{others}{lost}"

    @property
    def kind(self) -> str:
        return self.text.partition(" ")[0]


@dataclass
class Story:
    """One simulation's."""

    seed: int = 0
    requests: list[Asked] = field(default_factory=list)
    packets: deque[Packets] = field(default_factory=lambda: deque(maxlen=MOST_PACKETS))
    lines: int = 0
    """Of packets, those that are not kept included."""
    problems: list[str] = field(default_factory=list)
    """Tracebacks and warnings of the application, the first ones."""

    def ask(self, method: str, target: str, content: bytes) -> Asked:
        """content: all bytes of the request."""
        digest = hashlib.blake2b(content, digest_size=16).digest()
        asked = Asked(len(self.requests) + 1, method, target, digest)
        for earlier in self.requests:
            if earlier.unknown and earlier.digest == digest and method not in SAFE:
                asked.repeats = earlier.number
        self.requests.append(asked)
        return asked

    def packet(
        self, at: float, flow: int, upward: bool, replica: int, datagram: bytes, carried: bool
    ) -> None:
        """at: virtual seconds."""
        last = self.packets[-1] if self.packets else None
        now = Packets(at, flow, upward, replica, described(datagram), carried, size=len(datagram))
        if last is not None and _alike(last, now):
            last.count += 1
            last.size += now.size
        else:
            self.packets.append(now)
            self.lines += 1

    def problem(self, text: str) -> None:
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(text)

    def repeats(self) -> list[Asked]:
        """Unsafe requests that were sent again although the first may have been executed."""
        return [asked for asked in self.requests if asked.repeats]

    def served(self) -> str:
        return "\n".join(map(str, self.requests)) or "no request reached the network"

    def told(self) -> str:
        """The last packets."""
        lines = [*map(str, self.packets)] or ["none"]
        left = self.lines - len(self.packets)
        return "\n".join(([f"(and {left} before)"] if left else []) + lines)


def _alike(a: Packets, b: Packets) -> bool:
    return (a.flow, a.upward, a.replica, a.kind, a.carried) == (
        b.flow,
        b.upward,
        b.replica,
        b.kind,
        b.carried,
    )
