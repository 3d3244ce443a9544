"""One file from several servers at once, some of which die, lack it, or have another version."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import h11
import pytest

from tests.client.application import pattern
from tests.live.stage import SITE, TRANSFER_S, Site, Stage, command, fetching, grown_to, run
from tests.net.processes import ROOT
from trickles_web.client.fetch import RateLimit, Request
from trickles_web.client.striped import Striped
from trickles_web.config import ClientConfig
from trickles_web.errors import ConnectError, FlowError, VersionsDiffer

pytestmark = [pytest.mark.live, pytest.mark.xdist_group("live striped")]

SIZE = 24_000_000
HASTY = ClientConfig(connect_timeout_s=1.0, refused_patience_s=0.3, silence_timeout_s=1.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "large").write_bytes(pattern(SIZE))
    (folder / "small").write_bytes(pattern(5000))
    (folder / "empty").write_bytes(b"")
    return folder


@contextlib.contextmanager
def serving(stage: Stage, folders: Sequence[Path]) -> Iterator[list[Site]]:
    """A server for each of these folders, by itself: they share no state."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(
                Site(stage, "--static", str(folder), "--port", "0", "--store", "memory")
            )
            for folder in folders
        ]


def others(sites: Sequence[Site]) -> list[str]:
    return [word for site in sites for word in ("--replica", f"127.0.0.1:{site.port}")]


def shares(stderr: str) -> list[int]:
    """Bytes from each server, as -v tells."""
    [line] = re.findall(r"^\* replicas: .*$", stderr, re.MULTILINE)
    return [int(count) for count in re.findall(r": (\d+) bytes", line)]


def request(site: Site, path: str = "/large") -> Request:
    return Request("GET", path, [(b"Host", b"127.0.0.1:%d" % site.port)])


async def collect(striped: Striped) -> bytes:
    try:
        await striped.head()
        return b"".join([data async for data in striped.body()])
    finally:
        striped.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_all_servers_send_a_share_and_one_dies_or_stands_still(
    stage: Stage, folder: Path, tmp_path: Path, number: signal.Signals
) -> None:
    file = tmp_path / "out"
    with serving(stage, [folder] * 3) as sites:
        url = f"127.0.0.1:{sites[0].port}/large"
        words = command("trickles-get", url, "-v", "--limit-rate", "16M", *others(sites[1:]))
        with subprocess.Popen(
            [*words, "-o", str(file)], cwd=ROOT, stderr=subprocess.PIPE
        ) as process:
            grown_to(file, SIZE // 3)
            sites[0].running.process.send_signal(number)
            _, complaints = process.communicate(timeout=TRANSFER_S)
    assert process.returncode == 0, complaints
    assert file.read_bytes() == pattern(SIZE)
    got = shares(complaints.decode())
    assert sum(got) == SIZE and min(got) > 0


def test_the_file_is_a_prefix_when_it_is_cut_and_goes_on(
    stage: Stage, folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "out"
    with serving(stage, [folder] * 2) as sites:
        url = f"127.0.0.1:{sites[0].port}/large"
        words = command("trickles-get", url, "--limit-rate", "8M", *others(sites[1:]))
        with subprocess.Popen([*words, "-o", str(file)], cwd=ROOT) as process:
            grown_to(file, SIZE // 3)
            process.kill()
        cut = file.read_bytes()
        assert cut == pattern(SIZE)[: len(cut)]
        with fetching("trickles-get", url, file, "-C", "-", *others(sites[1:])):
            pass
    assert file.read_bytes() == pattern(SIZE)


def test_a_pipe_gets_the_bytes_in_order(stage: Stage, folder: Path) -> None:
    with serving(stage, [folder] * 2) as sites:
        done = run("trickles-get", f"127.0.0.1:{sites[0].port}/large", *others(sites[1:]))
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == pattern(SIZE)


def test_servers_that_are_absent_or_lack_the_file_do_no_harm(
    stage: Stage, folder: Path, tmp_path: Path, absent_port: int
) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    with serving(stage, [folder, bare]) as (site, lacking):
        where = [f"127.0.0.1:{port}" for port in (site.port, lacking.port)]
        words = [word for place in where for word in ("--replica", place)]
        done = run("trickles-get", f"127.0.0.1:{absent_port}/large", *words)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == pattern(SIZE)


@pytest.mark.parametrize("path", ["/small", "/empty"])
def test_small_files_come_from_one(stage: Stage, folder: Path, path: str) -> None:
    with serving(stage, [folder] * 2) as sites:
        url = f"127.0.0.1:{sites[0].port}{path}"
        done = run("trickles-get", url, "-v", *others(sites[1:]))
    assert done.stdout == (folder / path[1:]).read_bytes()
    assert sorted(shares(done.stderr.decode()))[0] == 0


def test_different_versions_are_told_apart(stage: Stage, folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "large").write_bytes(b"?" * SIZE)
    with serving(stage, [folder, other]) as (one, two):
        addresses = [("127.0.0.1", site.port) for site in (one, two)]
        with pytest.raises(VersionsDiffer) as caught:
            asyncio.run(collect(Striped(request(one), addresses, limit=RateLimit(8e6, 0.0))))
        assert all(f"127.0.0.1:{site.port} has" in str(caught.value) for site in (one, two))
        options = ("--limit-rate", "8M", "--retry", "2", *others([two]))
        done = run("trickles-get", f"127.0.0.1:{one.port}/large", *options)
    assert done.returncode == 56 and done.stderr.count(b"\n") == 1
    assert b"replicas hold different versions of /large" in done.stderr


def test_when_all_are_killed_it_fails_soon(stage: Stage, folder: Path) -> None:
    async def download(sites: Sequence[Site]) -> None:
        addresses = [("127.0.0.1", site.port) for site in sites]
        striped = Striped(request(sites[0]), addresses, config=HASTY)
        try:
            await striped.head()
            async for _ in striped.body():
                for site in sites:
                    if site.running.process.poll() is None:
                        site.kill()
        finally:
            striped.close()

    with serving(stage, [folder] * 2) as sites, pytest.raises(FlowError):
        asyncio.run(asyncio.wait_for(download(sites), TRANSFER_S))


def test_when_none_is_there_the_first_ones_error_is_raised(absent_port: int) -> None:
    ask = Request("GET", "/", [(b"Host", b"localhost")])
    addresses = [("127.0.0.1", absent_port)] * 2
    with pytest.raises(ConnectError):
        asyncio.run(collect(Striped(ask, addresses, config=HASTY)))
    with pytest.raises(h11.LocalProtocolError):
        asyncio.run(collect(Striped(Request("GET", "/", [(b"\n", b"")]), addresses)))


def test_what_is_no_get_goes_to_whom_is_there(
    stage: Stage, tmp_path: Path, absent_port: int
) -> None:
    file = tmp_path / "up"
    file.write_bytes(pattern(300_000))
    with Site(stage, SITE, "--port", "0") as site:
        url = f"127.0.0.1:{absent_port}/upload"
        done = run("trickles-get", url, "--data-binary", f"@{file}", *others([site]))
    assert (done.returncode, done.stderr) == (0, b"")
    assert b'"size":300000' in done.stdout
