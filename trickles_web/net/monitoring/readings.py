"""What one process has counted so far. Taken in one piece, sent as JSON, summed as it is.

Hot paths increment plain numbers. What they are called elsewhere is settled here, when somebody
looks.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple, Self

if TYPE_CHECKING:
    from trickles_web.http.runner import Runner
    from trickles_web.net.endpoint import Endpoint
    from trickles_web.net.stores import AnyStore
    from trickles_web.net.udp import UdpSocket
    from trickles_web.transport.server import Server as TransportServer

Counts = Counter[tuple[str, str]]
"""By (family, what). Of what consists of two things, there is a slash between."""

_NAMES: Final = {
    "received": ("datagrams", "in"),
    "sent": ("datagrams", "out"),
    "bytes received": ("bytes", "in"),
    "bytes sent": ("bytes", "out"),
    "spent": ("replays", ""),
    "filter_full": ("incidents", "filter_full"),
    "too_long": ("incidents", "too_long"),
    "identify": ("received", "IDENTIFY"),
    "burst": ("bursts", ""),
    **{kind: ("received", kind) for kind in ("HELLO", "REQUEST", "UPLOAD", "CANCEL")},
    **{kind: ("answers", kind) for kind in ("ACK", "NEED", "WAIT")},
}
"""Of counters that are not reasons."""
_SWITCHED: Final = 101
"""The status of a WebSocket."""


class Reading(NamedTuple):
    """One process at one moment."""

    at: float
    """Monotonic seconds, the same for all processes of the machine."""
    counts: Counts
    gauges: dict[str, int]

    def pack(self) -> bytes:
        counts = [[*name, count] for name, count in self.counts.items()]
        return json.dumps([self.at, counts, self.gauges]).encode()

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        at, counts, gauges = json.loads(data)
        return cls(at, Counter({(family, what): n for family, what, n in counts}), gauges)


def read(
    udp: UdpSocket,
    endpoint: Endpoint,
    transport: TransportServer,
    runner: Runner,
    store: AnyStore,
) -> Reading:
    """From any thread: each part is copied in one step."""
    counts: Counts = Counter()
    refusals = set(dict(transport.counters))
    for name, count in endpoint.counters().items():
        family = "refusals" if name in refusals else "incidents"
        counts[_NAMES.get(name, (family, name))] += count
    for (unsafe, status), count in dict(runner.answered).items():
        method = "websocket" if status == _SWITCHED else "unsafe" if unsafe else "safe"
        counts["requests", f"{method}/{status // 100}xx"] += count
    for exponent, count in dict(udp.batches).items():
        counts["batches", str(1 << exponent)] += count
    counts["reruns", ""] = runner.rerun
    gauges = {
        "soft_state_bytes": store.used,
        "running_calls": len(runner.calls.runs),
        "parked_requests": endpoint.parked,
    }
    return Reading(time.monotonic(), counts, gauges)
