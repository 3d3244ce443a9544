"""Streams of requests with the tricks by which one reader is made to see other requests than the
next, and what servers make of them.

Each is a request in doubt, and one behind it: who sees the second otherwise, can be smuggled to.
"""

from __future__ import annotations

import contextlib
import random
import re
import socket
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tests.differential.seen import BEGIN, END
from tests.differential.servers import uvicorn
from tests.net.processes import serving

APPLICATION = "tests.differential.seen:app"
PARSERS = ("h11", "httptools")
SILENCE_S = 0.4
"""No server needs that long for its next answer; one that says nothing for so long waits for more.
"""
BEHIND = b"GET /behind HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNK = b"3\r\nabc\r\n0\r\n\r\n"


def asked(*lines: bytes, first: bytes = b"POST /first HTTP/1.1", host: bytes = b"Host: x") -> bytes:
    return b"\r\n".join([first, host, *lines, b"", b""])


LENGTH, CHUNKED = b"Content-Length: %d", b"Transfer-Encoding: chunked"
CLASSICS = {
    "CL.TE": asked(LENGTH % (len(HIDDEN) + 5), CHUNKED) + b"0\r\n\r\n" + HIDDEN,
    "TE.CL": asked(CHUNKED, LENGTH % 4) + b"%x\r\n" % len(HIDDEN) + HIDDEN + b"\r\n0\r\n\r\n",
    "TE.TE": asked(CHUNKED, b"Transfer-Encoding: x") + CHUNK,
    "TE.TE, one hidden": asked(b"Transfer-Encoding:\x0bchunked", LENGTH % 3) + b"abc",
    "chunked is not last": asked(b"Transfer-Encoding: chunked, identity") + CHUNK,
    "TE in HTTP/1.0": asked(CHUNKED, first=b"POST /first HTTP/1.0") + CHUNK,
    "blank before the colon": asked(b"Transfer-Encoding : chunked", LENGTH % 3) + b"abc",
    "folded TE": asked(b"Transfer-Encoding:", b" chunked") + CHUNK,
    "folded CL": asked(b"A: b", b" Content-Length: 3") + b"abc",
    "two lengths": asked(LENGTH % 3, LENGTH % (3 + len(BEHIND))) + b"abc",
    "two equal lengths": asked(LENGTH % 3, LENGTH % 3) + b"abc",
    "a list of lengths": asked(b"Content-Length: 3, 3") + b"abc",
    "a signed length": asked(b"Content-Length: +3") + b"abc",
    "a length in hex": asked(b"Content-Length: 0x3") + b"abc",
    "a length with underscores": asked(b"Content-Length: 0_3") + b"abc",
    "a length of blanks": asked(b"Content-Length: 3 3") + b"abc",
    "bare LF ends lines": asked(LENGTH % 3).replace(b"\r\n", b"\n") + b"abc",
    "bare LF ends the head": b"POST /first HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\nabc",
    "bare CR ends a line": asked(b"A: b\rContent-Length: 3") + b"abc",
    "bare LF in a value": asked(b"A: b\nContent-Length: 3") + b"abc",
    "a NUL in a name": asked(b"Content-Length\0: 3") + b"abc",
    "chunks end with LF": asked(CHUNKED) + CHUNK.replace(b"\r\n", b"\n"),
    "a chunk of more than its size": asked(CHUNKED) + b"3\r\nabcXX0\r\n\r\n",
    "a size of too many digits": asked(CHUNKED) + b"1" + b"0" * 16 + b"3\r\nabc\r\n0\r\n\r\n",
    "a size with a sign": asked(CHUNKED) + b"+3\r\nabc\r\n0\r\n\r\n",
    "a size with 0x": asked(CHUNKED) + b"0x3\r\nabc\r\n0\r\n\r\n",
    "an extension": asked(CHUNKED) + b"3;a=b\r\nabc\r\n0\r\n\r\n",
    "an extension with LF": asked(CHUNKED) + b"3;a\nX\r\nabc\r\n0\r\n\r\n",
    "an extension with CR": asked(CHUNKED) + b"3;a\rX\r\nabc\r\n0\r\n\r\n",
    "trailers": asked(CHUNKED) + b"3\r\nabc\r\n0\r\nA: b\r\n\r\n",
    "trailers of framing": asked(CHUNKED) + b"0\r\nContent-Length: 3\r\n\r\n",
    "a request as trailer": asked(CHUNKED) + b"0\r\n" + HIDDEN,
    "no CRLF behind the last chunk": asked(CHUNKED) + b"3\r\nabc\r\n0\r\n",
    "a GET with a body": asked(LENGTH % len(HIDDEN), first=b"GET /first HTTP/1.1") + HIDDEN,
    "an upgrade with a body": asked(b"Connection: upgrade", b"Upgrade: h2c", LENGTH % 3) + b"abc",
    "two Hosts": asked(b"Host: y", LENGTH % 3) + b"abc",
    "no Host": b"GET /first HTTP/1.1\r\n\r\n",
    "absolute form": asked(first=b"GET http://y/first HTTP/1.1"),
    "absolute form of https": asked(first=b"GET https://y/first HTTP/1.1"),
    "a blank in the target": asked(first=b"GET /first x HTTP/1.1"),
    "two blanks": asked(first=b"GET  /first HTTP/1.1"),
    "a tab": asked(first=b"GET\t/first HTTP/1.1"),
    "no version": b"GET /first\r\n\r\n",
    "HTTP/2.0": asked(first=b"GET /first HTTP/2.0"),
    "empty lines before": b"\r\n\r\n\r\n" + asked(first=b"GET /first HTTP/1.1"),
    "an empty line before": b"\r\n" + asked(first=b"GET /first HTTP/1.1"),
    "Expect": asked(b"Expect: 100-continue", LENGTH % 3) + b"abc",
    "Expect of something else": asked(b"Expect: 1", LENGTH % 3) + b"abc",
}

