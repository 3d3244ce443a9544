"""Scenario: every unsafe request is executed at most once, and every success exactly once.

With Redis the three workers are replicas as on three machines: nothing is shared but the secret and
Redis, each has an address of its own for its peers, and a datagram for another one's request goes
there by UDP, the answers back likewise. With the directory they have its Unix sockets for that. How
much went such ways only a worker that is not killed can tell: some more POSTs come after the kills.

python -m loadtest.once HOST PORT FIRST COUNT LONGEST_MS   the client, a line of JSON at its end
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
import time
from collections import Counter

from loadtest import effects
from loadtest.kind import flows
from loadtest.link import FAR_ADDRESS, Shape, link
from loadtest.processes import Process, Replica, Stage, counters
from loadtest.report import Options, Report
from loadtest.rtt import UDP_PORT
from loadtest.supervised import Worker
from trickles_web.client.streams import open_connection
from trickles_web.errors import FlowError

POSTS, QUICK_POSTS = 2000, 300
CALM_POSTS = 200
"""After those, with nobody killed."""
LONGEST_MS, CALM_LONGEST_MS = 50, 500
"""What a request takes at most; the calm ones long enough for clients to ask how it goes."""
WORKERS = 3
LOSS = 0.03
KILL_EVERY_S = (0.2, 0.8)
AT_ONCE = 20
PER_FLOW = 5
"""Requests on a flow, one after the other, if all goes well."""
LONGEST_S = 600.0


def run(options: Options) -> Report:
    """Three workers, any datagram to any of them, 3% loss, SIGKILLs; with each shared store."""
    report = Report()
    for store in ("directory", "Redis"):
        _run(report, options, store)
    return report


def _run(report: Report, options: Options, store: str) -> None:
    posts = QUICK_POSTS if options.quick else POSTS
    chance = random.Random(options.seed)
    shape = Shape(loss=LOSS, delay_ms=2, seed=options.seed)
    with link(shape) as between, Stage() as stage:
        file = str(stage.directory / "effects.sqlite")
        effects.create(file)
        stage.environment[effects.FILE_VARIABLE] = file
        name = f"dir:{stage.directory}/run"
        if store == "Redis":
            stage.redis()
            name = stage.redis_url
        server = Replica(
            stage,
            "server",
            "loadtest.effects:app",
            *("--host", FAR_ADDRESS, "--port", str(UDP_PORT)),
            *("--workers", str(WORKERS), "--steering", "random"),
            *("--store", name, "--log-level", "debug"),
            netns=between.far,
        )
        server.ready()
        workers = [Worker(server.process, number + 1) for number in range(WORKERS)]
        result: dict[str, list[str]] = {"success": [], "unknown": [], "refused": []}
        killing, calm = (0, posts, LONGEST_MS), (posts, CALM_POSTS, CALM_LONGEST_MS)
        for numbers in (killing, calm):
            arguments = (FAR_ADDRESS, str(UDP_PORT), *map(str, numbers))
            client = stage.python("client", "loadtest.once", *arguments, netns=between.near)
            _kill_while_it_runs(client, workers if numbers is killing else [], chance)
            for outcome, names in json.loads(client.log.splitlines()[-1]).items():
                result[outcome] += names
        posts += CALM_POSTS
        server.process.end()
        tracebacks = len(re.findall(r"^Traceback", server.log, re.MULTILINE))
        report.check(not tracebacks, "no traceback")
        counted = counters(server.log)
        report.check(counted["forwarded"] > 0, f"{store}: requests reach others than their owners")
        # Only who forwards by UDP gets answers to relay; from a directory's sockets none come.
        by_udp = counted["relayed"] > 0
        report.check(by_udp == (store == "Redis"), f"{store}: its own way between workers")
        head = {
            "store": store,
            "POSTs": posts,
            "kills": sum(worker.kills for worker in workers),
            "forwarded": counted["forwarded"],
            "relayed": counted["relayed"],
        }
        _judge(report, head, result, effects.executions(file), posts)


def _kill_while_it_runs(client: Process, workers: list[Worker], chance: random.Random) -> None:
    deadline = time.monotonic() + LONGEST_S
    while client.popen.poll() is None:
        if time.monotonic() > deadline:
            raise RuntimeError(f"the client does not end: {client.log}")
        time.sleep(chance.uniform(*KILL_EVERY_S))
        if workers:
            chance.choice(workers).restart()
    if client.popen.returncode:
        raise RuntimeError(f"the client failed: {client.log}")


def _judge(
    report: Report,
    head: dict[str, object],
    result: dict[str, list[str]],
    executed: list[str],
    posts: int,
) -> None:
    successes, unknown, refused = (set(result[k]) for k in ("success", "unknown", "refused"))
    times = Counter(executed)
    twice = [name for name, count in times.items() if count > 1]
    report.add(
        {
            **head,
            "successes": len(successes),
            "unknown": len(unknown),
            "refused (503)": len(refused),
            "rows": len(executed),
            "names twice": len(twice),
            "successes without row": len(successes - set(times)),
            "refused with a row": len(refused & set(times)),
        }
    )
    report.check(len(successes) + len(unknown) + len(refused) == posts, "every POST has an outcome")
    report.check(not twice, "no request is executed twice")
    report.check(not successes - set(times), "every success has its row")
    report.check(not refused & set(times), "what is refused is not executed")
    report.check(len(executed) <= len(successes) + len(unknown), "rows <= successes + unknown")
    report.check(len(successes) > 0.9 * posts, "nine in ten succeed")


class Poster:
    """The client: what came of each request, by its name."""

    def __init__(self, host: str, port: int, first: int, count: int, longest_ms: int) -> None:
        self.host, self.port, self.longest_ms = host, port, longest_ms
        self.names = iter([f"request {number}" for number in range(first, first + count)])
        self.outcomes: dict[str, list[str]] = {"success": [], "unknown": [], "refused": []}

    async def flows(self) -> None:
        """One flow after the other, as long as there are requests."""
        while await self.flow():
            pass

    async def flow(self) -> bool:
        """Some requests on one flow; False if there were none left."""
        reader, writer = await open_connection(self.host, self.port, config=flows())
        try:
            for _ in range(PER_FLOW):
                name = next(self.names, "")
                if not name:
                    return False
                try:
                    outcome = await self.post(name, reader, writer)
                except (FlowError, asyncio.IncompleteReadError) as error:
                    print(name, repr(error))
                    outcome = "unknown"
                self.outcomes[outcome].append(name)
                if outcome != "success":
                    return True
            return True
        finally:
            writer.close()

    async def post(
        self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> str:
        body = name.encode()
        head = (
            f"POST /{self.longest_ms} HTTP/1.1\r\nHost: {self.host}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        status = int(answer.split(b" ", 2)[1])
        if status == 200:
            chunks = await reader.readuntil(b"\r\n0\r\n\r\n")
            if b"done " + body not in chunks:
                raise RuntimeError(f"{name} got the answer of another: {chunks!r}")
            return "success"
        print(name, status)
        return "refused" if status == 503 else "unknown"


async def main(host: str, port: int, first: int, count: int, longest_ms: int) -> None:
    poster = Poster(host, port, first, count, longest_ms)
    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(poster.flows())
    print(json.dumps(poster.outcomes))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], *map(int, sys.argv[2:])))
