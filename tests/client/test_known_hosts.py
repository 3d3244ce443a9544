"""The file of keys met before: what is written, what is believed, and what became of the file."""

from __future__ import annotations

import logging
import multiprocessing
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trickles_web.client.known_hosts import MOST_BYTES, KnownHosts
from trickles_web.errors import IdentityError, UsageError

NAME = "host.test:8000"
PIN, OTHER = f"sha256//{'A' * 43}=", f"sha256//{'B' * 43}="


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "of" / "the user" / "known_hosts"


def changed(file: Path, pin: str = OTHER, name: str = NAME) -> str:
    with pytest.raises(IdentityError, match="HAS CHANGED") as caught:
        KnownHosts(file).judge(name, pin)
    assert caught.value.reason == "changed"
    return str(caught.value)


def test_the_first_key_is_kept_and_said(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "trickles.client"):
        KnownHosts(file).judge(NAME, PIN)
    assert caplog.messages == [f"{NAME} is new: its key is {PIN}, kept in {file}"]
    assert file.read_text() == f"{NAME} {PIN}\n"
    assert file.stat().st_mode & 0o777 == 0o600
    caplog.clear()
    KnownHosts(file).judge(NAME, PIN)
    KnownHosts(file).judge("HOST.Test:8000", PIN)
    assert caplog.messages == []
    assert file.read_text() == f"{NAME} {PIN}\n"


def test_another_key_is_refused_loudly(file: Path) -> None:
    KnownHosts(file).judge(NAME, PIN)
    text = changed(file)
    assert text.startswith(f"THE KEY OF {NAME} HAS CHANGED: it is {OTHER} now, and was {PIN}")
    assert text.endswith(f"remove the line of {NAME} from {file}")
    assert "\n" not in text
    assert file.read_text() == f"{NAME} {PIN}\n"


def test_ports_and_hosts_are_apart(file: Path) -> None:
    KnownHosts(file).judge(NAME, PIN)
    KnownHosts(file).judge("host.test:8001", OTHER)
    KnownHosts(file).judge("t:8000", OTHER)
    changed(file)


def test_each_of_several_lines_will_do(file: Path) -> None:
    file.parent.mkdir(parents=True)
    file.write_text(f"# remark\n\n{NAME} {PIN} old\n  {NAME.upper()}\t{OTHER}\r\n")
    KnownHosts(file).judge(NAME, PIN)
    KnownHosts(file).judge(NAME, OTHER)
    changed(file, f"sha256//{'C' * 43}=")


def test_nobody_is_new_who_was_not_asked(file: Path) -> None:
    with pytest.raises(IdentityError) as caught:
        KnownHosts(file).judge(NAME, PIN, may_add=False)
    assert caught.value.reason == "new"
    assert not file.exists()
    KnownHosts(file).judge(NAME, PIN)
    KnownHosts(file).judge(NAME, PIN, may_add=False)


@pytest.mark.parametrize("line", [NAME, f"{NAME} ", f"{NAME} sha256//AAA", f"{NAME} \x00\xff"])
def test_half_a_line_makes_nobody_new(file: Path, line: str) -> None:
    file.parent.mkdir(parents=True)
    file.write_text(line)
    changed(file, PIN)
    assert file.read_text() == line


def test_a_line_is_not_added_to_the_end_of_another(file: Path) -> None:
    file.parent.mkdir(parents=True)
    file.write_text(f"other.test:1 {OTHER}")
    KnownHosts(file).judge(NAME, PIN)
    assert file.read_text() == f"other.test:1 {OTHER}\n{NAME} {PIN}\n"


@given(st.binary(max_size=200))
def test_whatever_is_in_the_file(tmp_path_factory: pytest.TempPathFactory, held: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "known_hosts"
    file.write_bytes(held)
    try:
        KnownHosts(file).judge(NAME, PIN)
    except IdentityError:
        return
    changed(file)
    assert file.read_bytes().startswith(held)


def test_a_file_that_is_too_long_to_be_searched(file: Path) -> None:
    file.parent.mkdir(parents=True)
    file.write_text("#" * MOST_BYTES + f"\n{NAME} {PIN}\n")
    with pytest.raises(UsageError, match=f"more than {MOST_BYTES} bytes"):
        KnownHosts(file).judge(NAME, OTHER)


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "below", Path("/proc/known_hosts")):
        with pytest.raises(UsageError, match=re.escape(f"--known-hosts '{path}': ")) as caught:
            KnownHosts(path).judge(NAME, PIN)
        assert "\n" not in str(caught.value)


def _judge(path: Path, pin: str, begin: object, done: object) -> None:
    begin.wait()  # type: ignore[attr-defined]
    try:
        KnownHosts(path).judge(NAME, pin)
    except IdentityError as error:
        done.put(error.reason)  # type: ignore[attr-defined]
    else:
        done.put("known")  # type: ignore[attr-defined]


def test_of_two_that_are_first_one_is(file: Path) -> None:
    """Or either key would do from then on."""
    kinds = multiprocessing.get_context("fork")
    begin, done = kinds.Barrier(8), kinds.Queue()
    pins = [f"sha256//{letter * 43}=" for letter in "ABCDEFGH"]
    processes = [kinds.Process(target=_judge, args=(file, pin, begin, done)) for pin in pins]
    for process in processes:
        process.start()
    found = sorted(done.get(timeout=30) for _ in processes)
    for process in processes:
        process.join(30)
    assert found == ["changed"] * 7 + ["known"]
    assert len(file.read_text().splitlines()) == 1
