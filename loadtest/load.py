"""A load on one server, and what it made of it: one contender's turn."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loadtest import generator, wrk
from loadtest.application import BODY
from loadtest.measure import client_core, interval
from loadtest.peers import HOST, Running
from loadtest.processes import ROOT
from loadtest.rounds import Sample

PATIENCE_S = 120.0
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


@dataclass(slots=True)
class Loader:
    """Puts loads on servers. `program`: the generator, compiled."""

    program: Path
    replies: Counter[str] = field(default_factory=Counter)
    """What Trickles servers sent that is no data, and what their clients did about silence."""

    def turn(self, running: Running, load: Load) -> Sample:
        """Raises RuntimeError if requests fail, or nothing is answered."""
        udp = running.server.udp
        words = self._generator(running, load) if udp else _wrk(running, load)
        with interval([running.process.pid]) as cost:
            printed = _output([*client_core(), *words])
        if not udp:
            made = wrk.parse(printed)
            _few_errors(running, made.errors, made.requests)
            total = made.requests
            return Sample(total, made.seconds, total, cost, made.p50_us, made.p99_us)
        found = generator.parse(printed)
        _few_errors(running, found["errors"], found["requests in all"])
        self._count(found)
        amount, total = found["requests"], found["requests in all"]
        return Sample(amount, found["seconds"], total, cost, found["p50 us"], found["p99 us"])

    def python_turn(self, running: Running, client: str, seconds: float) -> Sample:
        """By one client in Python, see `loadtest.latencies`. Raises RuntimeError if it fails."""
        words = [sys.executable, "-m", "loadtest.latencies", client, HOST, str(running.port)]
        with interval([running.process.pid]) as cost:
            printed = _output([*client_core(), *words, str(seconds)])
        found = json.loads(printed)
        amount, total = found["requests"], found["requests in all"]
        return Sample(amount, found["seconds"], total, cost, found["p50 us"], found["p99 us"])

    def _generator(self, running: Running, load: Load) -> list[str]:
        options = generator.words(
            host=HOST,
            port=running.port,
            path=load.path,
            body=load.body_bytes,
            mode="new" if load.fresh else "get",
            flows=load.clients,
            in_flight=load.clients,
            seconds=load.seconds,
            warm_up=0.1,
        )
        return [str(self.program), *options]

    def _count(self, found: dict[str, Any]) -> None:
        for name in ("requests in all", "acks", "needs", "waits", "losses", "timeouts"):
            self.replies[name] += found[name]
        for code, count in found["refused"].items():
            self.replies[f"refused {code}"] += count


def _wrk(running: Running, load: Load) -> list[str]:
    headers = ("Connection: close",) if load.fresh else ()
    url = running.url + load.path
    return wrk.command(url, connections=load.clients, seconds=load.seconds, headers=headers)


def _output(words: list[str]) -> str:
    """Of a command that is to succeed. Raises RuntimeError."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S, cwd=ROOT)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{words[0]} took over {PATIENCE_S:g} s: {' '.join(words)}") from None
    if done.stderr:
        print(done.stderr.strip(), file=sys.stderr)
    if done.returncode and not done.stdout:
        raise RuntimeError(f"{' '.join(words)}: exit code {done.returncode}")
    return done.stdout


def _few_errors(running: Running, errors: int, requests: int) -> None:
    if not requests or errors > MOST_ERRORS * requests:
        log = running.process.log.strip()[-2000:]
        raise RuntimeError(
            f"{running.server.name}: {errors} errors, {requests} requests answered\n{log}"
        )
