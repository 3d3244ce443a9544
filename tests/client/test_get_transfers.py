"""trickles-get as a process: several URLs, uploads, redirects, retries, resuming, what it tells."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
from pathlib import Path

import pytest

from tests.client import application
from tests.client.application import pattern
from tests.client.conftest import PATIENCE_S
from tests.client.test_get import COMMAND, base, fails, run
from tests.net.processes import serving
from trickles_web.cli.get.output import ETAG_ATTRIBUTE
from trickles_web.config import HttpConfig

__all__ = ["base"]

pytestmark = pytest.mark.live

AGAIN = ("--retry", "1", "--retry-delay", "0.1")
HALF_BYTES = HttpConfig().response_buffer_bytes + 1_000_009


def flows(stderr: bytes) -> int:
    """How many there were, as -v tells."""
    return stderr.count(b"* flow: ")


def told(size: int) -> bytes:
    body = pattern(size)
    return b"%d bytes, %s" % (size, hashlib.sha256(body).hexdigest().encode())


def test_urls_of_one_server_share_a_flow(base: str) -> None:
    done = run("-v", f"{base}/bytes/10", f"{base}/none", f"{base}/bytes/200000", f"{base}/bytes/3")
    assert done.returncode == 0
    assert done.stdout == pattern(10) + b"not here.\n" + pattern(200_000) + pattern(3)
    assert flows(done.stderr) == 1


def test_a_flow_that_ends_is_followed_by_another(base: str) -> None:
    done = run("-v", "-I", f"{base}/bytes/10", f"{base}/last/10", f"{base}/bytes/3")
    assert done.returncode == 0 and done.stdout.count(b"HTTP/1.1 200") == 3
    assert flows(done.stderr) == 2


def test_files_in_parallel(base: str, tmp_path: Path) -> None:
    sizes = range(0, 1_000_000, 90_000)
    urls = [f"{base}/bytes/{size}" for size in sizes]
    words = ["-Z", "--parallel-max", "4", "--create-dirs", "--output-dir", str(tmp_path / "new")]
    done = run("-v", *words, "-" + "O" * len(urls), *urls)
    assert done.returncode == 0, done.stderr
    for size in sizes:
        assert (tmp_path / "new" / str(size)).read_bytes() == pattern(size)
    assert 1 <= flows(done.stderr) <= 4


def test_the_exit_code_is_of_the_first_that_failed(base: str, absent_port: int) -> None:
    urls = [f"{base}/bytes/1", f"{base}/none", f"trickles://127.0.0.1:{absent_port}/"]
    done = run("-f", *urls)
    assert done.returncode == 22 and done.stdout == pattern(1)
    lines = done.stderr.decode().splitlines()
    assert lines[0] == f"trickles-get: (22) the requested URL returned error: 404 [{urls[1]}]"
    assert lines[1].startswith("trickles-get: (7)")
    assert run("-f", "--fail-early", *urls).stderr.count(b"\n") == 1


@pytest.mark.parametrize("size", [0, 5, 3_000_000])
def test_uploads(base: str, tmp_path: Path, size: int) -> None:
    file = tmp_path / "up"
    file.write_bytes(pattern(size))
    url = f"{base}/upload"
    assert run("-T", str(file), url).stdout == told(size)
    assert run("--data-binary", f"@{file}", url).stdout == told(size)
    with file.open("rb") as stdin:
        words = [*COMMAND, "-v", "-T", "-", url]
        done = subprocess.run(words, stdin=stdin, capture_output=True, timeout=PATIENCE_S)
    assert done.stdout == told(size)
    assert b"> Transfer-Encoding: chunked" in done.stderr


def test_an_upload_and_a_download_on_one_flow(base: str, tmp_path: Path) -> None:
    file = tmp_path / "up"
    file.write_bytes(pattern(300_000))
    done = run("-v", "-T", str(file), f"{base}/upload", f"{base}/bytes/9")
    assert done.stdout == told(300_000) + pattern(9)
    assert flows(done.stderr) == 1


def test_redirects_are_followed_if_asked(base: str) -> None:
    url = f"{base}/redirect/path/bytes/10"
    assert run(url, "-w", "%{http_code} %{redirect_url}").stdout.decode() == (
        f"302 {base}/bytes/10"
    )
    done = run("-L", "-d", "x", url, "-w", " %{num_redirects} %{url_effective}")
    assert done.stdout == pattern(10) + f" 1 {base}/bytes/10".encode()
    twice = f"{base}/redirect/path/redirect/path/bytes/10"
    assert run("-L", twice).stdout == pattern(10)
    assert "maximum (1) redirects" in fails(47, "-L", "--max-redirs", "1", twice)
    assert "not trickles://" in fails(1, "-L", f"{base}/redirect/http/elsewhere/")


def test_answers_that_may_change_are_asked_for_again(base: str) -> None:
    words = ("-w", " %{num_retries}", "--retry", "2", "--retry-delay", "0.1")
    done = run(*words, f"{base}/flaky/get/503/1")
    assert done.stdout == b"good\n 1"
    assert done.stderr == (
        b"trickles-get: (22) the requested URL returned error: 503; trying again in 0.1 s, "
        b"2 times more at most\n"
    )
    assert run("-s", *words, f"{base}/flaky/lasting/404/9").stdout == b"bad\n 0"
    fewer = ("-s", "--retry", "1", "--retry-delay", "0.1", "-w", " %{num_retries}")
    assert run(*fewer, f"{base}/flaky/often/503/9").stdout == b"bad\n 1"
    assert application.tries["often"] == 2


def test_what_may_have_been_done_is_not_done_again(base: str) -> None:
    words = ("-s", "--retry", "3", "--retry-delay", "0.1", "--retry-all-errors", "-f", "-d", "x")
    assert run(*words, f"{base}/flaky/unsafe/500/9").returncode == 22
    assert application.tries["unsafe"] == 1
    assert run(*words, f"{base}/flaky/refused/429/1").stdout == b"good\n"
    assert application.tries["refused"] == 2


def test_a_post_that_reached_nobody_is_sent_again(
    tmp_path: Path,
) -> None:
    """The server is started when the first attempt has failed."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    words = [*COMMAND, "--retry", "5", "--retry-delay", "0.1", "--connect-timeout", "1", "-d", "x"]
    with subprocess.Popen(
        [*words, f"trickles://127.0.0.1:{port}/upload"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert b"trying again in 0.1 s, 5 times more at most" in process.stderr.readline()
        with serving(tmp_path, "tests.client.application:app", "--port", str(port)):
            assert process.stdout.read().startswith(b"1 bytes, ")
            assert process.wait(PATIENCE_S) == 0


def test_no_retry_begins_after_its_time(base: str) -> None:
    words = ("--retry", "9", "--retry-delay", "9", "--retry-max-time", "5")
    assert run("-s", *words, f"{base}/flaky/slow/503/9").stdout == b"bad\n"
    assert application.tries["slow"] == 1


def test_a_retry_goes_on_where_it_broke_off(base: str, tmp_path: Path) -> None:
    file = tmp_path / "out"
    words = ("-s", *AGAIN, "-w", "%{num_retries} %{http_code} %{size_download}")
    done = run(*words, f"{base}/half", "-o", str(file))
    retries, code, size = done.stdout.split()
    assert (retries, code) == (b"1", b"206") and int(size) < HALF_BYTES
    assert file.read_bytes() == pattern(HALF_BYTES)
    assert os.listxattr(file) == []
    # A pipe takes nothing back, and need not.
    assert run("-s", *AGAIN, f"{base}/half").stdout == pattern(HALF_BYTES)


def test_a_part_is_left_or_removed(base: str, tmp_path: Path) -> None:
    file = tmp_path / "out"
    fails(18, f"{base}/broken", "-o", str(file))
    assert file.stat().st_size > 0
    fails(18, f"{base}/broken", "-o", str(file), "--remove-on-error")
    assert not file.exists()


def cut(file: Path, etag: bytes = b"") -> None:
    """As a download leaves it that was interrupted."""
    file.write_bytes(pattern(100))
    if etag:
        os.setxattr(file, ETAG_ATTRIBUTE, etag)


def test_resuming(base: str, tmp_path: Path) -> None:
    file = tmp_path / "out"
    cut(file, b'"half"')
    done = run("-C", "-", f"{base}/half", "-o", str(file), "-w", "%{size_download}")
    assert (done.stderr, done.stdout) == (b"", b"%d" % (HALF_BYTES - 100))
    assert file.read_bytes() == pattern(HALF_BYTES)


def test_a_part_of_another_version_is_not_continued(base: str, tmp_path: Path) -> None:
    file = tmp_path / "out"
    cut(file, b'"another"')
    assert "another version" in fails(33, "-C", "-", f"{base}/half", "-o", str(file))
    assert file.read_bytes() == pattern(100)


def test_resuming_what_is_not_there_fetches_all(base: str, tmp_path: Path) -> None:
    file = tmp_path / "out"
    assert run("-C", "-", f"{base}/bytes/300", "-o", str(file)).returncode == 0
    assert file.read_bytes() == pattern(300)


def test_a_server_that_ignores_the_range_ruins_nothing(base: str, tmp_path: Path) -> None:
    file = tmp_path / "out"
    cut(file)
    line = fails(33, "-C", "-", f"{base}/changing/a/300", "-o", str(file))
    assert "cannot resume at 100: the server does not send the rest" in line
    assert fails(22, "-C", "-", f"{base}/none", "-o", str(file))
    assert "--location" in fails(33, "-C", "-", f"{base}/redirect/path/x", "-o", str(file))
    assert file.read_bytes() == pattern(100)


def test_heads_into_a_file(base: str, tmp_path: Path) -> None:
    file = tmp_path / "heads"
    done = run("-L", "-D", str(file), f"{base}/redirect/path/bytes/10", f"{base}/bytes/3")
    assert done.stdout == pattern(10) + pattern(3)
    text = file.read_bytes()
    assert [line.split()[1] for line in text.splitlines() if line[:5] == b"HTTP/"] == [
        b"302",
        b"200",
        b"200",
    ]
    assert run("-sD-", f"{base}/bytes/3").stdout.endswith(b"\r\n\r\n" + pattern(3))


def test_what_is_told_after_a_transfer(base: str) -> None:
    names = ("http_code", "size_download", "speed_download", "time_total", "time_starttransfer")
    form = "{" + ", ".join(f'"{name}": "%{{{name}}}"' for name in names) + "}"
    done = run("-s", "-o", os.devnull, "-w", form, f"{base}/bytes/300000")
    values = json.loads(done.stdout)
    assert (values["http_code"], values["size_download"]) == ("200", "300000")
    assert 0 < float(values["time_starttransfer"]) <= float(values["time_total"])
    assert int(values["speed_download"]) > 0
    failed = run("-s", "-w", "%{exitcode} %{http_code}", f"{base}/broken", "-o", os.devnull)
    assert (failed.returncode, failed.stdout) == (18, b"18 200")
