"""Request bytes that spill to disk, and disks that do not take them."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trickles_web.client.spill import SpillingBytes
from trickles_web.errors import FlowError

LIMIT = 100
WHOLE = os.urandom(8192)

steps = st.lists(
    st.tuples(
        st.sampled_from(["append", "append", "read", "forget"]),
        st.integers(0, 150),
        st.integers(0, 150),
    ),
    max_size=30,
)


@given(steps)
@settings(deadline=None, derandomize=True, database=None)
def test_like_a_plain_byte_string(taken: list[tuple[str, int, int]]) -> None:
    kept = SpillingBytes(LIMIT)
    with contextlib.closing(kept):
        start = end = 0
        for step, a, b in taken:
            if step == "append":
                kept.append(WHOLE[end : end + a])
                end += a
            elif step == "read":
                low = min(start + a, end)
                high = min(low + b, end)
                assert kept.read(low, high) == WHOLE[low:high]
            else:
                start = min(start + a, end)
                kept.forget(start)
            assert kept.on_disk or end - start <= LIMIT
        assert kept.read(start, end) == WHOLE[start:end]


def test_the_file_has_no_name_and_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = os.listdir("/proc/self/fd")
    kept = SpillingBytes(LIMIT)
    kept.append(WHOLE[:LIMIT])
    assert not kept.on_disk
    kept.append(WHOLE[LIMIT:])
    assert kept.on_disk
    assert len(os.listdir("/proc/self/fd")) == len(before) + 1
    assert list(tmp_path.iterdir()) == []
    assert kept.read(0, len(WHOLE)) == WHOLE
    kept.forget(len(WHOLE) - LIMIT)
    assert not kept.on_disk
    assert kept.read(len(WHOLE) - LIMIT, len(WHOLE)) == WHOLE[-LIMIT:]
    kept.append(WHOLE)
    assert kept.on_disk
    kept.close()
    kept.close()
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


@pytest.mark.parametrize("room", [0, LIMIT - 10, LIMIT + 10])
def test_a_full_disk_is_a_flow_error(room: int) -> None:
    kept = SpillingBytes(LIMIT)
    with contextlib.closing(kept), files_end_at(room):
        kept.append(WHOLE[:LIMIT])
        with pytest.raises(FlowError, match=r"File too large.*TMPDIR") as caught:
            kept.append(WHOLE[LIMIT : LIMIT + 100])
        assert caught.value.errno == errno.EFBIG
        assert isinstance(caught.value.__cause__, OSError)
        assert kept.read(0, LIMIT) == WHOLE[:LIMIT]


def test_no_directory_is_a_flow_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/no/such/directory")
    kept = SpillingBytes(LIMIT)
    with pytest.raises(FlowError, match="No such file or directory"):
        kept.append(WHOLE)
