"""Wire formats: round trips, hostile bytes, and known answers.

The known answers stand in tests/vectors/*.hex, so that a second implementation can be checked
against them, and so that a change of a format shows in review. After a wanted change:

    python -m tests.transport.test_wire

writes them anew.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.transport.driver import NOW, SECRET
from tests.transport.private import answers
from trickles_web.errors import ContinuationError, WireError
from trickles_web.transport import continuation as sealing
from trickles_web.transport import note as notes
from trickles_web.transport import wire
from trickles_web.transport.continuation import COMPLETE, Continuation
from trickles_web.transport.epochs import Epoch
from trickles_web.transport.keys import Keyring, short_of
from trickles_web.transport.nonces import nonces
from trickles_web.transport.note import Note
from trickles_web.transport.origin import pack_origin
from trickles_web.transport.wire import OPEN_END, Ack, Data, Earlier, Kind, Request

VECTORS = Path(__file__).resolve().parent.parent / "vectors"

flows = st.binary(min_size=8, max_size=8)
u8, u16 = st.integers(0, 0xFF), st.integers(0, 0xFFFF)
u32, u64 = st.integers(0, 0xFFFF_FFFF), st.integers(0, (1 << 64) - 1)
offsets = st.integers(0, OPEN_END - 1)
blobs = st.binary(max_size=300)
digests = st.one_of(st.none(), st.binary(min_size=8, max_size=8).filter(any))
origins = st.sampled_from([b"", b"\xc0\0\2\7\x12\x34", bytes(range(18))])


@st.composite
def wants(draw: st.DrawFn, most: int = wire.MOST_WANTS) -> wire.Wants:
    found = []
    for start in draw(st.lists(offsets, max_size=most)):
        length = draw(st.one_of(st.none(), st.integers(1, 0xFFFF_FFFE)))
        found.append((start, OPEN_END if length is None else start + length))
    return tuple(found)


earlier_claims = st.builds(Earlier, u32, u32, wants(wire.MOST_EARLIER_WANTS))
requests = st.builds(
    Request,
    flow=flows,
    opens=st.booleans(),
    handed_on=st.booleans(),
    repeated=st.booleans(),
    attempt=u8,
    size=u16,
    proof=u64,
    edition=u32,
    lost=st.one_of(st.just(-1), u32),
    start=u32,
    received=u64,
    continuation=blobs,
    wants=wants(),
    earlier=st.lists(earlier_claims, max_size=wire.MOST_EARLIER).map(tuple),
    request_offset=st.just(0),
    request=st.just(b""),
    digest=st.none(),
    note=st.one_of(st.none(), blobs),
)
datas = st.builds(
    Data, flows, u32, u32, u32, u32, u16, u16, u8, u8, u16, u32, u32, st.integers(1, 255), u16,
    u8, u64, u64, blobs, blobs, blobs,
).map(lambda d: d._replace(
    place=d.place % d.burst_length, note=d.note if d.noted and d.continuation else b""
))  # fmt: skip


def encode_data(d: Data) -> bytes:
    """There is no such function in the package: a server writes a burst's packets in one go."""
    own = wire.DATA_PACKET.pack(d.place, d.nonce, d.offset, len(d.continuation))
    note = b""
    if d.noted and d.continuation:
        note = wire.NOTE_LENGTH.pack(len(d.note)) + d.note
    return wire.data_prefix(*d[:14]) + own + d.continuation + note + d.payload


# ---- round trips


@given(st.builds(wire.Hello, flows, u8, u16, blobs, blobs, origins), st.integers(0, 1500))
def test_hello(message: wire.Hello, pad_to: int) -> None:
    datagram = wire.encode_hello(message, pad_to)
    assert len(datagram) >= pad_to
    assert wire.decode_hello(datagram) == message


