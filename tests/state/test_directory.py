"""The run directory: what its processes learn of each other, and what happens when it is lost."""

from __future__ import annotations

import fcntl
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from trickles_web.errors import UsageError
from trickles_web.state import EMPTY, Claim, DirectoryStore, Limits, Part, Published, rundir
from trickles_web.state.ledger import LIFE_MS
from trickles_web.state.spares import MOST, SHARE
from trickles_web.state.store import MOST_APPENDED, Key

NOW = 1_700_000_000_000
KEY = (0x1234_5678_9ABC, 3)
DIGEST = b"12345678"


class Small:
    """As a kept response."""

    size = 10
    running = False


def member(directory: Path, owner: int, most_bytes: int = 1 << 20) -> DirectoryStore[Small]:
    random = b"\0\0\0\7" + owner.to_bytes(4, "big")
    return DirectoryStore(directory, random, Limits(most_bytes=most_bytes))


def die(store: DirectoryStore[Small]) -> None:
    """As SIGKILL: the kernel closes the descriptors."""
    store._life.forget()


def response(data: bytes = b"HTTP/1.1 200 OK\r\n\r\n") -> Published:
    return Published(b"progress", (data,), b"12345678", False, 17)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "run"


def test_all_processes_know_the_store_by_one_id(directory: Path) -> None:
    first, second = member(directory, 1), DirectoryStore[Small](directory, b"\0\0\0\x99\0\0\0\2")
    assert first.id == second.id == 7
    first.wipe(bytes(4))
    assert first.id == 7


def test_the_id_outlives_the_processes(directory: Path) -> None:
    die(member(directory, 1))
    assert DirectoryStore[Small](directory, b"\0\0\0\x99\0\0\0\2").id == 7


def test_one_claim_is_granted_among_all(directory: Path) -> None:
    a, b, c = (member(directory, n) for n in (1, 2, 3))
    assert a.claim(KEY, DIGEST, NOW) is Claim.GRANTED
    assert b.claim(KEY, DIGEST, NOW) is Claim.KNOWN
    assert c.claim(KEY, b"87654321", NOW) is Claim.CONFLICT
    entry = b.claimed(KEY)
    assert entry is not None
    assert (entry.digest, entry.claimed) == (DIGEST, NOW)
    assert len(b.ledger) == len(c.ledger) == 0


def test_the_claimant_is_the_owner_while_it_lives(directory: Path) -> None:
    a, b = member(directory, 1), member(directory, 2)
    a.claim(KEY, DIGEST, NOW)
    assert (a.elsewhere(KEY), b.elsewhere(KEY)) == (0, 1)
    die(a)
    assert b.elsewhere(KEY) == 0
    assert not b.alive(1)
    assert b.claim(KEY, DIGEST, NOW) is Claim.KNOWN, "dead, but perhaps executed"


def test_who_announces_is_the_owner_until_somebody_else_does(directory: Path) -> None:
    a, b, c = (member(directory, n) for n in (1, 2, 3))
    a.announce(KEY, NOW)
    assert c.elsewhere(KEY) == 1
    assert [c.alive(n) for n in (0, 1, 2, 3, 4)] == [False, True, True, False, False]
    die(a)
    b.announce(KEY, NOW)
    assert c.elsewhere(KEY) == 2
    b.drop(KEY)
    assert c.elsewhere(KEY) == 0


def test_a_published_response_outlives_its_producer(directory: Path) -> None:
    a, b = member(directory, 1), member(directory, 2)
    assert b.published(KEY, NOW) is None
    a.publish(KEY, response(), NOW)
    die(a)
    assert b.published(KEY, NOW) == response()
    large = response(os.urandom(900_000))
    b.publish(KEY, large, NOW)
    assert b.published(KEY, NOW) == large
    b.drop(KEY)
    assert b.published(KEY, NOW) is None


PIECES = [os.urandom(size) for size in (70_000, 1, 300_000)]


