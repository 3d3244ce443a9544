"""UPLOADs joined: all that they say, nothing else, whatever the bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trickles_web.errors import WireError
from trickles_web.transport import wire
from trickles_web.transport.wire.uploads import LEAST_ADDED, MOST_JOINED

BYTES = bytes(range(256)) * 300
FLOWS, BLOBS = (b"f" * 8, b"g" * 8), (b"c" * 200, b"d" * 200)


def upload(
    number: int, start: int, stop: int, which: int = 0, digest: bytes | None = None
) -> wire.Upload:
    return wire.Upload(
        FLOWS[which & 1], number, start, digest, BLOBS[which >> 1], BYTES[start:stop]
    )


def numbered(lengths: list[int]) -> list[bytes]:
    """UPLOADs end to end."""
    datagrams, at = [], 0
    for number, length in enumerate(lengths):
        datagrams.append(wire.encode_upload(upload(number, at, at + length)))
        at += length
    return datagrams


@st.composite
def mixes(draw: st.DrawFn) -> list[bytes]:
    """What may come from one address: gaps, repeats, several flows, ends, and rubbish."""
    datagrams, at = [], 0
    for number in range(draw(st.integers(0, 12))):
        at = draw(st.sampled_from([at, at, at, at, 0, at + 1, max(0, at - 1)]))
        stop = at + draw(st.sampled_from([0, 1, LEAST_ADDED - 1, LEAST_ADDED, 1100, 16_000]))
        which = draw(st.sampled_from([0, 0, 0, 0, 0, 1, 2, 3]))
        digest = draw(st.sampled_from([None, None, None, None, b"digested"]))
        sent = wire.encode_upload(upload(number, at, stop, which, digest))
        damaged = draw(st.sampled_from([sent, sent, sent, sent, sent, sent[:-1], sent + b"!"]))
        datagrams.append(damaged)
        at = stop
    return datagrams


@given(mixes())
def test_a_run_says_what_its_datagrams_say(datagrams: list[bytes]) -> None:
    runs = list(wire.upload_runs(datagrams))
    assert [datagram for run in runs for datagram in run.datagrams] == datagrams
    for run in runs:
        if len(run.datagrams) == 1:
            assert run.joined == run.datagrams[0]
            continue
        each = [wire.decode_upload(datagram) for datagram in run.datagrams]
        joined = wire.decode_upload(run.joined)
        assert {(u.flow, u.continuation) for u in each} == {(joined.flow, joined.continuation)}
        assert run.numbers == tuple(u.number for u in each)
        assert joined.request == b"".join(u.request for u in each)
        assert joined.offset == each[0].offset
        assert [u.digest for u in each] == [None] * (len(each) - 1) + [joined.digest]


@given(st.lists(st.binary(max_size=300), max_size=8))
def test_any_bytes_are_no_run(datagrams: list[bytes]) -> None:
    assert [run.datagrams for run in wire.upload_runs(datagrams)] == [[d] for d in datagrams]
    for datagram in datagrams:
        try:
            wire.decode_upload(datagram)
        except WireError:
            continue
        raise AssertionError("an UPLOAD by chance")


def test_neighbours_are_joined_as_far_as_one_upload_can_say() -> None:
    [run] = wire.upload_runs(numbered([16_000] * 4))
    assert run.numbers == (0, 1, 2, 3)
    assert [
        len(run.datagrams) for run in wire.upload_runs(numbered([16_000] * 4 + [1535, 1000]))
    ] == [
        5,
        1,
    ]


def test_an_ack_has_room_for_the_numbers_of_any_run() -> None:
    runs = list(wire.upload_runs(numbered([0] + [LEAST_ADDED] * 290)))
    assert sum(len(run.datagrams) for run in runs) == 291
    for run in runs:
        assert len(wire.decode_upload(run.joined).request) <= MOST_JOINED
        ack = wire.Ack(FLOWS[0], False, 0, -1, run.numbers, BLOBS[0])
        assert wire.decode_ack(wire.encode_ack(ack)) == ack
        assert len(wire.encode_ack(ack)) <= len(run.joined)
    assert max(len(run.numbers) for run in runs) > 250
