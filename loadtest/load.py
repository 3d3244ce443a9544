"""A load on one server, and what it made of it: one contender's turn."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loadtest import generator, wrk
from loadtest.application import BODY
from loadtest.measure import Interval, client_core, interval
from loadtest.peers import HOST, HTTP3, Running
from loadtest.processes import ROOT
from loadtest.rounds import Sample

PATIENCE_S = 120.0
LARGE_BYTES = 100_000
"""Of an answer beside which its head is nothing."""
MOST_HTTP3 = 8
MOST_ERRORS = 0.001
"""Share of requests: beyond it a rate says nothing."""


@dataclass(frozen=True, slots=True)
class Load:
    """GETs by clients that each wait for the answer to one before they make the next."""

    seconds: float = 3.0
    clients: int = 64
    """Connections or flows, all with a request in flight."""
    path: str = "/"
    body_bytes: int = len(BODY)
    fresh: bool = False
    """A new connection or flow for each request."""
    idle: int = 0
    """Flows that are open besides, each of which has its turn (wrk has no such thing)."""

    def answers(self, whole: int, came: float) -> float:
        """How many the server was paid for, of which `came` bytes in all.

        Of small ones hardly any is on its way at the end; of large ones that may be half of them.
        """
        return whole if self.body_bytes < LARGE_BYTES else came / self.body_bytes


@dataclass(slots=True)
class Loader:
    """Puts loads on servers by programs in C. `program`: the generator, compiled."""

    program: Path
    replies: Counter[str] = field(default_factory=Counter)
    """What Trickles servers sent that is no data, and what their clients did about silence."""

    def turn(self, running: Running, load: Load) -> Sample:
        """Requests. Raises RuntimeError if some fail, or nothing is answered."""
        if running.server.program == HTTP3:
            return _http3(running, load)
        if not running.server.udp:
            return wrk_turn(running, load)
        found, cost = self._generator(running, load)
        amount, total = found["requests"], load.answers(found["requests in all"], found["bytes"])
        return Sample(amount, found["seconds"], total, cost, found["p50 us"], found["p99 us"])

    def megabytes_turn(self, running: Running, load: Load) -> Sample:
        """Megabytes that came, also of answers which were not whole at the end."""
        if running.server.udp:
            found, cost = self._generator(running, load)
            megabytes = found["bytes"] / 1e6
        else:
            made, cost = _wrk(running, load)
            megabytes = made.bytes / 1e6
        return Sample(megabytes, cost.seconds, megabytes, cost)

    def _generator(self, running: Running, load: Load) -> tuple[dict[str, Any], Interval]:
        options = generator.words(
            host=HOST,
            port=running.port,
            path=load.path,
            body=load.body_bytes,
            mode="new" if load.fresh else "get",
            flows=load.clients + load.idle,
            in_flight=load.clients,
            seconds=load.seconds,
            warm_up=0.1,
        )
        printed, cost = watched(running, [str(self.program), *options])
        found = generator.parse(printed)
        _few_errors(running, found["errors"], found["requests in all"])
        for name in ("requests in all", "acks", "needs", "waits", "losses", "timeouts"):
            self.replies[name] += found[name]
        for code, count in found["refused"].items():
            self.replies[f"refused {code}"] += count
        return found, cost


def wrk_turn(running: Running, load: Load, scheme: str = "http") -> Sample:
    """By wrk. Raises RuntimeError if some fail, or nothing is answered."""
    made, cost = _wrk(running, load, scheme)
    total = load.answers(made.requests, made.bytes)
    return Sample(made.requests, made.seconds, total, cost, made.p50_us, made.p99_us)


def _wrk(running: Running, load: Load, scheme: str = "http") -> tuple[wrk.Result, Interval]:
    headers = ("Connection: close",) if load.fresh else ()
    url, clients = f"{scheme}://{HOST}:{running.port}{load.path}", load.clients
    words = wrk.command(url, connections=clients, seconds=load.seconds, headers=headers)
    printed, cost = watched(running, words)
    made = wrk.parse(printed)
    _few_errors(running, made.errors, made.requests)
    return made, cost


def _http3(running: Running, load: Load) -> Sample:
    """By fewer clients than asked for: a handshake there costs more than many requests."""
    clients = min(load.clients, MOST_HTTP3)
    words = [sys.executable, "-m", "loadtest.http3", HOST, str(running.port), str(clients)]
    return python_turn(running, [*words, str(load.seconds)])


def waiting_turn(running: Running, client: str, seconds: float) -> Sample:
    """By one client in Python, see `loadtest.latencies`. Raises RuntimeError if it fails."""
    words = [sys.executable, "-m", "loadtest.latencies", client, HOST, str(running.port)]
    return python_turn(running, [*words, str(seconds)])


def python_turn(running: Running, words: Sequence[str]) -> Sample:
    printed, cost = watched(running, words)
    found = json.loads(printed)
    amount, total = found["requests"], found["requests in all"]
    return Sample(amount, found["seconds"], total, cost, found["p50 us"], found["p99 us"])


def posting_turn(running: Running, megabytes: int, seconds: float) -> Sample:
    """Megabytes sent by one client in Python, see `loadtest.posting`; RuntimeError if it fails."""
    client = "flow" if running.server.udp else "streams"
    words = [sys.executable, "-m", "loadtest.posting", client, HOST, str(running.port)]
    printed, cost = watched(running, [*words, str(megabytes), str(seconds)])
    found = json.loads(printed)
    return Sample(found["megabytes"], found["seconds"], found["megabytes"], cost)


def program_turn(running: Running, words: Sequence[str], megabytes: int) -> Sample:
    """One download by a program that knows how to; its start counts. RuntimeError if it fails."""
    _, cost = watched(running, words)
    return Sample(megabytes, cost.seconds, megabytes, cost)


def watched(running: Running, words: Sequence[str]) -> tuple[str, Interval]:
    """What a client printed, and what its run cost. Raises RuntimeError if it fails."""
    command = [*client_core(), *words]
    with interval([running.process.pid]) as cost:
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=PATIENCE_S, cwd=ROOT
            )
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"over {PATIENCE_S:g} s: {' '.join(command)}") from None
    if done.returncode and not done.stdout:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout, cost


def _few_errors(running: Running, errors: int, requests: int) -> None:
    if not requests or errors > MOST_ERRORS * requests:
        log = running.process.log.strip()[-2000:]
        raise RuntimeError(
            f"{running.server.name}: {errors} errors, {requests} requests answered\n{log}"
        )
