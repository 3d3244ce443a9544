"""Programs of the shell, as they come from the distribution, under trickles-run."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

RUN = [sys.executable, "-W", "error", "-m", "trickles_web.cli.run"]
PATIENCE_S = 60.0
ROOT = Path(__file__).resolve().parents[2]


def needed(*names: str) -> None:
    """Fails unless they are installed; each has its name in Debian, too."""
    missing = [name for name in names if shutil.which(name) is None]
    if missing:
        pytest.fail(f"as root run: apt-get install {' '.join(missing)}", pytrace=False)


def start(*words: str, options: tuple[str, ...] = (), **settings: object) -> subprocess.Popen[str]:
    """`trickles-run OPTIONS WORDS`, with its streams as pipes."""
    pipe = subprocess.PIPE
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(  # type: ignore[call-overload,no-any-return]
        [*RUN, *options, *words],
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        text=True,
        env=environment,
        **settings,
    )


def run(*words: str, folder: Path | None = None, code: int = 0) -> str:
    """What the program prints, on both streams; it must end with this code."""
    needed(words[0])
    with start(*words, cwd=folder) as process:
        try:
            out, err = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
    assert process.returncode == code, err
    return out + err


@contextlib.contextmanager
def proxy() -> Iterator[str]:
    """URL of the proxy of a program that does nothing."""
    with start("sh", "-c", 'echo "$http_proxy"; read line') as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
            out, err = process.communicate("\n", timeout=PATIENCE_S)
            assert (process.returncode, out, err) == (0, "", "")
        finally:
            process.kill()


def request(name: str, method: str, body: Path | None, answer: Path) -> list[str]:
    """The words for a request that follows redirects; the URL is to be added."""
    if name == "curl":
        where = os.devnull if method == "HEAD" else str(answer)  # it writes the head there
        words = ["curl", "-sSL", "-o", where, "-w", "HTTP %{http_code}\n"]
        words += ["-I"] if method == "HEAD" else ["-X", method]
        return words + (["--data-binary", f"@{body}"] if body else [])
    words = ["wget", "-nv", "-S", "-O", str(answer), f"--method={method}"]
    return words + ([f"--body-file={body}"] if body else [])


def status(told: str) -> int:
    """The last one that curl or wget have told."""
    return int(re.findall(r"HTTP(?:/1\.1)? (\d{3})", told)[-1])
