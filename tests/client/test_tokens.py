"""Address tokens: kept, shared, bounded, and never a reason to fail."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from trickles_web.client.tokens import (
    MAX_SERVERS,
    MAX_TOKEN_BYTES,
    TOKEN_LIFETIME_S,
    WRITE_INTERVAL_S,
    TokenStore,
    default_directory,
)


class Clock:
    """Unix seconds, moved by hand."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def only_file(directory: Path) -> Path:
    [file] = directory.iterdir()
    return file


def test_a_later_process_finds_the_token(tmp_path: Path, clock: Clock) -> None:
    directory = tmp_path / "cache" / "tokens"
    TokenStore(directory, clock=clock).save("Example.org", 8000, b"\x00token\xff")
    later = TokenStore(directory, clock=clock)
    assert later.get("example.org", 8000) == b"\x00token\xff"
    assert later.get("example.org", 8001) == b""
    assert later.get("example.net", 8000) == b""


def test_files_are_for_the_owner_only(tmp_path: Path, clock: Clock) -> None:
    directory = tmp_path / "tokens"
    TokenStore(directory, clock=clock).save("h", 1, b"token")
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(only_file(directory).stat().st_mode) == 0o600


def test_the_newest_wins_in_memory_at_once_and_on_disk_once_a_minute(
    tmp_path: Path, clock: Clock
) -> None:
    store = TokenStore(tmp_path, clock=clock)
    store.save("h", 1, b"first")
    clock.now += WRITE_INTERVAL_S - 1
    store.save("h", 1, b"second")
    assert store.get("h", 1) == b"second"
    assert TokenStore(tmp_path, clock=clock).get("h", 1) == b"first"
    clock.now += 1
    store.save("h", 1, b"third")
    assert TokenStore(tmp_path, clock=clock).get("h", 1) == b"third"


def test_remembering_leaves_the_disk_alone(tmp_path: Path, clock: Clock) -> None:
    store = TokenStore(tmp_path, clock=clock)
    store.remember("h", 1, b"token")
    assert store.get("h", 1) == b"token"
    assert list(tmp_path.iterdir()) == []


def test_no_token_changes_nothing(tmp_path: Path, clock: Clock) -> None:
    store = TokenStore(tmp_path, clock=clock)
    store.save("h", 1, b"token")
    clock.now += WRITE_INTERVAL_S
    store.save("h", 1, b"")
    store.save("h", 1, b"x" * (MAX_TOKEN_BYTES + 1))
    assert store.get("h", 1) == b"token"
    assert TokenStore(tmp_path, clock=clock).get("h", 1) == b"token"


@pytest.mark.parametrize("age", [TOKEN_LIFETIME_S, -1.0])
def test_old_tokens_and_those_of_the_future_do_not_count(
    tmp_path: Path, clock: Clock, age: float
) -> None:
    store = TokenStore(tmp_path, clock=clock)
    store.save("h", 1, b"token")
    clock.now += age
    assert store.get("h", 1) == b""
    assert TokenStore(tmp_path, clock=clock).get("h", 1) == b""


GOOD = {"host": "h", "port": 1, "saved": 1_700_000_000.0, "token": "dG9rZW4="}


def test_the_file_that_the_corrupt_ones_differ_from_is_good(tmp_path: Path, clock: Clock) -> None:
    TokenStore(tmp_path, clock=clock).save("h", 1, b"token")
    assert json.loads(only_file(tmp_path).read_text()) == GOOD


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"{",
        b"[]",
        b"null",
        b"[" * 100_000,
        b'{"token": 1}',
        json.dumps(GOOD).encode()[:-1],
        json.dumps({**GOOD, "host": "other"}).encode(),
        json.dumps({**GOOD, "token": "@"}).encode(),
        json.dumps({**GOOD, "token": ""}).encode(),
        json.dumps({**GOOD, "token": 7}).encode(),
        json.dumps({**GOOD, "token": "A" * 6000}).encode(),
        json.dumps({**GOOD, "saved": "yesterday"}).encode(),
        json.dumps({**GOOD, "saved": float("nan")}).encode(),
        json.dumps({**GOOD, "padding": "x" * 10_000}).encode(),
    ],
)
def test_corrupt_files_are_no_files(tmp_path: Path, clock: Clock, content: bytes) -> None:
    TokenStore(tmp_path, clock=clock).save("h", 1, b"token")
    only_file(tmp_path).write_bytes(content)
    store = TokenStore(tmp_path, clock=clock)
    assert store.get("h", 1) == b""
    store.save("h", 1, b"fresh")
    assert TokenStore(tmp_path, clock=clock).get("h", 1) == b"fresh"


def test_a_directory_that_cannot_be_is_no_failure(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "file").write_text("in the way")
    store = TokenStore(tmp_path / "file" / "tokens", clock=clock)
    store.save("h", 1, b"token")
    assert store.get("h", 1) == b"token"


def test_a_directory_where_the_file_should_be_is_no_failure(tmp_path: Path, clock: Clock) -> None:
    TokenStore(tmp_path, clock=clock).save("h", 1, b"token")
    name = only_file(tmp_path)
    name.unlink()
    name.mkdir()
    store = TokenStore(tmp_path, clock=clock)
    assert store.get("h", 1) == b""
    store.save("h", 1, b"token")
    assert [entry.name for entry in tmp_path.iterdir()] == [name.name], "nothing left behind"


def test_the_number_of_servers_is_bounded(tmp_path: Path, clock: Clock) -> None:
    store = TokenStore(tmp_path, clock=clock)
    for port in range(1, MAX_SERVERS + 20):
        store.save("h", port, b"token")
    assert len(list(tmp_path.iterdir())) == MAX_SERVERS
    assert store.get("h", MAX_SERVERS + 19) == b"token"


def test_where_the_files_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRICKLES_TOKENS", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert default_directory() == tmp_path / "cache" / "trickles-web" / "tokens"
    for unset in ("", "relative/path"):
        monkeypatch.setenv("XDG_CACHE_HOME", unset)
        assert default_directory() == tmp_path / ".cache" / "trickles-web" / "tokens"
    monkeypatch.setenv("TRICKLES_TOKENS", "off")
    assert default_directory() is None
