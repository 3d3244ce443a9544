"""Header fields that clients invent: whatever they hold, parsing them gives sound values."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trickles_web.http.byteranges import (
    MOST_BYTES,
    MOST_RANGES,
    boundary_of,
    multipart,
    parse_ranges,
)
from trickles_web.http.conditions import Validators, matches, outcome, parse_date
from trickles_web.http.negotiation import choose

latin = st.text(st.characters(max_codepoint=255))
specs = st.text('0123456789-, \t=bytesxW/"*;q.').map("bytes={}".format)
sizes = st.integers(0, 2**40)


@given(latin | specs, sizes)
def test_ranges_lie_within_the_file(text: str, size: int) -> None:
    parts = parse_ranges(text, size)
    if parts is not None:
        assert len(parts) <= MOST_RANGES
        assert all(0 <= part.start < part.stop <= size for part in parts)
        assert len(parts) < 2 or sum(map(len, parts)) <= MOST_BYTES


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=1, max_size=20))
def test_ranges_are_those_asked_for(pairs: list[tuple[int, int]]) -> None:
    parts = parse_ranges("bytes=" + ",".join(f"{a}-{b}" for a, b in pairs), 400)
    if any(a > b for a, b in pairs) or len(pairs) > MOST_RANGES:
        assert parts is None
        return
    wanted = [range(a, min(b + 1, 400)) for a, b in pairs if a < 400]
    covered = [i for part in wanted for i in part]
    if len(set(covered)) < len(covered):
        assert parts is None
    else:
        assert parts == wanted


@pytest.mark.parametrize("length", [10, 100_000])
def test_long_fields_are_no_work(length: int) -> None:
    for piece in ("0-0,", ",", " ", "9", "-", '"', 'W/"x",', "gzip;", ";q=1", "\t,"):
        text = piece * length
        parse_ranges("bytes=" + text, 10)
        matches(text, '"x"', weakly=True)
        choose(text, ["br", "gzip"])
        parse_date(text)


@given(st.binary(max_size=300), st.sets(st.integers(0, 300), min_size=2, max_size=8))
def test_a_multipart_body_gives_back_its_parts(data: bytes, cuts: set[int]) -> None:
    points = sorted(cuts)
    parts = [range(a, b) for a, b in zip(points[::2], points[1::2], strict=False)]
    pieces = [(part, data[part.start : part.stop]) for part in parts]
    boundary = boundary_of(b'"tag"', parts)
    body = multipart(pieces, len(data), b"text/plain", boundary)
    between = (b"\r\n" + body).split(b"\r\n--" + boundary)
    assert [part.partition(b"\r\n\r\n")[2] for part in between[1:-1]] == [d for _, d in pieces]


@given(latin)
def test_any_text_is_a_list_of_tags_or_none(text: str) -> None:
    assert not matches(text, '"a tag with spaces cannot match"', weakly=True) or text.strip() == "*"


@given(st.lists(st.text("!#ab,/W", max_size=5), max_size=6), st.booleans())
def test_a_tag_is_found_in_its_list(tags: list[str], weak: bool) -> None:
    text = " ,".join(f'{"W/" * weak}"{tag}"' for tag in tags)
    for tag in (*tags, "other", "b,a"):
        assert matches(text, f'"{tag}"', weakly=True) == (tag in tags)
        assert matches(text, f'"{tag}"', weakly=False) == (tag in tags and not weak)


@given(st.integers(0, 2**37))
def test_dates_that_are_sent_can_be_read(seconds: int) -> None:
    assert parse_date(formatdate(seconds, usegmt=True)) == seconds


@given(latin)
def test_any_text_is_a_date_or_none(text: str) -> None:
    assert parse_date(text) is None


@given(st.dictionaries(st.sampled_from(["if-match", "if-none-match"]), latin))
def test_an_outcome_is_one_of_three(fields: dict[str, str]) -> None:
    assert outcome(fields, Validators('"tag"', 5)) in (200, 304, 412)


@given(latin, st.lists(st.sampled_from(["br", "gzip"]), unique=True))
def test_a_coding_is_one_that_is_there(text: str, codings: list[str]) -> None:
    assert choose(text, codings) in ["identity", *codings]
