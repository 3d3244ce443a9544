"""What is fuzzed of single decoders: each function takes any bytes, and raises if a rule is broken.

The rules are of three kinds. A decoder raises its own error and no other. What it understood, said
again, is understood as the same. And where there are two readers of the same bytes, they agree.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import h11
import httptools

from tests.http.said import said
from tests.transport.driver import NOW, keyring, readable
from tests.transport.test_wire import encode_data
from trickles_web.config import HttpConfig
from trickles_web.errors import ContinuationError, WireError
from trickles_web.http import byteranges, conditions, heads, negotiation, progress, proxy_headers
from trickles_web.http.chunks import ChunkError, Chunks
from trickles_web.http.names import digest
from trickles_web.http.parsers import Head, parser
from trickles_web.http.reader import Reader
from trickles_web.http.request import Malformed
from trickles_web.state.backing import Backing, Disk
from trickles_web.transport import continuation as sealing
from trickles_web.transport import note as notes
from trickles_web.transport import wire
from trickles_web.transport.note import Note
from trickles_web.transport.wire import Kind

# ---- datagrams

Codec = tuple[Callable[[bytes], Any], Callable[[Any], bytes]]

CLIENTS: dict[int, Codec] = {
    Kind.HELLO: (wire.decode_hello, lambda m: wire.encode_hello(m, 0)),
    Kind.REQUEST: (wire.decode_request, wire.encode_request),
    Kind.UPLOAD: (wire.decode_upload, wire.encode_upload),
    Kind.CANCEL: (wire.decode_cancel, wire.encode_cancel),
}


SERVERS: dict[int, Codec] = {
    Kind.DATA: (wire.decode_data, encode_data),
    Kind.ACK: (wire.decode_ack, wire.encode_ack),
    Kind.NEED: (wire.decode_need, lambda m: wire.encode_need(m.flow, m.ranges)),
    Kind.WAIT: (wire.decode_wait, wire.encode_wait),
    Kind.REFUSED: (wire.decode_refused, wire.encode_refused),
    Kind.PREFERRED: (wire.decode_preferred, wire.encode_preferred),
}


def _there_and_back(codecs: dict[int, Codec], datagram: bytes) -> None:
    try:
        codec = codecs.get(wire.kind_of(datagram))
        if codec is None:
            return
        message = codec[0](datagram)
    except WireError:
        return
    again = codec[1](message)
    assert codec[0](again) == message, "said again, it is not the same"
    assert len(again) <= len(datagram)


def client_datagrams(data: bytes) -> None:
    _there_and_back(CLIENTS, data)


def server_datagrams(data: bytes) -> None:
    _there_and_back(SERVERS, data)


def trains(data: bytes) -> None:
    """Two bytes of segment size, then DATA end to end: taken together or each alone."""
    segment, train = 1 + int.from_bytes(data[:2], "big") % 2000, memoryview(data[2:])
    try:
        first = wire.run_of_one(train[:segment])
    except WireError:
        return
    run = wire.with_neighbours(first, train, 0, segment)
    single = [
        wire.run_of_one(train[at : at + segment])
        for at in range(0, (run.stop - run.start) * segment, segment)
    ]
    proof, offset = 0, run.data.offset
    for number, one in enumerate(single, run.start):
        assert one.start == number and one.data.offset == offset
        assert one.data[:14] == run.data[:14]
        assert one.data.continuation in (b"", run.data.continuation)
        proof ^= one.proof
        offset += one.size
    assert (run.proof, run.size) == (proof, offset - run.data.offset)
    assert b"".join(run.payloads) == b"".join(piece for one in single for piece in one.payloads)


def upload_runs(data: bytes) -> None:
    """Datagrams with two bytes of length before each: joined, they say what each alone says."""
    datagrams: list[bytes] = []
    while len(data) > 2 and len(datagrams) < 300:
        length = int.from_bytes(data[:2], "big")
        datagrams.append(data[2 : 2 + length])
        data = data[2 + length :]
    seen: list[bytes] = []
    for run in wire.upload_runs(datagrams):
        seen += run.datagrams
        if len(run.datagrams) == 1:
            assert run.joined == run.datagrams[0]
            continue
        whole = wire.decode_upload(run.joined)
        parts = [wire.decode_upload(datagram) for datagram in run.datagrams]
        assert run.numbers == tuple(part.number for part in parts)
        assert whole.request == b"".join(part.request for part in parts)
        assert (whole.offset, whole.digest) == (parts[0].offset, parts[-1].digest)
        assert all(part.flow == whole.flow for part in parts)
        assert all(part.continuation == whole.continuation for part in parts)
    assert seen == datagrams


# ---- what is sealed

KEYS = keyring()
"""Of a service whose secret the input does not know."""
_PLAIN = sealing.parse(readable(key_generation=KEYS.generation(NOW), minted=NOW))
GENUINE = (
    sealing.seal(KEYS, _PLAIN, b"", 0),
    sealing.seal(KEYS, _PLAIN, b"progress", 46),
)
GENUINE_NOTES = (
    notes.seal(KEYS, Note(0, notes.UNBOUND, b""), 1, NOW),
    notes.seal(KEYS, Note(5, 9, b"state"), 1, NOW),
)


def _altered(genuine: bytes, patches: bytes) -> bytes:
    """A copy with some of its bytes changed: (place, xor) after each other; the end may be cut."""
    changed = bytearray(genuine)
    for place, mask in zip(patches[::2], patches[1::2], strict=False):
        if place < len(changed):
            changed[place] ^= mask
        else:
            del changed[mask:]
    return bytes(changed)


def continuations(data: bytes) -> None:
    """Raw bytes, or (by the first one) those of a real one with changes, or a sealed content."""
    if data[:1] == b"\2":
        content = data[1 : 1 + sealing.MOST_PROGRESS]
        keys = KEYS.current(NOW)
        assert sealing.unseal(keys, sealing.seal(KEYS, _PLAIN, content, 46)) == content
        return
    genuine = GENUINE[len(data) % 2]
    blob = _altered(genuine, data[1:]) if data[:1] == b"\1" else data
    try:
        c = sealing.parse(blob)
        again = sealing.parse(sealing._readable(c) + bytes(40))
        assert (again, again.response_end) == (c, c.response_end)
        sealing.unseal(KEYS.at(c.key_generation, NOW), blob)
    except ContinuationError as error:
        assert error.reason in ("truncated", "forged", "expired", "secret")
    else:
        assert blob in GENUINE, "forged"


def seal_notes(data: bytes) -> None:
    """The same for notes."""
    if data[:1] == b"\2":
        note = Note(1, 2, data[1 : 1 + notes.MOST_NOTE])
        assert notes.unseal(KEYS, notes.seal(KEYS, note, 1, NOW), 1, NOW) == note
        return
    genuine = GENUINE_NOTES[len(data) % 2]
    blob = _altered(genuine, data[1:]) if data[:1] == b"\1" else data
    for incarnation in (1, 2):
        try:
            note = notes.unseal(KEYS, blob, incarnation, NOW)
        except ContinuationError as error:
            assert error.reason in ("truncated", "forged", "expired", "secret")
        else:
            assert (incarnation, blob in GENUINE_NOTES) == (1, True), "forged"
            assert note.joins <= note.firm <= notes.UNBOUND


def http_progress(data: bytes) -> None:
    try:
        p = progress.decode(data)
    except progress.ProgressError:
        return
    if len(data) <= progress.MOST_PROGRESS:
        assert progress.decode(progress.encode(p)) == p


# ---- HTTP

H11 = HttpConfig(http="h11", max_body_bytes=5000)
HTTPTOOLS = HttpConfig(http="httptools", max_body_bytes=5000)


OPEN_H11 = replace(
    H11, request_buffering=False, max_body_bytes=300, max_head_bytes=150, max_target_bytes=20
)
OPEN_HTTPTOOLS = replace(OPEN_H11, http="httptools")


def _read(data: bytes, config: HttpConfig, *stops: int) -> tuple[object, ...] | None:
    """All that a reader says, and the body. stops: where it was read up to before."""
    reader = Reader(config)
    for stop in (*stops, len(data)):
        reader.read(data[:stop])
        while reader.behind:
            reader.read(data[:stop])
        _agrees_with_itself(reader, data[:stop])
    outcome = reader.outcome
    if outcome is None:
        reader.refuse(503, "no more")
        assert isinstance(reader.outcome, Malformed) and reader.outcome.length <= len(data)
        return None
    if isinstance(outcome, Malformed):
        return outcome.status, outcome.length, reader.name
    heard = said(outcome), reader.name
    reader.take(data, 0)
    return *heard, outcome.body


def _agrees_with_itself(reader: Reader, data: bytes) -> None:
    """It knows the digest of all that came, and of its half, and takes no other."""
    assert reader.size >= 0 and not (reader.expects_continue and reader.outcome)
    for stop in (len(data), len(data) // 2):
        name = digest(data[:stop])
        assert reader.agrees(data, stop, name)
        assert not stop or not reader.agrees(data, stop, name[::-1] + b"?")


def requests(data: bytes) -> None:
    """Whole requests through both parsers, and, if they are right, cut in three. And as they are
    read by a server that calls the application at once, and takes little.
    """
    assert _read(data, OPEN_H11) == _read(data, OPEN_HTTPTOOLS), "h11 and httptools differ"
    with_h11 = _read(data, H11)
    assert _read(data, HTTPTOOLS) == with_h11, "h11 and httptools differ"
    third = len(data) // 3
    in_parts = _read(data, H11, third, len(data) - third)
    if with_h11 is None or isinstance(with_h11[0], dict):
        assert in_parts == with_h11, "cut elsewhere, it is not the same"
    else:
        assert in_parts is not None, "cut elsewhere, it is not wrong any more"


def request_heads(data: bytes) -> None:
    """What the check lets pass, both parsers take, and as the same."""
    stop = data.find(b"\r\n\r\n") + 4
    try:
        _, _, old, lines_at = heads.read_line(data[:stop], H11)
        heads.check_lines(data[lines_at:stop], old)
    except heads.RequestError:
        return
    parsed = parser("h11")(data[:stop])
    assert isinstance(parsed, Head)
    assert parser("httptools")(data[:stop]) == parsed


def _decoded(data: bytes, most: int, step: int) -> tuple[Chunks, int]:
    """The decoder after all of `data`, given `step` bytes at a time, and its error's status."""
    chunks = Chunks(0, most, Backing(Disk(0)))
    try:
        for stop in [*range(step, len(data), step), len(data)]:
            before = -1
            while not chunks.done and chunks.at > before:
                before = chunks.at
                chunks.read(data[:stop], stop)
    except ChunkError as error:
        return chunks, error.status
    return chunks, 0


