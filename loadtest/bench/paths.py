"""The hot paths: each prepares what it needs, and does the same operation many times, measured."""

from __future__ import annotations

import functools
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

from apps import hello
from loadtest.bench.ends import Address, Parcel, World, world
from loadtest.bench.meter import UNMEASURED, Meter
from trickles_web.http.scope import ASGIApp, Receive, Scope, Send
from trickles_web.http.static import MOST_HASHED, StaticFiles
from trickles_web.transport.flow import Flow
from trickles_web.transport.wire import VERSION, Kind, kind_of

Measure = Callable[[Meter, int], float]
"""Given how often an operation is wanted, about, it returns how often it was measured."""

GET = b"GET / HTTP/1.1\r\nHost: bench\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n"
GET_FILE = b"GET /large.bin HTTP/1.1\r\nHost: bench\r\n\r\n"
WARM = 64
"""Operations before it counts: by then the interpreter has specialised its bytecode."""
BURST = 46
"""Packets: the largest burst, and what one operation of bulk transfer is."""
LARGE = 8 << 20
"""Bytes, more than the rounds below carry."""
SMALL_ROUNDS = 9
"""Round trips until bursts are large. The next one counts: 1,024 packets of each flow."""
BULK_FLOWS = 2
POST_BYTES = 200_000
GARBAGE_BYTES = (1, 9, 60, 200, 300, 1200, 1452)


async def large(scope: Scope, receive: Receive, send: Send) -> None:
    """A response that is produced as fast as it is taken."""
    headers = [(b"content-length", str(LARGE).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    piece = bytes(1 << 16)
    for left in range(LARGE - len(piece), -1, -len(piece)):
        await send({"type": "http.response.body", "body": piece, "more_body": left > 0})


async def swallow(scope: Scope, receive: Receive, send: Send) -> None:
    """An answer to a request that was read."""
    while (await receive()).get("more_body"):
        pass
    await hello.app(scope, receive, send)


def open_flows(between: World, count: int) -> dict[Address, Flow]:
    """So many flows, each with two exchanges behind it; those for warming up are among them."""
    flows = between.flows(count + WARM)
    between.ask(flows, GET)
    between.ask(flows, GET)
    return flows


def requests(between: World, flows: dict[Address, Flow]) -> list[Parcel]:
    """The datagrams by which these flows ask for something small."""
    for flow in flows.values():
        flow.write(GET)
    return between.sent_by(flows)


def serve(between: World, meter: Meter, arrivals: list[Parcel]) -> int:
    """The first few to warm up, the others measured; how many these are."""
    between.server.serve(arrivals[:WARM])
    with meter:
        between.server.serve(arrivals[WARM:])
    return len(arrivals) - WARM


# ---- the server


def small_get(meter: Meter, count: int, parser: str) -> float:
    """A request on an open flow, the application's call, and the answer."""
    with world(hello.app, parser=parser) as between:
        return serve(between, meter, requests(between, open_flows(between, count)))


def first_contact(meter: Meter, count: int) -> float:
    """A HELLO of somebody who was here before, answered at once."""
    with world(hello.app) as between:
        earlier = between.flows(1)
        between.ask(earlier, GET)
        (flow,) = earlier.values()
        # All of one address: a token is good for the address that it was given to.
        (address,) = earlier
        newcomers = between.flows(count + WARM, token=flow.token)
        arrivals = [parcel._replace(address=address) for parcel in requests(between, newcomers)]
        return serve(between, meter, arrivals)


def upload(meter: Meter, count: int) -> float:
    """Datagrams with bytes of a request body."""
    done = 0
    with world(swallow) as between:
        flows = between.flows(8)
        for flow in flows.values():
            flow.write(b"POST / HTTP/1.1\r\nHost: bench\r\nContent-Length: %d\r\n\r\n" % POST_BYTES)
            flow.write(bytes(POST_BYTES))
        arrivals = between.sent_by(flows)
        while done < count:
            counts = all(kind_of(parcel.datagram) == Kind.UPLOAD for parcel in arrivals)
            done += len(arrivals) * counts
            arrivals = between.round(arrivals, server=meter if counts else UNMEASURED)
    return done


def garbage(meter: Meter, count: int) -> float:
    """Datagrams of random bytes; of half of them the first byte is that of a REQUEST."""
    draw = random.Random(3)
    with world(hello.app) as between:
        arrivals = []
        for number in range(count + WARM):
            noise = draw.randbytes(GARBAGE_BYTES[number % len(GARBAGE_BYTES)])
            if number % 2:
                noise = bytes([VERSION << 4 | Kind.REQUEST]) + noise[1:]
            arrivals.append(Parcel(noise, ("10.9.9.9", 9)))
        return serve(between, meter, arrivals)


def forged(meter: Meter, count: int) -> float:
    """Requests that are right, but for one bit of the seal."""
    with world(hello.app) as between:
        flows = open_flows(between, count)
        arrivals = []
        for datagram, address in requests(between, flows):
            token = flows[address].token
            last = datagram.index(token) + len(token) - 1
            bent = datagram[:last] + bytes([datagram[last] ^ 1]) + datagram[last + 1 :]
            arrivals.append(Parcel(bent, address))
        return serve(between, meter, arrivals)


def replayed(meter: Meter, count: int) -> float:
    """Requests that were served before."""
    with world(hello.app) as between:
        arrivals = requests(between, open_flows(between, count))
        between.server.serve(arrivals)
        return serve(between, meter, arrivals)


# ---- bulk, at either end


def bulk(
    meter: Meter, count: int, app: ASGIApp, request: bytes = GET_FILE, *, at_client: bool = False
) -> float:
    """At the server: claims out of a large response, for so many packets as a large burst has.

    At the client: such a burst, and the requests that follow from it.
    """
    meters = {"client" if at_client else "server": meter}
    with world(app) as between:
        flows = between.flows(BULK_FLOWS)
        for flow in flows.values():
            flow.write(request)
        arrivals = between.sent_by(flows)
        for _ in range(SMALL_ROUNDS):
            arrivals = between.round(arrivals)
        before = between.carried
        between.round(arrivals, **meters)
        return (between.carried - before) / BURST


def static_bulk(meter: Meter, count: int) -> float:
    """The same out of a file, at the server."""
    with tempfile.TemporaryDirectory(prefix="trickles-bench-") as directory:
        with open(Path(directory, "large.bin"), "wb") as file:
            file.truncate(MOST_HASHED + 1)  # of a smaller one a thread would make a digest first
        return bulk(meter, count, StaticFiles(directory))


# ---- the client


def small_exchange(meter: Meter, count: int) -> float:
    """At the client: a request, and the answer to it."""
    with world(hello.app) as between:
        flows = open_flows(between, count)
        with meter:
            arrivals = requests(between, flows)
        between.round(arrivals, client=meter)
        return len(flows)


PATHS: dict[str, Measure] = {
    "server: small GET, httptools": functools.partial(small_get, parser="httptools"),
    "server: small GET, h11": functools.partial(small_get, parser="h11"),
    "server: HELLO with a token": first_contact,
    "server: claim of 46 packets": functools.partial(bulk, app=large),
    "server: the same of a file": static_bulk,
    "server: UPLOAD": upload,
    "server: garbage": garbage,
    "server: forged request": forged,
    "server: replayed request": replayed,
    "client: small exchange": small_exchange,
    "client: 46 packets": functools.partial(bulk, app=large, at_client=True),
}
