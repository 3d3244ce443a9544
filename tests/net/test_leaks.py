"""No secret in what a server writes, says of itself, or hands to other processes.

Servers are started in each way that there is to give them a secret, and everything that can be
found of them is searched for it.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.differential.answers import talk
from tests.net.processes import serving
from tests.net.test_serve import get
from trickles_web.net.secret import file_name

pytestmark = pytest.mark.live

APPLICATION = "tests.net.telling:app"
SECRET = bytes(range(100, 132))
"""32 visible characters and some that are none."""
FORMS = (
    *(SECRET, repr(SECRET)[2:-1].encode(), SECRET.hex().encode(), base64.b64encode(SECRET)),
    *(SECRET[:12], SECRET.hex()[:24].encode(), base64.b64encode(SECRET)[:24]),
)
PASSWORD = "hunter-of-redis"
WAYS = ("file", "environment", "state directory")


def given(way: str, directory: Path) -> tuple[list[str], dict[str, str]]:
    """Arguments and environment by which a server has the secret."""
    state = directory / "state" / "trickles-web"
    state.mkdir(parents=True)
    path = state / file_name(APPLICATION) if way == "state directory" else directory / "secret"
    path.touch(0o600)
    path.write_text(SECRET.hex())
    if way == "environment":
        return [], {"TRICKLES_SECRET": SECRET.hex()}
    return (["--secret-file", str(path)] if way == "file" else []), {}


def processes_of(pid: int) -> Iterator[int]:
    """It, and all that it has started."""
    yield pid
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        yield from processes_of(int(child))


def found_in(name: str, text: bytes) -> list[str]:
    return [f"{name}: {form!r}" for form in FORMS if form in text]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("workers", [1, 2])
def test_the_secret_shows_nowhere(way: str, workers: int, tmp_path: Path) -> None:
    arguments, environment = given(way, tmp_path)
    arguments += ["--port", "0", "--log-level", "debug", "--workers", str(workers)]
    leaks: list[str] = []
    with serving(
        tmp_path,
        *(APPLICATION, *arguments, "--gateway", "127.0.0.1:0"),
        environment=environment,
    ) as server:
        port = server.port()
        leaks += found_in("what the application sees", get(port))
        leaks += found_in("an error page", get(port, "/raises"))
        gateway = int(server.says(r"and http://127\.0\.0\.1:(\d+) \(Press")[1])
        bad = b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\nConnection: close\r\n\r\n"
        leaks += found_in("a refusal", talk(gateway, bad))
        for pid in processes_of(server.process.pid):
            # What a process was started with is the kernel's, and for the same user to read.
            given_here = way == "environment" and pid == server.process.pid
            leaks += searched(pid, environment=not given_here)
        assert server.end() == 0
    assert "Counters: {" in server.stderr and "Traceback" in server.stderr
    leaks += found_in("stdout", server.stdout.encode()) + found_in("stderr", server.stderr.encode())
    assert not leaks, "\n".join(leaks)


def searched(pid: int, *, environment: bool) -> list[str]:
    """What others can read of a process, and what it was given."""
    folder = Path(f"/proc/{pid}")
    found = found_in("arguments", (folder / "cmdline").read_bytes())
    if environment:
        found += found_in("environment", (folder / "environ").read_bytes())
    return found


def refused(directory: Path, *arguments: str, **environment: str) -> str:
    """What a server says that does not start."""
    with serving(directory, APPLICATION, *arguments, environment=environment) as server:
        assert server.process.wait(30) == 2
        return server.stderr


def test_a_bad_secret_is_refused_without_showing_it(tmp_path: Path) -> None:
    short = SECRET.hex()[:40]
    said = refused(tmp_path, "--port", "0", TRICKLES_SECRET=short)
    assert "TRICKLES_SECRET must be 32 or more bytes" in said and short not in said


def test_the_password_of_a_store_is_in_no_arguments(tmp_path: Path) -> None:
    """Given by environment, it would be for all users to read in those of the workers."""
    url = f"redis://:{PASSWORD}@127.0.0.1:1/0"
    arguments = ("--port", "0", "--workers", "2", "--peer", "127.0.0.1:0")
    with serving(tmp_path, APPLICATION, *arguments, environment={"TRICKLES_STORE": url}) as server:
        server.port()
        commands = b"".join(
            Path(f"/proc/{pid}/cmdline").read_bytes() for pid in processes_of(server.process.pid)
        )
        server.end()
    assert b"trickles_web.cli.serve" in commands
    assert PASSWORD.encode() not in commands
    assert PASSWORD not in server.stderr


def test_the_password_of_a_store_is_in_no_complaint(tmp_path: Path) -> None:
    url = f"redis://:{PASSWORD}@127.0.0.1:port/0"
    said = refused(tmp_path, "--port", "0", TRICKLES_STORE=url)
    assert "--store redis://" in said and PASSWORD not in said
