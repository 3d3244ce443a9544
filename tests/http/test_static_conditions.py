"""Validators of static files, preconditions and ranges (RFC 9110 §13, §14)."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from tests.http.apps import get
from tests.http.peer import Peer
from tests.http.tree import (
    AFTER,
    BEFORE,
    CHANGED,
    SCRIPT,
    SINCE,
    ask,
    etag,
    parsed,
    parts_of,
    site_of,
)
from trickles_web.http.progress import Body, decode
from trickles_web.http.static import MOST_HASHED

# Validators and preconditions


def test_tags_are_of_the_content(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(root, other, symlinks=True, ignore=shutil.ignore_patterns("pipe", "socket"))
    os.utime(other / "data.bin", (5, 5))
    os.utime(other / "digits", (5, 5))
    for name in ("/data.bin", "/digits"):
        assert etag(root, name) == etag(other, name)
        assert len(etag(root, name)) == 34
    (other / "digits").write_bytes(b"0123456780")
    os.utime(other / "digits", (CHANGED, CHANGED))
    assert etag(root, "/digits") != etag(other, "/digits")


def test_tags_of_very_large_files(tmp_path: Path) -> None:
    """Not hashed, unless what names a file's version is its content."""
    tags: dict[str, list[str]] = {"stat": [], "content": []}

    async def main() -> None:
        for identity, seen in tags.items():
            for name, time in (("a", 5), ("b", 5), ("c", 6)):
                path = tmp_path / name
                path.touch()
                os.truncate(path, MOST_HASHED + 1)
                os.utime(path, (time, time))
                site = site_of(tmp_path, identity=identity)
                peer = Peer(lambda site=site: site)  # type: ignore[misc]
                response = await peer.exchange(get(f"/{name}", method="HEAD"))
                seen.append(parsed(response, b"").etag)
                await site.service.shutdown()

    asyncio.run(main())
    a, b, c = tags["stat"]
    assert a == b != c
    a, b, c = tags["content"]
    assert a == b == c != tags["stat"][0]


def test_a_date_in_the_future_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    os.utime(tmp_path / "file", (2**33, 2**33))
    assert not ask(tmp_path, "/file").headers["last-modified"].endswith(" 2242 GMT")
    os.utime(tmp_path / "file", (-5, -5))
    assert ask(tmp_path, "/file").headers["last-modified"] == "Thu, 01 Jan 1970 00:00:00 GMT"


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        # If-Match, strongly
        (["If-Match: ETAG"], 200),
        (["If-Match: *"], 200),
        (['If-Match: "a,b" , ETAG'], 200),
        (['If-Match: "other"', "If-Match: ETAG"], 200),
        (['If-Match: "other"'], 412),
        (["If-Match: W/ETAG"], 412),
        (["If-Match: bare"], 412),
        (["If-Match: ETAG bare"], 412),
        (["If-Match:"], 412),
        # If-Unmodified-Since, only without If-Match
        ([f"If-Unmodified-Since: {SINCE}"], 200),
        ([f"If-Unmodified-Since: {AFTER}"], 200),
        ([f"If-Unmodified-Since: {BEFORE}"], 412),
        (["If-Unmodified-Since: yesterday"], 200),
        ([f"If-Unmodified-Since: {BEFORE}", f"If-Unmodified-Since: {BEFORE}"], 200),
        ([f"If-Unmodified-Since: {BEFORE}", "If-Match: ETAG"], 200),
        ([f"If-Unmodified-Since: {AFTER}", 'If-Match: "other"'], 412),
        # If-None-Match, weakly
        (["If-None-Match: ETAG"], 304),
        (["If-None-Match: W/ETAG"], 304),
        (["If-None-Match: *"], 304),
        (['If-None-Match: "x", W/"y",, ETAG,'], 304),
        (['If-None-Match: "other"'], 200),
        (["If-None-Match: nonsense"], 200),
        (['If-None-Match: "unfinished'], 200),
        # If-Modified-Since, only without If-None-Match
        ([f"If-Modified-Since: {SINCE}"], 304),
        ([f"If-Modified-Since: {AFTER}"], 304),
        ([f"If-Modified-Since: {BEFORE}"], 200),
        (["If-Modified-Since: Sunday, 13-Sep-20 12:26:40 GMT"], 304),
        (["If-Modified-Since: Sun Sep 13 12:26:40 2020"], 304),
        (["If-Modified-Since: Sunday, 13-Sep-94 12:26:40 GMT"], 200),
        (["If-Modified-Since: Sun, 13 Sep 2020 12:26:40 +0000"], 200),
        (["If-Modified-Since: Sun, 31 Feb 2024 12:26:40 GMT"], 200),
        (["If-Modified-Since: Sun, 13 Sep 0000 12:26:40 GMT"], 200),
        (["If-Modified-Since: Thu, 31 Dec 2020 23:59:60 GMT"], 304),
        ([f"If-Modified-Since: {SINCE}", 'If-None-Match: "other"'], 200),
        ([f"If-Modified-Since: {BEFORE}", "If-None-Match: ETAG"], 304),
        # The order of RFC 9110 §13.2.2
        (['If-Match: "other"', "If-None-Match: ETAG"], 412),
        (["If-Match: ETAG", "If-None-Match: ETAG"], 304),
        ([f"If-Unmodified-Since: {BEFORE}", f"If-Modified-Since: {SINCE}"], 412),
        ([f"If-Unmodified-Since: {SINCE}", f"If-Modified-Since: {SINCE}"], 304),
        (["If-None-Match: ETAG", "Range: bytes=0-1"], 304),
        (['If-Match: "other"', "Range: bytes=0-1"], 412),
        (["If-None-Match: ETAG", "Range: bytes=99-"], 304),
    ],
)
def test_preconditions(root: Path, fields: list[str], status: int) -> None:
    tag = etag(root, "/digits")
    got = ask(root, "/digits", *(line.replace("ETAG", tag) for line in fields))
    assert got.status == status
    if status == 304:
        assert got.etag == tag
        assert set(got.headers) == {"date", "server", "etag"}
        assert got.body == b""
    elif status == 412:
        assert got.body == b"Precondition Failed"
    else:
        assert got.body == b"0123456789"
    assert (
        ask(root, "/digits", *(line.replace("ETAG", tag) for line in fields), method="HEAD").status
        == status
    )