@given(requests, u64, st.binary(min_size=1, max_size=300), digests, st.integers(0, 2500))
def test_request(
    message: Request, offset: int, body: bytes, digest: bytes | None, pad_to: int
) -> None:
    assert wire.decode_request(wire.encode_request(message)) == message
    carrying = replace(message, request_offset=offset, request=body, digest=digest)
    datagram = wire.encode_request(carrying, pad_to)
    assert len(datagram) >= pad_to
    assert wire.decode_request(datagram) == carrying


@given(st.builds(wire.Upload, flows, u32, u64, digests, blobs, blobs))
def test_upload(message: wire.Upload) -> None:
    assert wire.decode_upload(wire.encode_upload(message)) == message


@given(st.builds(wire.Cancel, flows, blobs))
def test_cancel(message: wire.Cancel) -> None:
    assert wire.decode_cancel(wire.encode_cancel(message)) == message


@given(datas)
def test_data(message: Data) -> None:
    datagram = encode_data(message)
    assert wire.decode_data(datagram) == message
    carried = message.carried if message.continuation else 0
    assert len(datagram) - len(message.payload) - carried == wire.DATA_HEADER_BYTES


rooms = st.just(-1) | u32


@given(
    st.builds(Ack, flows, st.booleans(), u64, rooms, st.lists(u32, max_size=255).map(tuple), blobs)
)
def test_ack(message: Ack) -> None:
    assert wire.decode_ack(wire.encode_ack(message)) == message


@given(flows, wants())
def test_need(flow: bytes, ranges: wire.Wants) -> None:
    assert wire.decode_need(wire.encode_need(flow, ranges)) == wire.Need(flow, ranges)


@given(flows, st.integers(0, 100))
def test_need_names_as_many_ranges_as_fit(flow: bytes, count: int) -> None:
    ranges = [(2 * k, 2 * k + 1) for k in range(count)]
    decoded = wire.decode_need(wire.encode_need(flow, ranges))
    assert decoded.ranges == tuple(ranges[: wire.MOST_WANTS])


@given(st.builds(wire.Wait, flows, u32, u32, u32, u16))
def test_wait(message: wire.Wait) -> None:
    assert wire.decode_wait(wire.encode_wait(message)) == message


@given(st.builds(wire.Refused, flows, u8, u16, st.binary(min_size=8, max_size=8)))
def test_refused(message: wire.Refused) -> None:
    assert wire.decode_refused(wire.encode_refused(message)) == message


@given(st.builds(wire.Preferred, flows, st.binary(min_size=8, max_size=8), origins.filter(len)))
def test_preferred(message: wire.Preferred) -> None:
    assert wire.decode_preferred(wire.encode_preferred(message)) == message


@given(flows, blobs, origins)
def test_room_is_what_fits(flow: bytes, continuation: bytes, origin: bytes) -> None:
    size = 1200
    hello = wire.Hello(flow, 0, 0, continuation, b"", origin)
    hello = hello._replace(request=b"x" * wire.hello_room(hello, size))
    assert len(wire.encode_hello(hello, 0)) == size
    upload = wire.Upload(
        flow, 0, 0, None, continuation, b"x" * wire.upload_room(continuation, size)
    )
    assert len(wire.encode_upload(upload)) == size
    for count in (1, 5):
        request = Request(
                flow, True, False, False, 0, 0, 0, 0, -1, 0, 0, continuation, ((0, 9),) * count,
            request=b"x" * wire.request_room(continuation, size, count),
        )  # fmt: skip
        assert len(wire.encode_request(request)) == size


# ---- hostile bytes


def decode(datagram: bytes) -> object:
    """Any result will do, and so will WireError; everything else is a defect."""
    try:
        kind = wire.kind_of(datagram)
        return wire.DECODERS[Kind(kind)](datagram) if kind in wire.DECODERS else None
    except WireError:
        return None


@given(st.sampled_from(sorted(wire.DECODERS)), st.binary(max_size=400))
def test_arbitrary_bytes_raise_wire_errors_only(kind: Kind, rest: bytes) -> None:
    decode(bytes([wire.VERSION << 4 | kind]) + rest)
    decode(rest)
    for decoder in wire.DECODERS.values():
        try:
            decoder(rest)
        except WireError:
            continue


