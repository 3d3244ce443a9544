"""The master secret: found, made once, and refused with advice."""

from __future__ import annotations

import base64
import multiprocessing
import os
import stat
from pathlib import Path

import pytest

from trickles_web.errors import SecretError
from trickles_web.net.secret import create_secret, file_name, load_secrets, state_directory

SECRET = bytes(range(40, 72))


def write(path: Path, content: bytes, mode: int = 0o600) -> str:
    path.write_bytes(content)
    path.chmod(mode)
    return str(path)


def test_first_start_makes_a_file_that_only_its_owner_reads_and_later_ones_find_it(
    tmp_path: Path,
) -> None:
    environment = {"XDG_STATE_HOME": str(tmp_path / "deep" / "state")}
    secret = load_secrets("apps.site:app", environment=environment)
    assert [len(one) for one in secret] == [32]
    directory = tmp_path / "deep" / "state" / "trickles-web"
    [path] = directory.iterdir()
    assert path.name.startswith("apps-site-app-")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert load_secrets("apps.site:app", environment=environment) == secret
    assert load_secrets("apps.other:app", environment=environment) != secret


def _load(state: str) -> tuple[bytes, ...]:
    return load_secrets("one:app", environment={"XDG_STATE_HOME": state})


def test_of_many_starting_at_once_all_get_the_same(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        for attempt in range(20):
            state = str(tmp_path / str(attempt))
            assert len(set(pool.map(_load, [state] * 4, chunksize=1))) == 1
            assert len(os.listdir(os.path.join(state, "trickles-web"))) == 1  # no drafts are left


def test_a_secret_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "kept.secret"
    create_secret(path)
    first = path.read_bytes()
    create_secret(path)
    assert path.read_bytes() == first


@pytest.mark.parametrize(
    "text",
    [
        SECRET.hex(),
        SECRET.hex().upper() + "\n",
        base64.b64encode(SECRET).decode(),
        base64.urlsafe_b64encode(SECRET).decode().rstrip("="),
    ],
)
def test_file_and_environment_in_hex_and_base64(tmp_path: Path, text: str) -> None:
    assert load_secrets("a:b", write(tmp_path / "s", text.encode()), {}) == (SECRET,)
    assert load_secrets("a:b", None, {"TRICKLES_SECRET": text}) == (SECRET,)


def test_a_file_may_hold_raw_bytes_and_comes_before_the_environment(tmp_path: Path) -> None:
    raw = bytes([255, *SECRET])
    file = write(tmp_path / "raw", raw, 0o400)
    assert load_secrets("a:b", file, {"TRICKLES_SECRET": SECRET.hex()}) == (raw,)


@pytest.mark.parametrize("text", ["short", "ab" * 31, "not / base64 ? at all, though it is long"])
def test_environment_that_is_no_secret_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(SecretError, match="openssl rand -hex 32") as raised:
        load_secrets("a:b", None, {"TRICKLES_SECRET": text})
    assert text not in str(raised.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o660, 0o777])
def test_loose_permissions_name_the_remedy(tmp_path: Path, mode: int) -> None:
    file = write(tmp_path / "loose", SECRET, mode)
    with pytest.raises(SecretError, match=f"chmod 600 {file}"):
        load_secrets("a:b", file, {})


def test_one_s_own_stored_secret_with_loose_permissions_is_refused_too(tmp_path: Path) -> None:
    environment = {"STATE_DIRECTORY": str(tmp_path)}
    write(tmp_path / file_name("a:b"), SECRET, 0o644)
    with pytest.raises(SecretError, match="chmod 600"):
        load_secrets("a:b", environment=environment)


def test_unusable_files_give_one_line(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo, 0o600)
    cases = {
        str(tmp_path): "not a regular file",
        str(fifo): "not a regular file",
        str(tmp_path / "missing"): "no such secret file",
        str(tmp_path / ("long" * 100)): "cannot be read",
        "with\0null": "cannot be read",
        write(tmp_path / "empty", b""): "has 0 bytes",
        write(tmp_path / "short", b"0011"): "has 2 bytes",
        write(tmp_path / "wrong", bytes(5000)): "is it the secret file",
    }
    for file, message in cases.items():
        with pytest.raises(SecretError, match=message) as raised:
            load_secrets("a:b", file, {})
        assert "\n" not in str(raised.value)


def test_a_state_directory_that_cannot_be_made_gives_advice(tmp_path: Path) -> None:
    (tmp_path / "occupied").write_bytes(b"")
    with pytest.raises(SecretError, match="give --secret-file"):
        load_secrets("a:b", environment={"STATE_DIRECTORY": str(tmp_path / "occupied")})


def test_state_directory() -> None:
    home = {"HOME": "/home/someone"}
    assert state_directory(home) == Path("/home/someone/.local/state/trickles-web")
    assert state_directory({**home, "XDG_STATE_HOME": "relative"}) == state_directory(home)
    assert state_directory({**home, "XDG_STATE_HOME": "/var/x"}) == Path("/var/x/trickles-web")
    systemd = {**home, "XDG_STATE_HOME": "/var/x", "STATE_DIRECTORY": "/var/lib/one:/var/lib/two"}
    assert state_directory(systemd) == Path("/var/lib/one")


def test_file_names_are_safe_and_distinct() -> None:
    services = ["a:b", "a_b", "static /srv/a", "../../etc/passwd", "ü" * 300, "", "a/b"]
    names = [file_name(service) for service in services]
    assert len(set(names)) == len(services)
    for name in names:
        assert "/" not in name and not name.startswith(".") and len(name) < 100 and name.isascii()


def test_several_secrets_the_first_of_which_seals(tmp_path: Path) -> None:
    new = bytes(range(40))
    text = f"{new.hex()}\n\n{base64.b64encode(SECRET).decode()}\n"
    assert load_secrets("a:b", write(tmp_path / "two", text.encode()), {}) == (new, SECRET)
    assert load_secrets("a:b", None, {"TRICKLES_SECRET": text}) == (new, SECRET)
    file = write(tmp_path / "odd", f"{new.hex()}\nabcd\n".encode())
    with pytest.raises(SecretError, match="has 2 bytes"):
        load_secrets("a:b", file, {})


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize(("mode", "taken"), [(0o440, True), (0o460, False), (0o444, False)])
def test_a_file_of_somebody_elses_may_be_read_by_its_group(
    tmp_path: Path, mode: int, taken: bool
) -> None:
    file = write(tmp_path / "mounted", SECRET.hex().encode(), mode)
    os.chown(file, 65534, 0)
    if taken:
        assert load_secrets("a:b", file, {}) == (SECRET,)
    else:
        with pytest.raises(SecretError, match="chmod 600"):
            load_secrets("a:b", file, {})
