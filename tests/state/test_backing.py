from __future__ import annotations

import contextlib
import os
import random
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trickles_web.state import backing as module
from trickles_web.state.backing import MOST_LENT, Backing, Disk, DiskError

LIMIT = 40
"""Bytes in memory; less than tests append."""

pieces = st.binary(max_size=60) | st.text("\r\nab", max_size=60).map(str.encode)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), pieces),
        st.tuples(st.just("append"), pieces),
        st.tuples(st.just("cut_front"), st.integers(0, 30)),
        st.tuples(st.just("cut_back"), st.integers(0, 200)),
        st.tuples(st.just("close"), st.none()),
    ),
    max_size=12,
)
sought = st.sampled_from([b"\n", b"\r\n", b"\r\n\r\n", b"aa", b"aba", b"never"])
offsets = st.integers(0, 250)


@given(steps, st.lists(st.tuples(sought, offsets, offsets), max_size=6), st.integers(1, 20))
def test_like_a_bytearray(
    taken: list[tuple[str, bytes | int | None]],
    looked_for: list[tuple[bytes, int, int]],
    block: int,
) -> None:
    disk = Disk(1 << 20)
    with pytest.MonkeyPatch.context() as patch, contextlib.closing(Backing(disk, LIMIT)) as backing:
        patch.setattr(module, "BLOCK_BYTES", block)
        model = bytearray()
        for step, argument in taken:
            if isinstance(argument, bytes):
                backing.append(argument)
                model += argument
            elif step == "cut_front" and argument is not None:
                backing.cut_front(argument)
                del model[:argument]
            elif step == "cut_back" and argument is not None:
                backing.cut_back(argument)
                del model[argument:]
            else:
                backing.close()
                model.clear()
            check(backing, model, looked_for, disk)
    assert disk.used == backing.disk_bytes == backing.memory_bytes == len(backing) == 0


def check(
    backing: Backing, model: bytearray, looked_for: list[tuple[bytes, int, int]], disk: Disk
) -> None:
    assert len(backing) == len(model)
    assert backing[:] == model
    assert disk.used == backing.disk_bytes
    if backing.disk_bytes:
        assert backing.memory_bytes == 0
        assert backing.disk_bytes >= len(model)
    else:
        assert backing.memory_bytes == len(model) <= LIMIT
    for what, start, stop in looked_for:
        assert backing.find(what) == model.find(what)
        assert backing.find(what, start) == model.find(what, start)
        assert backing.find(what, start, stop) == model.find(what, start, stop)
        assert backing.count(what, start) == model.count(what, start)
        assert backing.startswith(what) == model.startswith(what)
        assert backing.startswith(bytes(model[:start])) is True
        assert backing[start:stop] == model[start:stop]
        assert backing[-start:] == model[-start:]
        blocks = list(backing.blocks(start, stop))
        assert b"".join(blocks) == model[start:stop]
        assert all(0 < len(block) <= module.BLOCK_BYTES for block in blocks)


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(1000, str(tmp_path))


def test_all_backings_share_one_bound(disk: Disk) -> None:
    first, second = Backing(disk, LIMIT), Backing(disk, LIMIT)
    with contextlib.closing(first), contextlib.closing(second):
        first.append(bytes(600))
        second.append(bytes(LIMIT))
        assert disk.used == 600
        with pytest.raises(DiskError, match="more than 1000 bytes"):
            second.append(bytes(401))
        assert (len(second), second.disk_bytes, disk.used) == (LIMIT, LIMIT, 600 + LIMIT)
        second.append(bytes(360))
        assert disk.used == 1000
        with pytest.raises(DiskError, match="more than 1000 bytes"):
            first.append(b"x")
        # What is cut in front keeps its place, what is cut behind does not.
        second.cut_front(100)
        assert (len(second), disk.used) == (300, 1000)
        second.cut_back(250)
        assert (len(second), disk.used) == (250, 950)
        first.append(bytes(50))
        first.close()
        assert disk.used == 350
        first.append(b"as good as new")
        assert first[:] == b"as good as new"