@given(st.data())
def test_mutated_datagrams_raise_wire_errors_only(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(DATAGRAMS)))
    datagram = bytearray(DATAGRAMS[name])
    for _ in range(data.draw(st.integers(1, 4))):
        datagram[data.draw(st.integers(0, len(datagram) - 1))] = data.draw(u8)
    decode(bytes(datagram[: data.draw(st.integers(0, len(datagram)))]))
    decode(bytes(datagram) + data.draw(st.binary(max_size=20)))


@pytest.mark.parametrize("kind", sorted(wire.DECODERS))
def test_every_truncation_is_an_error(kind: Kind) -> None:
    datagram = DATAGRAMS[kind.name.lower()]
    assert decode(datagram) is not None
    # What follows the continuation of DATA, and the head of IDENTITY, is of whatever length there
    # is; HELLO and IDENTIFY are padded.
    message = wire.DECODERS[kind](datagram)
    payload = 0
    if kind is Kind.DATA:
        payload = len(message.payload)
    elif kind is Kind.HELLO:
        payload = wire.hello_room(message, len(datagram)) - len(message.request)
    elif kind is Kind.IDENTIFY:
        payload = len(datagram) - wire.START_BYTES - 2
    elif kind is Kind.IDENTITY:
        payload = len(message.part)
    for length in range(len(datagram) - payload):
        assert decode(datagram[:length]) is None


@pytest.mark.parametrize("kind", sorted(wire.DECODERS))
def test_trailing_bytes_are_an_error(kind: Kind) -> None:
    datagram = DATAGRAMS[kind.name.lower()] + b"\0"
    decoded = decode(datagram)
    # Behind a HELLO, and a REQUEST that says so, there is padding; behind DATA, payload.
    assert (decoded is not None) == (kind in (Kind.HELLO, Kind.DATA, Kind.IDENTIFY))


@pytest.mark.parametrize("length", [1, 4, 5, 7, 16, 17, 19, 255])
def test_an_origin_is_of_one_of_two_lengths(length: int) -> None:
    message = wire.Hello(FLOW, 0, 0, b"token", b"request", bytes(length))
    with pytest.raises(WireError):
        wire.decode_hello(wire.encode_hello(message, 1200))


def test_counts_beyond_the_limits_are_errors() -> None:
    base = Request(b"12345678", False, False, False, 0, 0, 0, 0, -1, 0, 0, b"", ())
    most = ((0, 1),) * wire.MOST_WANTS
    wire.decode_request(wire.encode_request(replace(base, wants=most)))
    over_wants = replace(base, wants=(*most, (5, 6)))
    over_earlier = replace(base, earlier=(Earlier(0, 1, ((0, 1),)),) * 3)
    over_both = replace(base, earlier=(Earlier(0, 1, ((0, 1),) * 9),))
    for message in (over_wants, over_earlier, over_both):
        with pytest.raises(WireError):
            wire.decode_request(wire.encode_request(message))


def test_an_empty_want_is_an_error() -> None:
    need = bytearray(wire.encode_need(b"12345678", [(5, 6)]))
    need[-1] = 0
    with pytest.raises(WireError):
        wire.decode_need(bytes(need))


# ---- known answers


def keyring() -> Keyring:
    """Fixed secret, and for randomness the bytes 0, 1, 2 ...: the seal's nonce is known too."""
    return Keyring((SECRET,), "vectors", 86_400_000, lambda count: bytes(range(count)))


