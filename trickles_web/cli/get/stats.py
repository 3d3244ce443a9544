"""What a transfer was like, for --write-out."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import click

from trickles_web.cli.get.failures import Exit, Failure
from trickles_web.client.fetch import Head
from trickles_web.client.url import Url


@dataclass(slots=True)
class Stats:
    """Of one transfer with all its redirects; with retries, of the last attempt."""

    url: Url
    filename: str
    method: str = ""
    effective: Url | None = None
    head: Head | None = None
    redirect_url: str = ""
    redirects: int = 0
    retries: int = 0
    flows: int = 0
    header_bytes: int = 0
    downloaded: int = 0
    uploaded: int = 0
    began: float = field(default_factory=monotonic)
    first: float | None = None
    ended: float | None = None
    failure: Failure | None = None

    def restart(self) -> None:
        """Another attempt begins."""
        self.head, self.effective, self.redirects, self.redirect_url = None, None, 0, ""
        self.header_bytes = self.downloaded = self.uploaded = 0
        self.began, self.first, self.ended = monotonic(), None, None

    def headed(self, head: Head) -> None:
        """A head has come."""
        self.head = head
        self.header_bytes += sum(len(line) + 2 for line in head.lines()) + 2
        if self.first is None:
            self.first = monotonic()

    @property
    def seconds(self) -> float:
        return (self.ended or monotonic()) - self.began

    def per_second(self, count: int) -> int:
        return int(count / self.seconds) if self.seconds > 0 else 0


def _header(stats: Stats, name: bytes) -> str:
    return stats.head.get(name).decode("latin-1") if stats.head is not None else ""


_VARIABLES: dict[str, Callable[[Stats], Any]] = {
    "content_type": lambda stats: _header(stats, b"content-type"),
    "errormsg": lambda stats: stats.failure or "",
    "exitcode": lambda stats: int(stats.failure.code if stats.failure else Exit.OK),
    "filename_effective": lambda stats: stats.filename,
    "http_code": lambda stats: f"{stats.head.status if stats.head else 0:03}",
    "http_version": lambda stats: stats.head.version.decode() if stats.head else "0",
    "method": lambda stats: stats.method,
    "num_connects": lambda stats: stats.flows,
    "num_redirects": lambda stats: stats.redirects,
    "num_retries": lambda stats: stats.retries,
    "redirect_url": lambda stats: stats.redirect_url,
    "response_code": lambda stats: f"{stats.head.status if stats.head else 0:03}",
    "size_download": lambda stats: stats.downloaded,
    "size_header": lambda stats: stats.header_bytes,
    "size_upload": lambda stats: stats.uploaded,
    "speed_download": lambda stats: stats.per_second(stats.downloaded),
    "speed_upload": lambda stats: stats.per_second(stats.uploaded),
    "time_starttransfer": lambda stats: f"{(stats.first or stats.began) - stats.began:.6f}",
    "time_total": lambda stats: f"{stats.seconds:.6f}",
    "url": lambda stats: stats.url,
    "url_effective": lambda stats: stats.effective or stats.url,
}
VARIABLES = tuple(_VARIABLES)
_ESCAPES = {r"\n": "\n", r"\r": "\r", r"\t": "\t", r"\\": "\\", "%%": "%"}
_TOKEN = re.compile(r"%\{([^}]*)\}|%%|\\[nrt\\]")


def write_out(template: str, stats: Stats) -> None:
    """Print the template; after `%{stderr}`, to stderr. Unknown variables are told of, there."""
    to_stderr = False
    at = 0
    for token in _TOKEN.finditer(template):
        _write(template[at : token.start()], to_stderr)
        at = token.end()
        name = token[1]
        if name is None:
            _write(_ESCAPES[token[0]], to_stderr)
        elif name in ("stderr", "stdout"):
            to_stderr = name == "stderr"
        elif name == "onerror":
            if stats.failure is None:
                return
        elif name in _VARIABLES:
            _write(str(_VARIABLES[name](stats)), to_stderr)
        else:
            click.echo(f"trickles-get: unknown --write-out variable: {name!r}", err=True)
    _write(template[at:], to_stderr)


def _write(text: str, to_stderr: bool) -> None:
    stream = sys.stderr if to_stderr else sys.stdout
    stream.write(text)
    stream.flush()