def test_all_backings_share_so_many_files(tmp_path: Path) -> None:
    """A thousand uploads of over 1 MiB that never end took every descriptor of the process."""
    disk = Disk(10_000, str(tmp_path), most_files=2)
    first, second, third = Backing(disk, LIMIT), Backing(disk, LIMIT), Backing(disk, LIMIT)
    with contextlib.closing(first), contextlib.closing(second), contextlib.closing(third):
        first.append(bytes(100))
        second.append(bytes(100))
        third.append(bytes(LIMIT))
        with pytest.raises(DiskError, match="more than 2 requests"):
            third.append(b"x")
        assert (len(third), disk.used) == (LIMIT, 200)
        moved = first.moved()
        with contextlib.closing(moved), pytest.raises(DiskError, match="more than 2 requests"):
            first.append(bytes(100))
        third.append(b"x")
        assert third[:] == bytes(LIMIT) + b"x"
        assert disk.files == 2
    assert disk.files == 0


def test_memory_is_lent_while_there_is_some(tmp_path: Path) -> None:
    disk = Disk(1000, str(tmp_path), memory_bytes=100)
    first, second = Backing(disk, LIMIT), Backing(disk, LIMIT)
    with contextlib.closing(first), contextlib.closing(second):
        first.append(bytes(LIMIT))
        assert disk.lent == 0
        first.append(bytes(60))
        second.append(bytes(LIMIT + 41))
        assert (disk.used, disk.lent) == (LIMIT + 41, 60)
        taken = first.moved()
        with contextlib.closing(taken):
            taken.append(bytes(30))
            assert (len(first), disk.used, disk.lent) == (0, LIMIT + 41, 90)
            taken.append(bytes(11))
            assert (disk.used, disk.lent) == (2 * LIMIT + 142, 0)
            first.append(bytes(LIMIT + 100))
            assert (disk.used, disk.lent) == (2 * LIMIT + 142, 100)
        first.close()
        assert (disk.used, disk.lent) == (LIMIT + 41, 0)


def test_memory_is_not_lent_for_very_long_bodies(tmp_path: Path) -> None:
    disk = Disk(1 << 30, str(tmp_path), memory_bytes=1 << 30)
    with contextlib.closing(Backing(disk, LIMIT)) as backing:
        backing.append(bytes(LIMIT + MOST_LENT))
        assert (disk.used, disk.lent) == (0, MOST_LENT)
        backing.append(b"x")
        assert (disk.used, disk.lent) == (LIMIT + MOST_LENT + 1, 0)


def test_the_file_has_no_name_and_is_given_back(disk: Disk) -> None:
    before = os.listdir("/proc/self/fd")
    backing = Backing(disk, LIMIT)
    content = random.Random(1).randbytes(900)
    backing.append(memoryview(content))
    assert len(os.listdir("/proc/self/fd")) == len(before) + 1
    assert disk.directory is not None and os.listdir(disk.directory) == []
    assert backing[:] == content
    backing.close()
    backing.close()
    assert len(os.listdir("/proc/self/fd")) == len(before)


@contextlib.contextmanager
def files_end_at(size: int) -> Iterator[None]:
    """Further bytes are refused with EFBIG, as they are with ENOSPC on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("room", [0, 30, 60])
def test_a_full_disk_changes_nothing(disk: Disk, room: int) -> None:
    content = random.Random(2).randbytes(100)
    before = os.listdir("/proc/self/fd")
    with contextlib.closing(Backing(disk, LIMIT)) as backing:
        backing.append(content[:LIMIT])
        with files_end_at(room), pytest.raises(DiskError, match="File too large"):
            backing.append(content[LIMIT:])
        assert backing[:] == content[:LIMIT]
        assert disk.used == backing.disk_bytes
        backing.append(content[LIMIT:])
        assert backing[:] == content
        with files_end_at(110), pytest.raises(DiskError, match="File too large"):
            backing.append(bytes(100))
        assert backing[:] == content
        assert disk.used == 100
        backing.append(b"more")
        assert backing[:] == content + b"more"
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_no_directory_is_a_typed_error() -> None:
    disk = Disk(1000, "/no/such/directory")
    backing = Backing(disk, LIMIT)
    with pytest.raises(DiskError, match="No such file or directory"):
        backing.append(bytes(100))
    assert (len(backing), disk.used) == (0, 0)