CONTINUATION = Continuation(
    flags=COMPLETE,
    key_generation=keyring().generation(NOW),
    replica=0x01020304,
    incarnation=0x1112131415161718,
    ordinal=3,
    generation=0x2122232425262728,
    epoch=Epoch(0x3132333435363738, 400, 480, 40, 40),
    size=1200,
    padding=24,
    nonce_generation=short_of(keyring().generation(NOW)),
    burst=481,
    stop=486,
    paid=437,
    minted=NOW,
    authorised_at=NOW // 1000,
    host_tag=0x4142434445464748,
    port=4711,
    store=0x51525354,
    request_wanted=77,
    response_end=1_000_000,
    edition=0x61626364,
    round_trip=0x7172,
)


def sealed() -> bytes:
    return sealing.seal(keyring(), CONTINUATION, b"application part", 24)


NOTE = Note(joins=123_000, firm=123_456, progress=b"state")


def sealed_note() -> bytes:
    return notes.seal(keyring(), NOTE, CONTINUATION.incarnation, NOW)


FLOW, BLOB = b"flow-id.", bytes(range(40))
ORIGIN = pack_origin("192.0.2.9", 4660)
REQUEST = Request(
    FLOW, False, True, False, 0, 1452, 0xAABBCCDDEEFF0011, 0x61626364, 485, 481, 123_456, BLOB,
    ((123_456, 130_000), (200_000, OPEN_END)), (Earlier(470, 475, ((99_000, 99_500),)),),
    64, b"GET / HTTP/1.1\r\n\r\n", b"digest.8",
)  # fmt: skip
DATA = Data(
    FLOW, 3, 0x25262728, 400, 480, 40, 40, 1, 0, 0x0304, 0x61626364, 481, 5, 5, 4,
    0x0F1E2D3C4B5A6978, 123_456, BLOB, b"response",
)  # fmt: skip


def _datagrams() -> dict[str, bytes]:
    flow, blob = FLOW, BLOB
    return {
        "hello": wire.encode_hello(
            wire.Hello(flow, 1, 1452, blob, b"GET / HTTP/1.1\r\n\r\n"), 1200
        ),
        "request": wire.encode_request(REQUEST),
        "upload": wire.encode_upload(wire.Upload(flow, 9, 1100, b"digest.8", blob, b"body")),
        "cancel": wire.encode_cancel(wire.Cancel(flow, blob)),
        "data": encode_data(DATA),
        "ack": wire.encode_ack(Ack(flow, True, 1104, -1, (7, 9), blob)),
        "ack-open": wire.encode_ack(Ack(flow, False, 1104, 65_536, (7, 9), blob)),
        "need": wire.encode_need(flow, [(18, 1100), (2200, 3300)]),
        "wait": wire.encode_wait(wire.Wait(flow, 3, 0x25262728, 486, 250)),
        "refused": wire.encode_refused(wire.Refused(flow, wire.Code.TOO_SOON, 40, b"hash-of8")),
        "preferred": wire.encode_preferred(wire.Preferred(flow, b"hash-of8", ORIGIN)),
        "identify": wire.encode_identify(wire.Identify(flow, 1179), 1200),
        "identity": wire.encode_identity(wire.Identity(flow, b"hash-of8", 1183, 1179, b"last")),
    }


DATAGRAMS = _datagrams()


def known_answers() -> dict[str, bytes]:
    keys = keyring().current(NOW)
    values = nonces(keys, CONTINUATION.epoch.key, 481, 486)
    return (
        answers.private_answers()
        | DATAGRAMS
        | {
            "hello-origin": wire.encode_hello(
                wire.Hello(FLOW, 1, 1452, BLOB, b"GET / HTTP/1.1\r\n\r\n", ORIGIN), 1200
            ),
            "continuation": sealed(),
            "note": sealed_note(),
            "data-noted": encode_data(
                DATA._replace(flags=wire.FLAG_NOTED, note=sealed_note(), payload=b"event\n")
            ),
            "request-noted": wire.encode_request(replace(REQUEST, note=sealed_note())),
            "nonces": b"".join(value.to_bytes(8, "big") for value in values),
            "keys": b"".join(
                (
                    keys.encrypt_blocks(bytes(16)),
                    keys.identity(b"l", CONTINUATION.epoch.key, 500, 0).to_bytes(8, "big"),
                    keys.identity(b"g", CONTINUATION.generation, 1, 0).to_bytes(8, "big"),
                    keys.address_tag("192.0.2.7").to_bytes(8, "big"),
                )
            ),
        }
    )


