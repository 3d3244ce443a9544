"""What the status page is told: sums, of which it makes rates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from trickles_web.net.monitoring.tallies import Tally


def numbers(tallies: Iterable[Tally]) -> dict[str, Any]:
    """As JSON has it. `at`: monotonic seconds of the moment that a worker's numbers are of."""
    refusals: Counter[str] = Counter()
    workers = []
    for tally in tallies:
        counts = tally.counts
        requests = sum(n for (family, _), n in counts.items() if family == "requests")
        refusals.update({reason: n for (of, reason), n in counts.items() if of == "refusals"})
        refusals["replayed"] += counts["replays", ""]
        workers.append(
            {
                "name": tally.name,
                "pid": tally.pid,
                "at": tally.at,
                "in": counts["datagrams", "in"],
                "out": counts["datagrams", "out"],
                "requests": requests,
                "restarts": tally.restarts,
                **{name: tally.gauges[name] for name in sorted(tally.gauges)},
            }
        )
    return {"workers": workers, "refusals": dict(refusals.most_common())}
