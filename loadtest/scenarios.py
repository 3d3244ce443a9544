"""The scenarios there are: modules of this package with `run(options) -> Report`."""

from __future__ import annotations

SCENARIOS = {
    "requests": "small GETs on open flows, beside uvicorn, granian and hypercorn",
    "connections": "a new flow or connection for every request, beside the same",
    "private": "requests, new flows and megabytes, private and in clear, beside uvicorn with TLS",
    "latency": "how long one client waits for an answer, in C and in Python",
    "bodies": "a page of 1 MB, a file of 100 MB: megabytes for a CPU second of the server",
    "static": "files by --static, beside Starlette on uvicorn, and nginx",
    "uploads": "10 MB up: megabytes for a CPU second of the server",
    "growth": "what a request costs with 1 to 10,000 open flows, and with 100 B to 10 MB",
    "idle": "memory of a server with 100,000 open idle flows, beside uvicorn's connections",
    "failover": "downloads while one of three servers, or the only one, is SIGKILLed",
    "engines": "the table of behaviours, and GETs, through nginx and nft, to any of three (root)",
    "rolling": "GETs at a steady rate while all workers are replaced three times, beside uvicorn",
    "features": "the live tests without GSO, GRO, steering, tmpfs, pdeathsig, one at a time",
    "rotating": "the secret is replaced under a steady load; one of 3 replicas has another",
    "scale": "small GETs from one worker and from two, and how evenly flows spread",
    "once": "POSTs to 3 workers, 3% loss, SIGKILLs: each executed at most once (root)",
    "large": "1 GB up and 1 GB down, while the worker at it is SIGKILLed; memory of all",
    "demo": "the demonstration's buttons in Chromium: what goes on, and what breaks",
    "upload": "the first half of it: 1 GB up, without and with a kill",
    "events": "server-sent events, their sender SIGKILLed every 2 s: none lost, none twice",
    "hostile": "all attacks and faults that follow, in one table",
    "garbage": "random, mutated and replayed datagrams at a server with a real client",
    "fuzz": "a coverage-guided search in every decoder, and in both ends of the transport",
    "floods": "denial of service: honest clients under floods, beside uvicorn; costs of refusals",
    "spoofed": "forged source addresses: what comes to those that they name (root)",
    "chaos": "mixed exchanges while replicas, clocks, stores and the path to them fail at random",
    "soak": "an hour of mixed load: memory, descriptors and latency stay what they are",
    "lies": "clients that lie, found by a search in virtual time, beside an honest one",
    "rtt": "round trips to the first response byte of a new flow, beside TCP (root)",
    "links": "goodput beside TCP Reno and Cubic at 100 and 1,000 Mbit/s, 20 ms, with losses (root)",
    "striped": "one file from 3 replicas behind links of 50 Mbit/s, one SIGKILLed half-way (root)",
    "networks": "a client that moves between addresses, a path that swallows datagrams (root)",
    "sharing": "a flow's share of a bottleneck with 1 to 8 TCP flows, Reno and Cubic (root)",
}

MEASURED = (
    *("requests", "connections", "latency", "bodies", "static", "uploads", "growth", "rtt"),
    *("idle", "failover", "rolling", "scale", "links", "striped", "sharing"),
)
"""Those that RESULTS.md needs: what `python -m loadtest all` runs."""
