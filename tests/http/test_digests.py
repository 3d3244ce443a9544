"""Digests of files: remembered by version, made once at a time, and given up with their loop."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
import time
from pathlib import Path

import pytest

from trickles_web.http import digests
from trickles_web.http.digests import MOST_AT_ONCE, Digests, content_digest, open_regular

OLD = 1_500_000_000


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"abc" * MOST_AT_ONCE)
    os.utime(path, (OLD, OLD))
    return path


def hashed(path: Path) -> bytes:
    fd = open_regular(os.fsencode(path))
    try:
        return content_digest(fd)
    finally:
        os.close(fd)


def test_a_digest_is_of_the_content_and_remembered(file: Path) -> None:
    wanted = hashlib.blake2b(file.read_bytes(), digest_size=16).digest()
    assert Digests.known(file.stat()) is None
    assert hashed(file) == wanted
    assert Digests.known(file.stat()) == wanted
    os.utime(file, (OLD, OLD + 1))
    assert Digests.known(file.stat()) is None


def test_the_memory_is_bounded(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "_digests", {})
    monkeypatch.setattr(digests, "MOST_REMEMBERED", 3)
    for later in range(10):
        os.utime(file, (OLD, OLD + later))
        hashed(file)
    assert [version[3] for version in digests._digests] == [(OLD + i) * 10**9 for i in (7, 8, 9)]


def test_a_young_file_is_not_remembered(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It can change again and show the same time."""
    monkeypatch.setattr(time, "time_ns", lambda: OLD * 10**9 + 5_000_000)
    before = hashed(file)
    file.write_bytes(b"abd" * MOST_AT_ONCE)
    os.utime(file, (OLD, OLD))
    assert hashed(file) != before
    assert Digests.known(file.stat()) is None


def test_large_ones_are_made_in_threads_each_once(file: Path) -> None:
    async def main() -> None:
        asked = Digests()
        fd = open_regular(os.fsencode(file))
        assert asked.at_once(fd, os.fstat(fd)) is None
        task = asked.begin(os.fsencode(file))
        assert asked.begin(os.fsencode(file)) is task
        await asked.make(os.fsencode(file))
        assert asked.at_once(fd, os.fstat(fd)) == content_digest(fd)
        assert asked.begin(os.fsencode(file)) is not task
        os.close(fd)

    asyncio.run(main())


def test_what_cannot_be_hashed_is_no_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    async def main() -> None:
        asked = Digests()
        for name in ("nothing", "pipe", "."):
            await asked.make(os.fsencode(tmp_path / name))

    asyncio.run(main())


def test_a_file_that_grows_while_it_is_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = os.pread

    def and_append(fd: int, length: int, at: int) -> bytes:
        with file.open("ab") as writer:
            writer.write(bytes(length))
        return read(fd, length, at)

    monkeypatch.setattr(os, "pread", and_append)
    with pytest.raises(BlockingIOError):
        hashed(file)


def test_the_end_of_the_loop_does_not_wait_for_a_huge_file(tmp_path: Path) -> None:
    (tmp_path / "huge").touch()
    os.truncate(tmp_path / "huge", 1 << 40)

    async def main() -> None:
        asked = Digests()
        waiting = asyncio.create_task(asked.make(os.fsencode(tmp_path / "huge")))
        for _ in range(1000):  # until the thread is at it
            await asyncio.sleep(0)
        assert threading.active_count() > threads
        assert not waiting.done()

    threads = threading.active_count()
    asyncio.run(main())
    assert Digests.known((tmp_path / "huge").stat()) is None