def append(store: DirectoryStore[Small], pieces: list[bytes], key: Key = KEY) -> Part:
    """The part that these pieces make."""
    part = EMPTY
    for piece in pieces:
        longer = store.append(key, part, piece, NOW)
        assert longer is not None
        part = longer
    return part


def appended(part: Part) -> Published:
    return response(b"")._replace(part=part)


def test_an_appended_response_outlives_its_producer(directory: Path) -> None:
    a, b = member(directory, 1), member(directory, 2)
    part = append(a, PIECES)
    assert b.published(KEY, NOW) is None, "not whole yet"
    a.publish(KEY, appended(part), NOW)
    die(a)
    whole = b"".join(PIECES)
    assert b.published(KEY, NOW) == response(whole)
    assert b.published(KEY, NOW) == response(whole)


@pytest.mark.parametrize("change", ["shorter", "longer", "gone"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_torn_part_is_no_response(directory: Path, change: str, when: str) -> None:
    a, b = member(directory, 1), member(directory, 2)
    part = append(a, PIECES)
    if when == "after":
        a.publish(KEY, appended(part), NOW)
    (path,) = directory.glob("*.b-*")
    if change == "gone":
        path.unlink()
    else:
        os.truncate(path, part.length + (1 if change == "longer" else -1))
    if when == "before":
        a.publish(KEY, appended(part), NOW)
    assert b.published(KEY, NOW) is None


def test_two_productions_never_mix(directory: Path) -> None:
    """The second one takes place in another process, or in the same, of bytes as long."""
    a, b = member(directory, 1), member(directory, 2)
    first = append(a, [b"a" * 1000])
    other = append(b, [b"b" * 1000])
    assert a.append(KEY, other, b"x", NOW) is None
    again = append(a, [b"c" * 1000])
    assert len({first, other, again}) == 3
    assert a.append(KEY, first, b"x", NOW) is None, "there is another one"
    b.publish(KEY, appended(other), NOW)
    assert a.published(KEY, NOW) == response(b"b" * 1000)
    a.publish(KEY, appended(append(a, [b"d" * 1000])), NOW)
    assert b.published(KEY, NOW) == response(b"d" * 1000)


def test_what_cannot_be_appended_leaves_nothing(directory: Path) -> None:
    a = member(directory, 1)
    part = append(a, [bytes(300_000)])
    assert a.append(KEY, part, bytes(300_000), NOW) is None, "half of the room"
    assert list(directory.glob("*.b-*")) == []
    assert a.append(KEY, part, b"x", NOW) is None
    large = member(directory, 2, most_bytes=1 << 30)
    part = append(large, [bytes(MOST_APPENDED)])
    assert large.append(KEY, part, b"x", NOW) is None
    assert list(directory.glob("*.b-*")) == []
    part = append(a, [b"x"])
    next(directory.glob("*.b-*")).unlink()
    assert a.append(KEY, part, b"y", NOW) is None, "swept"
    part = append(a, [b"x"])
    a.wipe(bytes(4))
    assert a.append(KEY, part, b"y", NOW) is None


def test_room_is_free_again_before_the_sweep(directory: Path) -> None:
    a = member(directory, 1)
    for n in range(20):
        part = append(a, [bytes(250_000), bytes(250_000)], (n, 1))
        if n % 2:
            a.publish((n, 1), appended(part), NOW)
        else:
            a.publish((n, 1), response(bytes(250_000)), NOW)
        a.drop((n, 1))
    names = sorted(path.name for path in directory.iterdir() if path.name[:2] != "s-")
    assert names == ["id", "w-00000001"]
    spare = sum(path.stat().st_size for path in directory.glob("s-*"))
    assert spare <= a.most_bytes // SHARE
    a.close()
    assert [path.name for path in directory.iterdir()] == ["id"]


def test_a_file_is_written_over_by_what_is_about_as_long(directory: Path) -> None:
    a, b = member(directory, 1), member(directory, 2)
    a.publish((1, 1), response(b"a" * 20_000), NOW)
    (path,) = directory.glob("*.r")
    file = path.stat().st_ino
    a.drop((1, 1))
    assert b.published((1, 1), NOW) is None
    a.publish((2, 1), response(b"b" * 500), NOW)
    a.publish((3, 1), response(b"c" * 18_000), NOW)
    assert (directory / "3-1.r").stat().st_ino == file
    assert (directory / "2-1.r").stat().st_ino != file
    assert b.published((2, 1), NOW) == response(b"b" * 500)
    assert b.published((3, 1), NOW) == response(b"c" * 18_000)
    a.drop((3, 1))
    a.publish((4, 1), response(b"d" * 30_000), NOW)
    assert b.published((4, 1), NOW) == response(b"d" * 30_000)
    assert list(directory.glob("s-*")) == []


@pytest.mark.parametrize("when", ["found", "locked"])
def test_nobody_reads_what_is_written_over(
    directory: Path, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process has opened a response at the moment in which the other one reuses its file."""
    a, b = member(directory, 1), member(directory, 2)
    a.publish((1, 1), response(b"a" * 20_000), NOW)
    flock = fcntl.flock

    def meanwhile(fd: int, how: int) -> None:
        monkeypatch.undo()
        if when == "locked":
            flock(fd, how)
        a.drop((1, 1))
        a.publish((2, 1), response(b"b" * 20_000), NOW)
        if when == "found":
            flock(fd, how)

    monkeypatch.setattr(fcntl, "flock", meanwhile)
    assert b.published((1, 1), NOW) is None
    assert b.published((2, 1), NOW) == response(b"b" * 20_000)


def test_spares_are_few_and_go_with_time(directory: Path) -> None:
    a = member(directory, 1, most_bytes=1 << 30)
    for n in range(2 * MOST):
        a.publish((n, 1), response(), NOW)
    for n in range(2 * MOST):
        a.drop((n, 1))
    assert len(list(directory.glob("s-*"))) == MOST
    a.sweep(NOW + a.ttl_ms + 1)
    assert list(directory.glob("s-*")) == []
    a.publish(KEY, response(), NOW)
    assert a.published(KEY, NOW) == response()


def test_what_is_known_of_the_own_files_is_bounded(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trickles_web.state.directory.MOST_KEYS", 10)
    a = member(directory, 1)
    for n in range(30):
        a.announce((n, 1), NOW)
        a.publish((n, 1), response(), NOW)
        append(a, [b"x"], (n, 1))
    assert len(a._mine) == len(a._parts) == 10
    for n in range(30):
        a.drop((n, 1))
    assert not a._mine
    assert {path.name.partition(".")[0] for path in directory.glob("*.o")} == {
        f"{n:x}-1" for n in range(20)
    }
    a.sweep(NOW + a.ttl_ms + 1)
    assert list(directory.glob("*-1.*")) == []


def test_the_sweep_takes_a_response_with_its_part(directory: Path) -> None:
    a, b = member(directory, 1), member(directory, 2, most_bytes=150_000)
    a.claim((1, 1), DIGEST, NOW)
    for n in (1, 2, 3):
        a.publish((n, 1), appended(append(a, [bytes(60_000)], (n, 1))), NOW + n)
    b.sweep(NOW + 4)
    assert [a.published((n, 1), NOW) is not None for n in (1, 2, 3)] == [True, False, True]
    assert sorted(path.name.partition(".")[0] for path in directory.glob("*.b-*")) == ["1-1", "3-1"]
    assert a.published((3, 1), NOW + a.ttl_ms) is not None
    b.sweep(NOW + a.ttl_ms + 1)
    assert a.published((3, 1), NOW) is not None, "it was read"
    die(a)
    later = NOW + a.ttl_ms + LIFE_MS
    b.sweep(later)
    b.sweep(later)
    assert list(directory.glob("*.[br]*")) == []


def test_there_is_no_room_for_more_than_the_bound(directory: Path) -> None:
    a = member(directory, 1, most_bytes=100_000)
    a.publish((1, 1), response(bytes(60_000)), NOW)
    a.publish((2, 1), response(bytes(60_000)), NOW)
    assert a.published((1, 1), NOW) is not None
    assert a.published((2, 1), NOW) is None
    a.drop((1, 1))
    a.sweep(NOW)
    a.publish((2, 1), response(bytes(60_000)), NOW)
    assert a.published((2, 1), NOW) is not None


def test_the_sweep_takes_the_oldest_but_never_those_of_live_claims(directory: Path) -> None:
    a, b = member(directory, 1), member(directory, 2, most_bytes=100_000)
    a.claim((1, 1), DIGEST, NOW)
    for n in (1, 2, 3):
        a.publish((n, 1), response(bytes(60_000)), NOW + n)
    b.sweep(NOW + 4)
    assert [a.published((n, 1), NOW) is not None for n in (1, 2, 3)] == [True, False, False]


def test_the_sweep_removes_what_has_had_its_time(directory: Path) -> None:
    a, b = member(directory, 1), member(directory, 2)
    a.claim((1, 1), DIGEST, NOW)
    a.publish((1, 1), response(), NOW)
    a.publish((2, 1), response(), NOW)
    a.announce((3, 1), NOW)
    (directory / "2-1.r.77").write_bytes(b"a draft of a process that died")
    os.utime(directory / "2-1.r.77", ns=(NOW * 1_000_000, NOW * 1_000_000))
    b.sweep(NOW + b.ttl_ms)
    assert b.published((2, 1), NOW) is not None
    b.sweep(NOW + b.ttl_ms + 1)
    names = sorted(path.name for path in directory.iterdir())
    assert names == ["1-1.c", "1-1.r", "id", "w-00000001", "w-00000002"]
    b.sweep(NOW + LIFE_MS + 1)
    assert (directory / "1-1.c").exists(), "its process lives, and its ledger decides"
    die(a)
    b.sweep(NOW + LIFE_MS + 1)
    names = sorted(path.name for path in directory.iterdir())
    assert names in (["id", "w-00000002"], ["1-1.r", "id", "w-00000002"])
    b.sweep(NOW + LIFE_MS + 1)
    assert sorted(path.name for path in directory.iterdir()) == ["id", "w-00000002"]


def test_reading_keeps_a_response(directory: Path) -> None:
    a = member(directory, 1)
    a.publish(KEY, response(), NOW)
    assert a.published(KEY, NOW + a.ttl_ms) is not None
    a.sweep(NOW + a.ttl_ms + 1)
    assert a.published(KEY, NOW) is not None


def test_the_ledger_removes_its_own_claims(directory: Path) -> None:
    a = member(directory, 1)
    a.ledger.capacity = 1
    a.claim((1, 1), DIGEST, NOW)
    a.ended((1, 1), NOW)
    assert a.claim((2, 1), DIGEST, NOW) is Claim.FULL
    assert a.claim((2, 1), DIGEST, NOW + LIFE_MS) is Claim.GRANTED
    assert sorted(path.name for path in directory.glob("*.c")) == ["2-1.c"]


def test_without_descriptors_nobody_knows_what_others_claimed(directory: Path) -> None:
    """A copy of a request that runs elsewhere must not be answered as if it ran nowhere."""
    a, b = member(directory, 1), member(directory, 2)
    assert a.claim(KEY, DIGEST, NOW) is Claim.GRANTED
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        told = b.claim(KEY, DIGEST, NOW)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert told is Claim.DOWN
    assert b.claim(KEY, DIGEST, NOW) is Claim.KNOWN


def test_a_directory_that_is_gone_refuses_claims_and_is_made_anew(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    a = member(directory, 1)
    for path in directory.iterdir():
        path.unlink()
    directory.rmdir()
    assert a.claim(KEY, DIGEST, NOW) is Claim.DOWN
    a.publish(KEY, response(), NOW)
    a.announce(KEY, NOW)
    assert a.published(KEY, NOW) is None
    assert a.claimed(KEY) is None
    assert "503" in caplog.text
    assert len(caplog.records) == 1, "said once"
    a.sweep(NOW)
    assert a.lost
    a.renew(b"\0\0\0\x42")
    assert a.id == 0x42
    assert a.claim(KEY, DIGEST, NOW) is Claim.GRANTED
    assert member(directory, 2).elsewhere(KEY) == 1


@pytest.mark.parametrize("what", ["all", "id"])
def test_nothing_is_granted_in_a_directory_that_another_made_anew(
    directory: Path, what: str
) -> None:
    """A process that does not know it yet has the old id, and so have its clients."""
    a, b, c = (member(directory, n) for n in (1, 2, 3))
    assert a.claim(KEY, DIGEST, NOW) is Claim.GRANTED
    if what == "all":
        shutil.rmtree(directory)
    else:
        (directory / "id").unlink()
        (directory / f"{KEY[0]:x}-{KEY[1]:x}.c").unlink()
    b.sweep(NOW)
    assert b.lost
    b.renew(b"\0\0\0\x42")
    assert c.claim(KEY, DIGEST, NOW) is Claim.DOWN
    assert len(c.ledger) == 0
    assert b.claim(KEY, DIGEST, NOW) is Claim.GRANTED, "nothing is left of the other claim"
    assert not c.lost
    c.sweep(NOW)
    assert c.lost
    c.renew(b"\0\0\0\x43")
    assert c.id == b.id == 0x42
    assert c.claim(KEY, DIGEST, NOW) is Claim.KNOWN
    assert (c.elsewhere(KEY), b.alive(3)) == (2, True)


def test_a_stranger_in_the_directory_is_no_response(directory: Path) -> None:
    a = member(directory, 1)
    for name in ("c", "o", "r"):
        (directory / f"{KEY[0]:x}-{KEY[1]:x}.{name}").write_bytes(b"?")
    assert a.published(KEY, NOW) is None
    assert a.claimed(KEY) is None
    assert a.elsewhere(KEY) == 0


@pytest.mark.parametrize("mode", [0o755, 0o777, 0o710])
def test_a_directory_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    with pytest.raises(UsageError, match="mode 700"):
        member(tmp_path, 1)


def test_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="File exists"):
        member(tmp_path / "file", 1)


CHILD = """
import os, sys, time
from pathlib import Path
from trickles_web.state import rundir
life = rundir.Life(Path(sys.argv[1]), 9)
if sys.argv[2] == "alone" or not os.fork():
    print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("fork", ["alone", "fork"])
def test_a_killed_process_is_dead_at_once(directory: Path, fork: str) -> None:
    """Also when a child that it forked lives on."""
    rundir.open_directory(directory)
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(directory), fork],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert rundir.alive(directory, 9)
        process.kill()
        process.wait()
        assert not rundir.alive(directory, 9)
        assert process.stdin is not None
        process.stdin.close()


def test_directories_that_nobody_uses_are_removed(tmp_path: Path) -> None:
    used, left, young = (tmp_path / name for name in ("used", "left", "young"))
    living = member(used, 1)
    for path in (left, young):
        die(member(path, 2))
    old = NOW - rundir.ABANDONED_MS
    for path, at in ((used, old), (left, old), (young, old + 1)):
        os.utime(path, ns=(at * 1_000_000, at * 1_000_000))
    (tmp_path / "file").write_bytes(b"")
    os.utime(tmp_path / "file", (0, 0))
    rundir.remove_abandoned(tmp_path, NOW)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "used", "young"]
    living.close()


def test_the_end_leaves_nothing(directory: Path) -> None:
    a = member(directory, 1)
    a.close()
    assert [path.name for path in directory.iterdir()] == ["id"]