CHUNKED_HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunked_bodies(data: bytes) -> None:
    """In one piece and in small ones; and what is taken, other readers take for the same body."""
    step, data = 1 + (data[0] if data else 0), data[1:]
    whole, status = _decoded(data, 5000, len(data) + 1)
    split, split_status = _decoded(data, 5000, step)
    assert (whole.done, status) == (split.done, split_status), "cut elsewhere, it is not the same"
    if not whole.done:
        return
    assert whole.at == split.at and whole.body[:] == split.body[:]
    message = CHUNKED_HEAD + data[: whole.at]
    for reader in (_body_by_h11, _body_by_httptools):
        assert reader(message) in (whole.body[:], None), reader.__name__


def _body_by_h11(message: bytes) -> bytes | None:
    """None: it is refused. All of the message must be read."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(message)
    body = b""
    try:
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            assert event is not h11.NEED_DATA, "h11 waits for more"
            body += event.data if isinstance(event, h11.Data) else b""
    except h11.RemoteProtocolError:
        return None
    assert connection.trailing_data[0] == b""
    return body


def _body_by_httptools(message: bytes) -> bytes | None:
    told = _Told()
    try:
        httptools.HttpRequestParser(told).feed_data(message)
    except httptools.HttpParserError:
        return None
    assert told.complete, "httptools waits for more"
    return told.body


class _Told:
    """What httptools calls back."""

    def __init__(self) -> None:
        self.body = b""
        self.complete = False

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.complete = True


def byte_ranges(data: bytes) -> None:
    """A byte of size, then the field."""
    size = (0, 1, 10, 1 << 20, 1 << 40)[data[0] % 5] if data else 0
    found = byteranges.parse_ranges(data[1:].decode("latin-1"), size)
    for part in found or ():
        assert 0 <= part.start < part.stop <= size and part.step == 1
        byteranges.content_range(part, size)
    if found is not None:
        assert len(found) <= byteranges.MOST_RANGES
    if found and len(found) > 1:
        assert sum(map(len, found)) <= byteranges.MOST_BYTES
        boundary = byteranges.boundary_of(b'"a"', found)
        pieces = [(part, bytes(len(part) % 9)) for part in found]
        byteranges.multipart(pieces, size, b"text/plain", boundary)


PROXIES = proxy_headers.Trusted("10.0.0.0/8, ::1, proxy")
VALIDATORS = conditions.Validators('"a"', 2_145_916_800)
CONDITIONS = (
    *("if-match", "if-unmodified-since", "if-none-match", "if-modified-since", "if-range"),
)


def fields(data: bytes) -> None:
    """Header fields that are read by this server: one byte says as which."""
    value, which = data[1:], data[0] % 10 if data else 9
    text = value.decode("latin-1")
    if which < 5:
        given = {CONDITIONS[which]: text}
        assert conditions.outcome(given, VALIDATORS) in (200, 304, 412)
        conditions.allows_range(given, VALIDATORS, VALIDATORS.modified + 1)
    elif which == 5:
        assert negotiation.choose(text, ("br", "gzip")) in ("br", "gzip", negotiation.IDENTITY)
    elif which == 6:
        heads.is_authority(value)
    elif which in (7, 8):
        name = (b"x-forwarded-for", b"x-forwarded-proto")[which - 7]
        scope = {"type": "http", "client": ("10.1.1.1", 1), "headers": [(name, value)]}
        proxy_headers.apply(scope, PROXIES)
    else:
        try:
            heads.expects_continue(value)
        except heads.RequestError as error:
            assert error.status == 417