# Ranges


@pytest.mark.parametrize(
    ("field", "body"),
    [
        ("bytes=0-0", b"0"),
        ("bytes=2-5", b"2345"),
        ("bytes=7-", b"789"),
        ("bytes=0-", b"0123456789"),
        ("bytes=9-9", b"9"),
        ("bytes=8-999999999999999999999999999999", b"89"),
        ("bytes=-3", b"789"),
        ("bytes=-10", b"0123456789"),
        ("bytes=-99", b"0123456789"),
        ("bytes=0000000000000000000000000000003-004", b"34"),
        ("Bytes=1-1", b"1"),
        ("bytes= 1-1 ", b"1"),
        ("bytes=,,1-1,", b"1"),
        ("bytes=1-2,20-30", b"12"),
        ("bytes=-0,3-3", b"3"),
    ],
)
def test_one_range(root: Path, field: str, body: bytes) -> None:
    got = ask(root, "/digits", f"Range: {field}")
    assert (got.status, got.body) == (206, body)
    start = b"0123456789".index(body)
    assert got.headers["content-range"] == f"bytes {start}-{start + len(body) - 1}/10"
    assert got.headers["content-length"] == str(len(body))
    assert got.headers["content-type"] == "application/octet-stream"
    assert got.headers["last-modified"] == SINCE
    assert got.etag == etag(root, "/digits")
    sealed = decode(got.progress)
    assert (sealed.kind, sealed.offset) == (Body.FILE, start)


