from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trickles_web.http.chunks import (
    FREE_CHUNKS,
    MOST_LINE,
    MOST_TRAILER_BYTES,
    MOST_TRAILERS,
    ChunkError,
    Chunks,
)
from trickles_web.state.backing import Backing, Disk

MOST = 10_000


def decode(data: bytes) -> tuple[Chunks, int]:
    """The decoder after all of `data`, and the status of its error, 0 if there is none."""
    chunks = Chunks(0, MOST, Backing(Disk(0)))
    try:
        for _ in range(len(data) + 1):
            before = chunks.at
            chunks.read(data, len(data))
            if chunks.done or chunks.at == before:
                break
    except ChunkError as error:
        return chunks, error.status
    return chunks, 0


def body(data: bytes) -> bytes:
    chunks, status = decode(data)
    assert (status, chunks.done) == (0, True)
    assert chunks.at == len(data)
    return chunks.body[:]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"0\r\n\r\n", b""),
        (b"000\r\n\r\n", b""),
        (b"3\r\nabc\r\n0\r\n\r\n", b"abc"),
        (b"0003\r\nabc\r\n0\r\n\r\n", b"abc"),
        (b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", b"0123456789" * 2),
        (b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n"),
        (b"1;a\r\nb\r\n0;c=d\r\n\r\n", b"b"),
        (b'1; a = "b;c" \t\r\nd\r\n0\r\n\r\n', b"d"),
        (b"0\r\nA: b\r\n\r\n", b""),
        (b"0\r\nA:\r\nTransfer-Encoding: x\r\nContent-Length: 9\r\n\r\n", b""),
        (b"0\r\nA: \xe4\t\r\n\r\n", b""),
    ],
)
def test_what_chunks_say(data: bytes, expected: bytes) -> None:
    assert body(data) == expected


@pytest.mark.parametrize(
    "data",
    [
        # Bare LF and bare CR, wherever a line may end.
        *(b"3\nabc\r\n0\r\n\r\n", b"3\r\nabc\n0\r\n\r\n", b"3\r\nabc\r\n0\n\r\n"),
        *(b"0\r\n\n", b"0\r\nA: b\n\r\n", b"0\r\nA: b\r\n\n", b"0\n\n"),
        *(b"3;a\nabc\r\n", b"3;a\rb\r\nabc\r\n", b"3\r\r\nabc", b"0\r\nA: b\rc\r\n\r\n"),
        # Sizes.
        *(b"\r\n", b" 3\r\nabc", b"3 \r\nabc", b"3 ;a\r\nabc", b"+3\r\nabc", b"-3\r\nabc"),
        *(b"0x3\r\nabc", b"3_0\r\nabc", b"g\r\n", b"\r\n3\r\nabc", b"3,\r\nabc", b"\xb2\r\nab"),
        *(b"00000000000000003\r\nabc", b"3\0\r\nabc", b"3;\0\r\nabc", b"3;\x7f\r\nabc"),
        # Data that does not have its size.
        *(b"2\r\nabc\r\n", b"4\r\nabc\r\n0\r\n\r\n"),
        # Trailer lines.
        *(b"0\r\nA : b\r\n\r\n", b"0\r\n A: b\r\n\r\n", b"0\r\nA: b\r\n c\r\n\r\n"),
        *(
            b"0\r\n: b\r\n\r\n",
            b"0\r\nA\r\n\r\n",
            b"0\r\nA: \0\r\n\r\n",
            b"0\r\nGET / HTTP/1.1\r\n",
        ),
    ],
)
def test_bad_chunks(data: bytes) -> None:
    assert decode(data)[1] == 400


def test_limits() -> None:
    assert decode(b"%x\r\n" % (MOST + 1))[1] == 413
    assert decode(b"f" * 16 + b"\r\n")[1] == 413
    assert decode(b"1\r\na\r\n" * (FREE_CHUNKS + 2))[1] == 400
    assert decode(b"1\r\na\r\n" * FREE_CHUNKS)[1] == 0
    assert decode(b"1;" + b"e" * MOST_LINE)[1] == 400
    assert decode(b"1;" + b"e" * (MOST_LINE - 4) + b"\r\na\r\n0\r\n\r\n")[1] == 0
    assert decode(b"1;" + b"e" * (MOST_LINE - 3) + b"\r\na\r\n0\r\n\r\n")[1] == 400


def test_limits_of_trailers() -> None:
    assert body(b"0\r\n" + b"A: b\r\n" * MOST_TRAILERS + b"\r\n") == b""
    assert decode(b"0\r\n" + b"A: b\r\n" * (MOST_TRAILERS + 1) + b"\r\n")[1] == 431
    whole = b"A:" + b"b" * (MOST_TRAILER_BYTES - 4) + b"\r\n"
    assert body(b"0\r\n" + whole + b"\r\n") == b""
    assert decode(b"0\r\n" + whole + b"A:\r\n\r\n")[1] == 431
    assert decode(b"0\r\nA: b" + whole + b"\r\n")[1] == 431
    assert decode(b"0\r\n" + whole.strip() * 2)[1] == 431
    half = b"A:" + b"b" * (MOST_TRAILER_BYTES // 2) + b"\r\n"
    assert decode(b"0\r\n" + half)[1] == 0
    assert decode(b"0\r\n" + half * 2 + b"\r\n")[1] == 431


WHOLE = b"3;a=b\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\nTrailer: t\r\nA:\r\n\r\n"
LONGEST = b"0\r\nA:" + b"b" * (MOST_TRAILER_BYTES - 4) + b"\r\n\r\n"


@pytest.mark.parametrize("data", [WHOLE, LONGEST])
def test_byte_by_byte_it_is_the_same(data: bytes) -> None:
    chunks = Chunks(0, MOST, Backing(Disk(0)))
    first = max(0, len(data) - 100)
    for stop in range(first, len(data) + 1):
        assert not chunks.done
        chunks.read(data[:stop], stop)
    assert chunks.done
    assert chunks.body[:] == body(data)


@given(st.lists(st.binary(min_size=1, max_size=100), max_size=10), st.binary(max_size=20))
def test_what_was_cut_into_chunks_comes_out_whole(parts: list[bytes], after: bytes) -> None:
    data = b"".join(b"%X\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    chunks, status = decode(data + after)
    assert (status, chunks.done, chunks.at) == (0, True, len(data))
    assert chunks.body[:] == b"".join(parts)
