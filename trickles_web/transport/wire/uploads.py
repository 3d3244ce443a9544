"""UPLOADs that follow each other, taken as one: what a long request costs a server.

Clients send what their window allows at once, under one continuation, so neighbours mostly carry
bytes that lie end to end. Joined they are one UPLOAD, which is opened, kept and acknowledged once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from trickles_web.errors import WireError
from trickles_web.transport.wire.client import Upload, decode_upload, encode_upload

MOST_JOINED: Final = 65_535
"""Request bytes: what an UPLOAD can say that it carries."""

LEAST_ADDED: Final = MOST_JOINED // 255 + 1
"""Request bytes of each UPLOAD that is joined to others: so an ACK, which counts in one byte, has
room for the numbers of all, and is shorter than what it answers."""


class UploadRun(NamedTuple):
    """`joined` says all that these `datagrams` say, but for their `numbers`."""

    joined: bytes
    numbers: tuple[int, ...]
    datagrams: list[bytes]


def upload_runs(datagrams: Sequence[bytes]) -> Iterator[UploadRun]:
    """UPLOADs of one sender, in order, as few runs as can be. Whatever the bytes, never raises."""
    run: list[Upload] = []
    first = 0
    for i, datagram in enumerate(datagrams):
        try:
            upload = decode_upload(datagram)
        except WireError:
            upload = None
        if run and (upload is None or not _follows(upload, run)):
            yield _run_of(run, datagrams[first:i])
            run, first = [], i
        if upload is None:
            yield UploadRun(datagram, (), [datagram])
            first = i + 1
        else:
            run.append(upload)
    if run:
        yield _run_of(run, datagrams[first:])


def _follows(upload: Upload, run: Sequence[Upload]) -> bool:
    """Does it go on where the run ends? A digest is of all that comes before its own end."""
    first, last = run[0], run[-1]
    stop = last.offset + len(last.request)
    return (
        upload.offset == stop
        and stop + len(upload.request) - first.offset <= MOST_JOINED
        and len(upload.request) >= LEAST_ADDED
        and last.digest is None
        and upload.number > last.number
        and upload.flow == last.flow
        and upload.continuation == last.continuation
    )


def _run_of(run: Sequence[Upload], datagrams: Sequence[bytes]) -> UploadRun:
    if len(run) == 1:
        return UploadRun(datagrams[0], (run[0].number,), list(datagrams))
    request = b"".join([upload.request for upload in run])
    joined = encode_upload(run[-1]._replace(offset=run[0].offset, request=request))
    return UploadRun(joined, tuple(upload.number for upload in run), list(datagrams))
