"""Programs of the shell that do more than one request, under trickles-run."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.programs import needed, run
from tests.live.stage import Stage
from tests.net.processes import serving

pytestmark = [pytest.mark.live, pytest.mark.xdist_group("live programs")]

HOST = "127.0.0.1"
CONTENT = random.Random(3).randbytes(3_000_000)
GIT = ("git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "gc.auto=0")


class Files:
    """A folder, and the URL where it is served."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Files]:
    folder = tmp_path_factory.mktemp("files")
    (folder / "data.bin").write_bytes(CONTENT)
    with serving(tmp_path_factory.mktemp("server"), "--static", str(folder), "--port", "0") as one:
        yield Files(folder, f"http://{HOST}:{one.port()}")
        assert one.end() == 0
        assert "Traceback" not in one.stderr


def test_curl_takes_ranges_and_goes_on(files: Files, tmp_path: Path) -> None:
    got = tmp_path / "got"
    run("curl", "-sSf", "-r", "1000-1999", "-o", str(got), f"{files.url}/data.bin")
    assert got.read_bytes() == CONTENT[1000:2000]
    got.write_bytes(CONTENT[:1_234_567])
    run("curl", "-sSf", "-C", "-", "-o", str(got), f"{files.url}/data.bin")
    assert got.read_bytes() == CONTENT


def test_wget_goes_on_where_it_was(files: Files, tmp_path: Path) -> None:
    got = tmp_path / "data.bin"
    got.write_bytes(CONTENT[:1_234_567])
    told = run("wget", "-c", "--progress=dot:mega", f"{files.url}/data.bin", folder=tmp_path)
    assert "206 Partial Content" in told
    assert got.read_bytes() == CONTENT


def test_wget_follows_links(files: Files, tmp_path: Path) -> None:
    site = files.folder / "pages"
    (site / "deep").mkdir(parents=True)
    links = [f"deep/{number}.html" for number in range(20)]
    for link in links:
        (site / link).write_text(f"<a href=../picture.bin>{link}</a>")
    (site / "picture.bin").write_bytes(CONTENT[:100_000])
    (site / "index.html").write_text("".join(f"<a href={link}>page</a>" for link in links))
    run("wget", "-nv", "-r", "-nH", f"{files.url}/pages/", folder=tmp_path)
    for link in [*links, "picture.bin", "index.html"]:
        assert (tmp_path / "pages" / link).read_bytes() == (site / link).read_bytes()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A bare one, with a few commits."""
    needed("git")
    work, bare = tmp_path / "work", tmp_path / "repositories" / "some.git"
    git = [*GIT, "-C", str(work)]
    subprocess.run(["git", "init", "-q", "-b", "main", work], check=True)
    for number in range(5):
        (work / f"{number}.bin").write_bytes(CONTENT[number * 100_000 :][:100_000])
        subprocess.run([*git, "add", "."], check=True)
        subprocess.run([*git, "commit", "-qm", f"number {number}"], check=True)
    subprocess.run(["git", "clone", "-q", "--bare", work, bare], check=True)
    subprocess.run(["git", "-C", bare, "update-server-info"], check=True)
    return bare


def head_of(repository: Path) -> str:
    words = ["git", "-C", str(repository), "rev-parse", "HEAD"]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def test_git_clones_from_plain_files(files: Files, tmp_path: Path, repository: Path) -> None:
    shutil.copytree(repository, files.folder / "some.git")
    run("git", "clone", "-q", f"{files.url}/some.git", str(tmp_path / "clone"))
    assert head_of(tmp_path / "clone") == head_of(repository)
    run("git", "-C", str(tmp_path / "clone"), "fsck", "--strict")


def test_git_clones_from_its_own_server_and_pushes(
    stage: Stage, tmp_path: Path, repository: Path
) -> None:
    stage.environment["REPOSITORIES"] = str(repository.parent)
    clone = tmp_path / "clone"
    with stage.serving("tests.live.git_backend:app", "--port", "0") as server:
        url = f"http://{HOST}:{server.port()}/some.git"
        run("git", "clone", "-q", url, str(clone))
        assert head_of(clone) == head_of(repository)
        (clone / "large.bin").write_bytes(CONTENT)
        run(*GIT, "-C", str(clone), "add", ".")
        run(*GIT, "-C", str(clone), "commit", "-qm", "large")
        run(*GIT, "-C", str(clone), "push", "-q")  # 3 MB: in chunks, after a first empty POST
        assert head_of(clone) == head_of(repository)
        assert server.end() == 0
        assert "Traceback" not in server.stderr


def a_wheel(folder: Path) -> None:
    """A package `thing` with a module of that name."""
    name = "thing-1.0"
    info = f"{name}.dist-info"
    wheel = "Wheel-Version: 1.0\nGenerator: us\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(folder / f"{name}-py3-none-any.whl", "w") as archive:
        archive.writestr("thing.py", "ANSWER = 42\n")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", wheel)
        archive.writestr(f"{info}/RECORD", "")


def test_pip_installs_from_an_index(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = files.folder / "simple" / "thing"
    page.mkdir(parents=True)
    a_wheel(page)
    (page / "index.html").write_text('<a href="thing-1.0-py3-none-any.whl">thing</a>')
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    pip = [sys.executable, "-m", "pip", "install", "--no-cache-dir", "--no-compile"]
    pip += ["--disable-pip-version-check", "--target", str(tmp_path / "got")]
    run(*pip, "--index-url", f"{files.url}/simple", "thing")
    assert (tmp_path / "got" / "thing.py").read_text() == "ANSWER = 42\n"