def parse_vector(text: str) -> bytes:
    lines = (line.partition("#")[0] for line in text.splitlines())
    return bytes.fromhex("".join(lines))


@pytest.mark.parametrize("name", sorted(known_answers()))
def test_known_answers(name: str) -> None:
    expected = parse_vector((VECTORS / f"{name}.hex").read_text(encoding="ascii"))
    assert known_answers()[name] == expected


def test_the_known_continuation_opens() -> None:
    blob = parse_vector((VECTORS / "continuation.hex").read_text(encoding="ascii"))
    c = sealing.parse(blob)
    assert c == CONTINUATION
    assert sealing.unseal(keyring().at(c.key_generation, NOW), blob) == b"application part"
    assert len(blob) == sealing.OVERHEAD + 24
    assert sealing.settled_padding(9) == 16


def test_the_known_note_opens_for_its_flow_only() -> None:
    blob = parse_vector((VECTORS / "note.hex").read_text(encoding="ascii"))
    assert notes.parse(blob) == NOTE._replace(progress=b"")
    assert notes.unseal(keyring(), blob, CONTINUATION.incarnation, NOW) == NOTE
    with pytest.raises(ContinuationError):
        notes.unseal(keyring(), blob, CONTINUATION.incarnation + 1, NOW)


@given(st.integers(0, 7), st.integers(0, len(sealed_note()) - 1), st.binary(max_size=100))
def test_a_changed_note_is_none(bit: int, at: int, other: bytes) -> None:
    changed = bytearray(sealed_note())
    changed[at] ^= 1 << bit
    for blob in (bytes(changed), sealed_note()[:at], sealed_note() + b"x", other):
        with pytest.raises(ContinuationError):
            notes.unseal(keyring(), blob, CONTINUATION.incarnation, NOW)


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_no_continuation(blob: bytes) -> None:
    try:
        c = sealing.parse(b"\1" + blob)
    except ContinuationError:
        return
    with pytest.raises(ContinuationError):
        sealing.unseal(keyring().at(c.key_generation, NOW), b"\1" + blob)


def test_there_is_a_vector_for_each_kind_and_no_stray_one() -> None:
    assert {kind.name.lower() for kind in Kind} <= set(known_answers())
    names = {path.stem for path in VECTORS.glob("*.hex")}
    assert names == {answers.RANDOM, *known_answers()}


ABOUT = answers.ABOUT | {
    "continuation": "sealed with secret 00..1f, service 'vectors', random bytes 00 01 02 ...",
    "nonces": "of packets 481 to 485 of that continuation's epoch, 8 bytes each",
    "note": "joins 123000, firm 123456, b'state', for the incarnation of that continuation",
    "hello-origin": "one HELLO datagram of a gateway, for 192.0.2.9 port 4660",
    "data-noted": "one DATA datagram with a note",
    "request-noted": "one REQUEST datagram with a note",
    "identify": "one IDENTIFY datagram, padded",
    "identity": "one IDENTITY datagram, the last part of 1183 bytes",
    "ack-open": "one ACK of a request that is open",
    "keys": "AES of a zero block; identities l and g; address tag of 192.0.2.7",
}


def write_vectors() -> None:
    VECTORS.mkdir(exist_ok=True)
    for name, value in known_answers().items():
        text = value.hex()
        lines = [text[i : i + 64] for i in range(0, len(text), 64)]
        about = ABOUT.get(name, f"one {name.upper()} datagram")
        content = "\n".join([f"# {about}", *lines]) + "\n"
        (VECTORS / f"{name}.hex").write_text(content, encoding="ascii")


if __name__ == "__main__":
    write_vectors()
