"""The command line of trickles-get, checked, by what it is about."""

from __future__ import annotations

from dataclasses import dataclass, field

from trickles_web.cli.trusting import Trusting
from trickles_web.client.url import Url

STDIO = "-"


@dataclass(frozen=True, slots=True)
class Asking:
    """What is asked of each URL."""

    method: str = ""
    """From --request; "": what follows from the rest."""
    head: bool = False
    headers: tuple[str, ...] = ()
    data: bytes | None = None
    json: bool = False
    """Is the data JSON? Else a form."""
    byte_range: str = ""
    redirects: int = 0
    """Followed at most; -1: any number."""


@dataclass(frozen=True, slots=True)
class Saving:
    """Where things go, apart from each URL's own file."""

    include: bool = False
    continues: bool = False
    at: int | None = None
    """Where --continue-at begins; None: at the size of the file."""
    create_dirs: bool = False
    remove_on_error: bool = False
    dump_header: str = ""
    write_out: str = ""


@dataclass(frozen=True, slots=True)
class Retrying:
    """When a transfer is tried again. Seconds; `delay` 0: 1, 2, 4 and so on."""

    count: int = 0
    delay: float = 0.0
    max_time: float = 0.0
    all_errors: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """Of the whole run (rate, parallel), or of each transfer. 0: none."""

    rate: float = 0.0
    max_time: float | None = None
    connect_timeout: float | None = None
    parallel: int = 1
    fail_early: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """One URL. `output`: a path, or `-`. `upload`: a path, `-`, or "" for none."""

    url: Url
    output: str = STDIO
    upload: str = ""


@dataclass(frozen=True, slots=True)
class Options:
    """All of it."""

    jobs: tuple[Job, ...]
    asking: Asking = field(default_factory=Asking)
    saving: Saving = field(default_factory=Saving)
    retrying: Retrying = field(default_factory=Retrying)
    limits: Limits = field(default_factory=Limits)
    trusting: Trusting = field(default_factory=Trusting)
    replicas: tuple[tuple[str, int], ...] = ()
    fail: bool = False
    silent: bool = False
    show_error: bool = False
    verbose: bool = False

    @property
    def quiet(self) -> bool:
        """No messages?"""
        return self.silent and not self.show_error
