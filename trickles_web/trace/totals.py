"""What a flow comes to in all, as a trace shows it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from statistics import median
from typing import TypeVar

from trickles_web.trace.seen import Address
from trickles_web.trace.thinned import Thinned
from trickles_web.trace.words import replica
from trickles_web.transport.wire import Kind

T = TypeVar("T")

MOST_SAMPLES = 4096
MOST_NAMED = 8
"""Replicas, addresses and sizes, each,"""
MOST_TALLIED = 512
"""and so many are counted."""


def tally(counts: Counter[T], name: T, more: int) -> None:
    """Count, if there are not too many names already."""
    if name in counts or len(counts) < MOST_TALLIED:
        counts[name] += more


def _samples() -> Thinned[float]:
    return Thinned(MOST_SAMPLES)


@dataclass
class Totals:
    """Times in seconds; response bytes with their heads."""

    began: float
    ended: float
    kinds: Counter[Kind] = field(default_factory=Counter)
    sent_bytes: int = 0
    received_bytes: int = 0
    """Of datagrams, by the client."""
    fresh: int = 0
    again: int = 0
    """Response bytes that were there already,"""
    unseen: int = 0
    """and that the client has though they are not in the trace."""
    arrived: int = 0
    lost: int = 0
    late: int = 0
    copies: int = 0
    unanswered: int = 0
    """Numbers asked for in vain: lost with their bursts, or never sent."""
    reports: int = 0
    """Losses that the client reported, each of which halves the window;"""
    spurious: int = 0
    """of numbers that came."""
    generations: int = 0
    after_silence: int = 0
    epochs: int = 0
    exchanges: int = 0
    largest_window: int = 0
    probes: int = 0
    replicas: Counter[int] = field(default_factory=Counter)
    """Response bytes that were new, by who sent them."""
    servers: Counter[Address] = field(default_factory=Counter)
    """Datagrams from there, and"""
    clients: Counter[Address] = field(default_factory=Counter)
    """from there."""
    sizes: dict[int, None] = field(default_factory=dict)
    """Of datagrams, in the order in which they came into use."""
    answers: Thinned[float] = field(default_factory=_samples)
    """From a claim to what answers it,"""
    openings: Thinned[float] = field(default_factory=_samples)
    """from an opening to that,"""
    returns: Thinned[float] = field(default_factory=_samples)
    """and from a continuation to the claim that presents it."""

    @property
    def at_server(self) -> bool:
        """Was this recorded at the server's end? Then it is the client that never answers at once,
        and what was lost on its way to the client is in it all the same.
        """
        if not (len(self.answers) and len(self.returns)):
            return False
        return min(self.returns) > 2 * min(self.answers)

    @property
    def round_trips(self) -> Thinned[float]:
        if self.at_server:
            return self.returns
        return self.answers if len(self.answers) else self.openings

    @property
    def seconds(self) -> float:
        return self.ended - self.began

    def lines(self) -> list[str]:
        """The summary."""
        told = [self._bytes(), self._datagrams()]
        if self.kinds[Kind.DATA]:
            named = ", ".join(
                f"{replica(one)} {share:.1%}" for one, share in _shares(self.replicas)
            )
            told += [self._losses(), self._course(), self._trip(), ("replicas", named)]
        told += self._addresses()
        sizes = ", then ".join(f"{size:,}" for size in list(self.sizes)[:MOST_NAMED])
        if sizes:
            told.append(("datagrams of", f"{sizes} bytes"))
        return [f"  {what:<12}  {text}" for what, text in told]

    def _bytes(self) -> tuple[str, str]:
        again = f", and {self.again:,} again" if self.again else ""
        unseen = f" ({self.unseen:,} more are not in the trace)" if self.unseen else ""
        text = f"{self.fresh:,} response bytes{again}{unseen} in {self.seconds:.3f} s"
        return "brought", f"{text}, {rate(self.fresh, self.seconds)}; responses: {self.exchanges}"

    def _datagrams(self) -> tuple[str, str]:
        up = [kind for kind in sorted(self.kinds) if kind < Kind.DATA]
        down = [kind for kind in sorted(self.kinds) if kind >= Kind.DATA]
        return "datagrams", (
            f"in {self.received_bytes:,} bytes ({self._counted(down)}), "
            f"out {self.sent_bytes:,} bytes ({self._counted(up)})"
        )

    def _counted(self, kinds: list[Kind]) -> str:
        return ", ".join(f"{self.kinds[kind]:,} {kind.name}" for kind in kinds) or "none"

    def _losses(self) -> tuple[str, str]:
        reported = f"{self.reports:,} reported"
        if self.at_server:
            return "losses", f"{reported} (what is lost on the way does not show at a server)"
        total = self.arrived + self.lost
        share = self.lost / max(1, total)
        parts = [f"{self.lost:,} of {total:,} numbers did not come ({share:.2%})", reported]
        if self.spurious:
            parts[-1] += f", {self.spurious:,} of them though they came"
        for count, what in (
            (self.late, "came late"),
            (self.copies, "came twice"),
            (self.unanswered, "asked for in vain"),
        ):
            if count:
                parts.append(f"{count:,} {what}")
        return "losses", "; ".join(parts)

    def _course(self) -> tuple[str, str]:
        silence = f" ({self.after_silence:,} after silence)" if self.after_silence else ""
        return "course", (
            f"generations: {self.generations:,}{silence}; epochs: {self.epochs:,}; "
            f"largest window: {self.largest_window:,}"
        )

    def _trip(self) -> tuple[str, str]:
        samples = sorted(self.round_trips)
        if not samples:
            return "round trip", "unknown: no claim was answered"
        low, middle, high = (
            f"{one * 1000:.1f}" for one in (samples[0], median(samples), samples[-1])
        )
        return "round trip", f"{middle} ms at the median, {low} to {high}"

    def _addresses(self) -> list[tuple[str, str]]:
        told = []
        for what, counts in (("client at", self.clients), ("server at", self.servers)):
            if len(counts) > 1:
                named = ", ".join(f"{end(one)} {share:.1%}" for one, share in _shares(counts))
                told.append((what, named))
        return told


def _shares(counts: Counter[T]) -> list[tuple[T, float]]:
    total = max(1, counts.total())
    return [(name, count / total) for name, count in counts.most_common(MOST_NAMED)]


def end(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def rate(size: int, seconds: float) -> str:
    """Bytes in so many seconds as people of networks say it."""
    if seconds <= 0:
        return "at once"
    bits = size * 8 / seconds
    return f"{bits / 1e6:,.1f} Mbit/s" if bits >= 1e6 else f"{bits / 1e3:.1f} kbit/s"
