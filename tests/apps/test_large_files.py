"""Large files: the same bytes everywhere, made once, whoever asks, and whatever died before."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from apps import large_files
from apps.large_files import MEGABYTE, CacheFull, checksum_file, large_file, megabyte


def test_bytes_are_fixed_for_good() -> None:
    """Machines and releases must agree: a change here breaks downloads that are under way."""
    digest = hashlib.sha256(megabyte(0)).hexdigest()
    assert digest == "0b42f25cdd7a51fee0b466cf7498fd9a621d8e60e76de0f0bb5f384c31a9865b"
    assert megabyte(0) != megabyte(1)


def test_file_and_checksum(tmp_path: Path) -> None:
    path = large_file(tmp_path, 2)
    assert path.read_bytes() == megabyte(0) + megabyte(1)
    assert path.stat().st_blocks * 512 >= 2 * MEGABYTE, "sparse: the disk would not be read"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert checksum_file(tmp_path, 2).read_text() == f"{digest}  2.bin\n"


def test_two_copies_count_as_one_version(tmp_path: Path) -> None:
    first, second = (large_file(tmp_path / name, 1).stat() for name in ("here", "there"))
    assert (first.st_size, first.st_mtime_ns) == (second.st_size, second.st_mtime_ns)


def test_a_file_is_made_once(tmp_path: Path) -> None:
    before = large_file(tmp_path, 1).stat()
    after = large_file(tmp_path, 1).stat()
    assert (before.st_ino, before.st_ctime_ns) == (after.st_ino, after.st_ctime_ns)


def test_threads_racing_for_one_file(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: large_file(tmp_path, 1), range(8)))
    assert set(paths) == {tmp_path / "1.bin"}
    assert paths[0].read_bytes() == megabyte(0)


def make_and_identify(directory: Path) -> tuple[int, int]:
    found = large_file(directory, 3).stat()
    return found.st_ino, found.st_ctime_ns


def test_processes_racing_for_one_file(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        assert len(set(pool.map(make_and_identify, [tmp_path] * 6, chunksize=1))) == 1


@pytest.mark.parametrize("left", ["unfinished", "1.bin"])
def test_what_a_killed_process_left_is_replaced(tmp_path: Path, left: str) -> None:
    (tmp_path / left).write_bytes(b"half")
    assert large_file(tmp_path, 1).read_bytes() == megabyte(0)
    assert not (tmp_path / "unfinished").exists()


def test_a_lost_checksum_is_made_again(tmp_path: Path) -> None:
    wanted = checksum_file(tmp_path, 1).read_text()
    checksum_file(tmp_path, 1).unlink()
    assert checksum_file(tmp_path, 1).read_text() == wanted


@pytest.mark.parametrize("megabytes", [0, -1, large_files.LARGEST_MEGABYTES + 1])
def test_sizes_out_of_range(tmp_path: Path, megabytes: int) -> None:
    with pytest.raises(ValueError, match="megabytes"):
        large_file(tmp_path, megabytes)
    assert list(tmp_path.iterdir()) == []


def test_the_cache_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_files, "CACHE_BYTES", 3 * MEGABYTE)
    large_file(tmp_path, 2)
    large_file(tmp_path, 1)
    with pytest.raises(CacheFull):
        large_file(tmp_path, 3)
    assert large_file(tmp_path, 2).exists(), "what is there is still served"


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "utime", no_space)
    with pytest.raises(OSError, match="space"):
        large_file(tmp_path, 1)
    assert [file.name for file in tmp_path.iterdir()] == ["lock"]


def test_the_directory_can_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SITE_CACHE_DIR", str(tmp_path))
    assert large_files.cache_directory() == tmp_path
    monkeypatch.delenv("SITE_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert large_files.cache_directory() == tmp_path / "xdg" / "trickles-web-site"