_LINES = (
    *(LENGTH % 0, LENGTH % 3, LENGTH % 5, b"Content-Length: 03", b"content-length:3"),
    *(b"Content-Length:\t3 ", b"Content-Length: 3;", b"Content-Length: -3", b"Content-Length:"),
    *(CHUNKED, b"transfer-encoding:chunked", b"Transfer-Encoding: Chunked \t"),
    *(b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: chunked;a", b"TE: trailers"),
    *(b"Transfer-Encoding: identity", b"Transfer-Encoding:", b"Transfer-Encoding: chunked,"),
    *(b"A: b", b"A:", b" A: b", b"A : b", b"A: \xe4", b"Connection: keep-alive", b"Trailer: A"),
    *(b"Connection: Transfer-Encoding", b"Connection: content-length", b"Host: x", b"Upgrade: x"),
)
_BODIES = (
    *(b"", b"abc", b"abcde", CHUNK, b"0\r\n\r\n", b"3;a\r\nabc\r\n0\r\n\r\n", b"3\r\nabc\r\n0\r\n"),
    *(
        b"03\r\nabc\r\n00\r\n\r\n",
        b"3\r\nabc\r\n0\r\nA: b\r\n\r\n",
        b"3 \r\nabc\r\n0\r\n\r\n",
        HIDDEN,
    ),
    b"%x\r\n" % len(HIDDEN) + HIDDEN + b"\r\n0\r\n\r\n",
)
_FIRST = (b"POST /first HTTP/1.1", b"GET /first HTTP/1.1", b"PUT /first HTTP/1.0")
_INSERTED = (b"\r", b"\n", b"\r\n", b" ", b"\t", b"\0", b";", b",", b":", b"\x0b", b"0", b"\xff")


def drawn(draw: random.Random) -> bytes:
    """A request made of what readers have disagreed on, and now and then bent a little."""
    lines = draw.sample(_LINES, draw.choice((0, 1, 1, 1, 2, 2, 3)))
    data = asked(*lines, first=draw.choice(_FIRST)) + draw.choice(_BODIES)
    if draw.random() < 0.4:
        at = draw.randrange(5, len(data))  # of methods, httptools knows some only
        data = data[:at] + draw.choice(_INSERTED) + data[at + draw.choice((0, 0, 1, 2)) :]
    return data


class Ports(NamedTuple):
    """TCP ports, by parser: ours (of gateways), and uvicorn's."""

    ours: tuple[int, ...]
    theirs: tuple[int, ...]


@contextlib.contextmanager
def servers(directory: Path) -> Iterator[Ports]:
    """uvicorn and the product, each with each parser."""
    with contextlib.ExitStack() as stack:
        ours, theirs = [], []
        for parser in PARSERS:
            (own := directory / f"ours-{parser}").mkdir()
            (other := directory / f"theirs-{parser}").mkdir()
            theirs.append(stack.enter_context(uvicorn(other, APPLICATION, parser)))
            arguments = ("--port", "0", "--gateway", "127.0.0.1:0", "--http", parser)
            server = stack.enter_context(serving(own, APPLICATION, *arguments, "--lifespan", "off"))
            ours.append(int(server.says(r"and http://127\.0\.0\.1:(\d+) \(Press")[1]))
        yield Ports(tuple(ours), tuple(theirs))


Seen = tuple[bytes, ...]
"""What the application told of each request that it saw, in order."""


def seen(port: int, stream: bytes) -> Seen:
    came = bytearray()
    with (
        socket.create_connection(("127.0.0.1", port), timeout=SILENCE_S) as connection,
        contextlib.suppress(ConnectionResetError, BrokenPipeError, TimeoutError),
    ):
        connection.sendall(stream)
        while part := connection.recv(1 << 16):
            came += part
    return tuple(re.findall(re.escape(BEGIN) + rb"(.*?)" + re.escape(END), came))


class Compared(NamedTuple):
    """One stream: how it was taken, and if that is wrong, why."""

    kind: str
    stream: bytes
    wrong: str = ""


def compare(ports: Ports, streams: Sequence[bytes]) -> list[Compared]:
    """Whatever our application sees, that of uvicorn sees too, with one of its parsers at least."""
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda stream: _compare(ports, stream), streams))


def _compare(ports: Ports, stream: bytes) -> Compared:
    whole = stream + BEHIND + LAST
    first, second = (seen(port, whole) for port in ports.ours)
    theirs = [seen(port, whole) for port in ports.theirs]
    if first != second:
        return Compared("differ", stream, f"h11 {first}, httptools {second}")
    what = "taken" if first else "refused"
    if first in theirs:
        alike = first == theirs[0] == theirs[1]
        return Compared(f"{what} by all" if alike else f"{what}, where uvicorn's differ", stream)
    if any(first == other[: len(first)] for other in theirs):
        return Compared("refused, taken by uvicorn", stream)
    return Compared("differ", stream, f"here {first}, uvicorn {theirs}")


def table(compared: Sequence[Compared]) -> Counter[str]:
    return Counter(one.kind for one in compared)
