"""Pieces of trickles-get that need no server: rate limit, progress line, request, output."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trickles_web.cli.get.failures import Exit, Failure
from trickles_web.cli.get.options import Asking, Job
from trickles_web.cli.get.requests import build_request
from trickles_web.client.fetch import READ_BYTES, RateLimit
from trickles_web.client.progress import Progress, amount, duration
from trickles_web.client.url import parse_url


@given(
    rate=st.floats(1e3, 1e9),
    reads=st.lists(st.integers(1, READ_BYTES), min_size=1, max_size=200),
)
def test_a_reader_that_waits_as_told_keeps_the_rate(rate: float, reads: list[int]) -> None:
    limit, now = RateLimit(rate, 0.0), 0.0
    for size in reads:
        now += limit.spend(size, now)
    assert now == pytest.approx(sum(reads) / rate)


def test_a_stall_is_caught_up_for_a_moment_only() -> None:
    limit = RateLimit(1000.0, 0.0)
    limit.spend(100, 0.0)
    assert limit.spend(250, 100.0) == 0.0
    assert limit.spend(1000, 100.0) == pytest.approx(1.0)


def test_slow_rates_read_little_at_a_time() -> None:
    assert RateLimit(0.0, 0.0).read_bytes() == READ_BYTES
    assert RateLimit(1e9, 0.0).read_bytes() == READ_BYTES
    assert RateLimit(10_000.0, 0.0).read_bytes() == 1_000
    assert RateLimit(1.0, 0.0).read_bytes() == 1
    assert RateLimit(0.0, 0.0).spend(1 << 30, 0.0) == 0.0


def test_amounts_and_durations() -> None:
    assert [amount(n) for n in (0, 1023, 1024, 1536, 10 << 20, 1 << 50)] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "1.5 KiB",
        "10.0 MiB",
        "1024.0 TiB",
    ]
    assert [duration(s) for s in (0, 59.9, 60, 3600, 36_061)] == [
        "0:00",
        "0:59",
        "1:00",
        "1:00:00",
        "10:01:01",
    ]


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_progress_line() -> None:
    time, out = Time(), io.StringIO()
    progress = Progress(out, 100 << 20, time)
    for second in range(1, 11):
        time.now = float(second)
        progress.advance(second * (5 << 20))
    assert progress.line(10.0) == (
        " 50% [############............] 50.0 MiB of 100.0 MiB  5.0 MiB/s  0:10 left"
    )
    assert progress.line(12.0).endswith("waiting")
    time.now = 12.0
    progress.advance(100 << 20)
    progress.close()
    assert "100% [########################] 100.0 MiB of 100.0 MiB" in out.getvalue()
    assert out.getvalue().endswith("\n")


@pytest.mark.parametrize("total", [None, 0])
def test_the_progress_line_without_a_length(total: int | None) -> None:
    time = Time()
    progress = Progress(io.StringIO(), total, time)
    time.now = 1.0
    progress.advance(2048)
    assert progress.line(1.0) == "2.0 KiB  2.0 KiB/s"


JOB = Job(parse_url("trickles://h:9/path?q"))


def test_the_request() -> None:
    request = build_request(Asking(), JOB)
    assert (request.method, request.target) == ("GET", "/path?q")
    assert [name for name, _ in request.headers] == [b"Host", b"User-Agent", b"Accept"]
    assert request.headers[0][1] == b"h:9"
    assert build_request(Asking(head=True), JOB).method == "HEAD"


def test_headers_set_repeat_remove_and_empty() -> None:
    own = ("host: other", "X-One: 1", "X-One:2", "Accept:", "X-Empty;", "user-agent: me: too")
    request = build_request(Asking(headers=own), JOB)
    assert list(request.headers) == [
        (b"host", b"other"),
        (b"X-One", b"1"),
        (b"X-One", b"2"),
        (b"X-Empty", b""),
        (b"user-agent", b"me: too"),
    ]


def test_a_header_without_colon_is_a_usage_error() -> None:
    with pytest.raises(Failure) as caught:
        build_request(Asking(headers=("nonsense",)), JOB)
    assert caught.value.code is Exit.USAGE
