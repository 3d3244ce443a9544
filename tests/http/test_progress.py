from __future__ import annotations

from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trickles_web.http.names import digest, edition_of
from trickles_web.http.progress import (
    MOST_PROGRESS,
    Body,
    Page,
    Phase,
    Progress,
    ProgressError,
    decode,
    encode,
)

offsets = st.integers(0, 2**61)
words = st.integers(0, 2**32 - 1)
origins = st.one_of(
    st.just(b""), st.binary(min_size=6, max_size=6), st.binary(min_size=18, max_size=18)
)
receiving = st.builds(
    lambda exchange, start, response, held, store, *rest: Progress(
        exchange, start, response, Phase.RECEIVING, rest[0], start + held, store, *rest[1:]
    ),
    words,
    offsets,
    offsets,
    st.integers(0, 2**32 - 1),
    words,
    st.booleans(),
    st.booleans(),
    st.booleans(),
    origins,
)


@st.composite
def responding(draw: st.DrawFn) -> Progress:
    start, response = draw(offsets), draw(offsets)
    p = Progress(draw(words), start, response, Phase.RESPONDING, draw(st.booleans()))
    p.request_end = p.held = start + draw(st.integers(0, 2**32 - 1))
    p.origin = draw(origins)
    p.streamed = draw(st.booleans())
    p.head_only = draw(st.booleans())
    p.reruns = draw(st.integers(0, 3))
    p.kind = draw(st.sampled_from(Body))
    p.closes = draw(st.booleans())
    p.request_digest = draw(st.binary(min_size=8, max_size=8))
    p.date = draw(words)
    if p.kind is not Body.PENDING:
        p.edition = draw(st.integers(1, 2**32 - 1))
    if p.kind is Body.MEMORY:
        p.response_end = draw(st.one_of(st.just(-1), st.integers(response, 2**61 + response)))
        p.reproducible = draw(st.booleans())
        p.response_check = draw(st.binary(min_size=4, max_size=4))
        statuses = st.sampled_from([status.value for status in HTTPStatus if status >= 400])
        page = st.builds(Page, statuses, st.booleans())
        p.page = draw(st.none() | page)
    elif p.kind is Body.FILE:
        p.validator = draw(st.binary(min_size=8, max_size=8))
        p.path = draw(st.binary(min_size=1, max_size=300)).replace(b"\0", b"x")
        head = draw(st.binary(min_size=1, max_size=320))
        p.head_length = len(head)
        p.head = draw(st.sampled_from((head, b"")))
        p.offset = draw(st.sampled_from((0, 1, 2**40)))
        p.response_end = response + len(head) + draw(st.integers(0, 2**40))
    return p


@given(receiving | responding())
def test_decoding_gives_what_was_encoded(p: Progress) -> None:
    data = encode(p)
    assert len(data) <= MOST_PROGRESS
    assert decode(data) == p
    if p.kind is not Body.FILE:
        assert len(data) < 64 + len(p.origin) + 1


@given(receiving | responding(), st.binary(min_size=1, max_size=4))
def test_trailing_bytes_are_an_error(p: Progress, more: bytes) -> None:
    with pytest.raises(ProgressError):
        decode(encode(p) + more) if p.kind is not Body.FILE or p.head else decode(b"\xff")


@given(responding(), st.data())
def test_truncation_is_an_error(p: Progress, data: st.DataObject) -> None:
    whole = encode(p)
    headless = len(whole) - len(p.head)
    cut = data.draw(st.integers(1, len(whole) - 1).filter(lambda n: n != headless))
    with pytest.raises(ProgressError):
        decode(whole[:cut])


@given(st.binary(max_size=800))
def test_any_bytes_decode_or_raise_the_one_error(data: bytes) -> None:
    try:
        p = decode(data)
    except ProgressError:
        return
    if data:
        assert decode(encode(p)) == p


def test_first_contact_is_the_empty_progress() -> None:
    assert decode(b"") == Progress()


def test_a_path_too_long_for_a_continuation_is_an_error() -> None:
    p = Progress(phase=Phase.RESPONDING, kind=Body.FILE, edition=1, request_digest=b"12345678")
    p.path = b"/" * 600
    p.head = b"h" * 100
    p.head_length = 100
    p.response_end = 200
    with pytest.raises(ProgressError):
        encode(p)


def test_editions_are_never_zero() -> None:
    assert edition_of(b"\0" * 8) == 1
    assert edition_of(digest(b"")) != 0


def test_an_offset_costs_bytes_only_where_there_is_one() -> None:
    p = Progress(phase=Phase.RESPONDING, kind=Body.FILE, edition=1, request_digest=b"12345678")
    p.path, p.response_end = b"/path", 100
    assert len(encode(p)) == 46 + 16 + 5
    p.offset = 1
    assert len(encode(p)) == 46 + 16 + 5 + 8
    assert decode(encode(p)).offset == 1


@pytest.mark.parametrize("status", [0, 200, 399, 499, 600, 2**15 - 1])
def test_pages_that_no_server_has(status: int) -> None:
    p = Progress(phase=Phase.RESPONDING, kind=Body.MEMORY, edition=1, request_digest=b"12345678")
    p.page = Page(404, True)
    assert decode(encode(p)).page == p.page
    p.page = Page(status)
    with pytest.raises(ProgressError):
        decode(encode(p))


@pytest.mark.parametrize("offset", [0, 2**62 - 100, 2**64 - 1])
def test_offsets_that_no_server_seals(offset: int) -> None:
    p = Progress(phase=Phase.RESPONDING, kind=Body.FILE, edition=1, request_digest=b"12345678")
    p.path, p.response_end, p.offset = b"/path", 100, 1
    at = 46 + 16
    data = encode(p)
    with pytest.raises(ProgressError):
        decode(data[:at] + offset.to_bytes(8, "big") + data[at + 8 :])


def test_the_mark_of_an_offset_belongs_to_files() -> None:
    p = Progress(phase=Phase.RESPONDING, kind=Body.PENDING, request_digest=b"12345678")
    data = encode(p)
    with pytest.raises(ProgressError):
        decode(bytes([data[0] | 64]) + data[1:])
