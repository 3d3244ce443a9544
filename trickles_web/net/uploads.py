"""UPLOADs of one drain that follow each other are taken as one; private ones are opened first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from trickles_web.transport.private.cover import is_private
from trickles_web.transport.redeemed import Channel
from trickles_web.transport.server import Server
from trickles_web.transport.wire import UploadRun, upload_runs


class Arrivals(NamedTuple):
    """A run, the channel in which it came, if it is private, and its datagrams as they came."""

    run: UploadRun
    channel: Channel | None
    datagrams: Sequence[bytes]


def arrivals(server: Server, datagrams: Sequence[bytes], now: int) -> Iterator[Arrivals]:
    """All of them, in order. Whatever the bytes, never raises. now: wall-clock ms."""
    for private, some in groupby(datagrams, is_private):
        came = list(some)
        if private:
            yield from _opened(server, came, now)
        else:
            for run in upload_runs(came):
                yield Arrivals(run, None, run.datagrams)


def _opened(server: Server, came: Sequence[bytes], now: int) -> Iterator[Arrivals]:
    opened = [server.opened(datagram, now) for datagram in came]
    at = 0
    # What cannot be opened is no message of an UPLOAD, so it is a run of its own.
    for run in upload_runs([message for message, _ in opened]):
        stop = at + len(run.datagrams)
        yield Arrivals(run, opened[at][1], came[at:stop])
        at = stop
