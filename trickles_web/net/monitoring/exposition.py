"""The counts in Prometheus's text format, by `prometheus-client`: made when they are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from prometheus_client import generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from trickles_web.net.monitoring.tallies import Tally

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
WORKER: Final = "worker"
LARGEST_BATCH: Final = 128
"""Datagrams; the bounds of the histogram are powers of two."""


class Family(NamedTuple):
    name: str
    text: str
    labels: tuple[str, ...] = ()
    """Beside the worker's."""


COUNTED: Final = {
    "requests": Family("requests", "Responses begun.", ("method", "status")),
    "reruns": Family("reruns", "Application calls repeated because a response was lost."),
    "datagrams": Family("datagrams", "Datagrams received and sent.", ("direction",)),
    "bytes": Family("bytes", "Bytes of their payloads.", ("direction",)),
    "received": Family("messages", "Messages of clients that were good, by kind.", ("kind",)),
    "bursts": Family("bursts", "Requests and claims that were answered with data."),
    "answers": Family("answers", "Answers without data, by kind.", ("kind",)),
    "refusals": Family("refusals", "Messages refused or dropped, by reason.", ("reason",)),
    "replays": Family("replay_hits", "Messages that the replay filter knew already."),
    "incidents": Family("incidents", "Whatever else is counted.", ("what",)),
}
GAUGES: Final = {
    "soft_state_bytes": "Bytes of memory that soft state takes.",
    "running_calls": "Application calls in progress.",
    "parked_requests": "Requests that wait for an answer.",
}


class Collector:
    """Metrics of these workers, as a registry's collectors give them."""

    def __init__(self, tallies: Iterable[Tally]) -> None:
        self._tallies = tuple(tallies)

    def collect(self) -> Iterator[Metric]:
        for key, family in COUNTED.items():
            yield self._counter(key, family)
        for name, text in GAUGES.items():
            gauge = GaugeMetricFamily(f"trickles_{name}", text, labels=[WORKER])
            for tally in self._tallies:
                gauge.add_metric([tally.name], tally.gauges[name])
            yield gauge
        yield self._batches()
        restarts = CounterMetricFamily(
            "trickles_worker_restarts", "Processes that died and were replaced.", labels=[WORKER]
        )
        for tally in self._tallies:
            restarts.add_metric([tally.name], tally.restarts)
        yield restarts

    def _counter(self, key: str, family: Family) -> Metric:
        labels = family.labels
        metric = CounterMetricFamily(
            f"trickles_{family.name}", family.text, labels=[WORKER, *labels]
        )
        for tally in self._tallies:
            found = {what: n for (of, what), n in tally.counts.items() if of == key}
            if not labels:  # it is one number, and there from the start
                found = {"": found.get("", 0)}
            for what, count in sorted(found.items()):
                values = what.split("/", len(labels) - 1) if labels else []
                metric.add_metric([tally.name, *values], count)
        return metric

    def _batches(self) -> Metric:
        metric = HistogramMetricFamily(
            "trickles_batch_datagrams", "Datagrams received in one wake-up.", labels=[WORKER]
        )
        for tally in self._tallies:
            counts = {int(w): n for (of, w), n in tally.counts.items() if of == "batches"}
            bounds = [1 << exponent for exponent in range(LARGEST_BATCH.bit_length())]
            buckets = [
                (str(bound), float(sum(n for size, n in counts.items() if size <= bound)))
                for bound in bounds
            ]
            buckets.append(("+Inf", float(sum(counts.values()))))
            metric.add_metric([tally.name], buckets, tally.counts["datagrams", "in"])
        return metric


def exposition(tallies: Iterable[Tally]) -> bytes:
    """What `/metrics` answers."""
    return generate_latest(Collector(tallies))