@pytest.mark.parametrize("field", ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=-0,99-"])
def test_ranges_that_are_not_there(root: Path, field: str) -> None:
    got = ask(root, "/digits", f"Range: {field}")
    assert (got.status, got.headers["content-range"]) == (416, "bytes */10")
    assert got.body.endswith(b"Satisfiable")


@pytest.mark.parametrize(
    "field",
    [
        "bytes",
        "bytes=",
        "bytes=,",
        "bytes=-",
        "bytes=5-4",
        "bytes=1-2,5-4",
        "bytes=1-2,x",
        "bytes=a-b",
        "bytes=1--2",
        "bytes=+1-2",
        "bytes=1-2-3",
        "bytes=0x1-2",
        "bytes=1 - 2",
        "bytes =1-2",
        "bytes:1-2",
        "bytes=1",
        "lines=1-2",
        "=1-2",
        "bytes=²-3",
        "bytes=1-2\r\nRange: bytes=3-4",
        "bytes=0-5,5-6",
        "bytes=0-5,1-2",
        "bytes=-3,9-",
        "bytes=3-4,3-4",
        "bytes=" + ",".join(["0-0"] * 17),
        "bytes=" + ",".join(f"{i}-{i}" for i in range(17)),
        "bytes=1-1" + "," * 100,
    ],
)
def test_ranges_that_are_ignored(root: Path, field: str) -> None:
    got = ask(root, "/digits", f"Range: {field}".encode().decode("latin-1"))
    assert (got.status, got.body) == (200, b"0123456789")
    assert "content-range" not in got.headers


def test_ranges_mean_something_with_get_only(root: Path) -> None:
    got = ask(root, "/digits", "Range: bytes=2-5", method="HEAD")
    assert (got.status, got.headers["content-length"]) == (200, "10")
    assert ask(root, "/digits", "Range: bytes=99-", method="HEAD").status == 200


@pytest.mark.parametrize(
    ("field", "status"),
    [("bytes=0-", 416), ("bytes=0-0", 416), ("bytes=-5", 200), ("bytes=-0", 416)],
)
def test_ranges_of_nothing(root: Path, field: str, status: int) -> None:
    assert ask(root, "/nothing.txt", f"Range: {field}").status == status


@pytest.mark.parametrize(
    ("condition", "status"),
    [
        ("ETAG", 206),
        ("W/ETAG", 200),
        ('"other"', 200),
        ("*", 200),
        ("", 200),
        ("ETAG, ETAG", 200),
        (SINCE, 206),
        (AFTER, 200),
        (BEFORE, 200),
        ("yesterday", 200),
    ],
)
def test_if_range(root: Path, condition: str, status: int) -> None:
    condition = condition.replace("ETAG", etag(root, "/digits"))
    got = ask(root, "/digits", "Range: bytes=2-5", f"If-Range: {condition}")
    assert got.status == status
    assert got.body == (b"2345" if status == 206 else b"0123456789")
    assert ask(root, "/digits", f"If-Range: {condition}").status == 200
    unsatisfiable = ask(root, "/digits", "Range: bytes=99-", f"If-Range: {condition}")
    assert unsatisfiable.status == (416 if status == 206 else 200)


def test_if_range_with_a_date_within_which_there_may_be_two_versions(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("0123456789")
    os.utime(tmp_path / "file", (2**33, 2**33))  # shown as now
    now = ask(tmp_path, "/file").headers["last-modified"]
    assert ask(tmp_path, "/file", "Range: bytes=0-1", f"If-Range: {now}").status == 200


def test_several_ranges(root: Path) -> None:
    got = ask(root, "/both.js", "Range: bytes=5-9, 100-199 ,-3,0-0")
    assert got.status == 206
    size = len(SCRIPT)
    wanted = [(5, 10), (100, 200), (size - 3, size), (0, 1)]
    kind = ask(root, "/both.js").headers["content-type"]
    assert parts_of(got) == [
        (kind, f"bytes {start}-{stop - 1}/{size}", SCRIPT[start:stop]) for start, stop in wanted
    ]
    assert got.headers["content-length"] == str(len(got.body))
    assert "content-range" not in got.headers
    assert got.etag == etag(root, "/both.js")
    again = ask(root, "/both.js", "Range: bytes=5-9,100-199,-3,0-0")
    assert again.headers["content-type"] == got.headers["content-type"]
    other = ask(root, "/both.js", "Range: bytes=5-9,100-199,-3,0-1")
    assert other.headers["content-type"] != got.headers["content-type"]


def test_several_ranges_are_few_and_small(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(3 << 20))
    half = 1 << 19
    fits = f"Range: bytes=0-{half - 1},{half}-{2 * half - 1}"
    assert len(parts_of(ask(tmp_path, "/file", fits))) == 2
    assert ask(tmp_path, "/file", f"{fits},{2 * half}-{2 * half}").status == 200
    sixteen = ",".join(f"{i * 10}-{i * 10 + 1}" for i in range(16))
    assert len(parts_of(ask(tmp_path, "/file", f"Range: bytes={sixteen}"))) == 16
