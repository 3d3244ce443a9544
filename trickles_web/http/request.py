"""A request that has been read, or what is wrong with it."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Final
from urllib.parse import unquote

from trickles_web.errors import UsageError
from trickles_web.http.intake import Intake
from trickles_web.state.backing import Backing

SAFE_METHODS: Final = frozenset(("GET", "HEAD", "OPTIONS", "TRACE"))
"""RFC 9110 §9.2.1. Every other method may change something, so it runs at most once."""

HEADER_OVERHEAD: Final = 136
REQUEST_OVERHEAD: Final = 512
"""Bytes that a header line, and a request without any, cost in memory beside their own."""

logger = logging.getLogger("trickles.error")


class Malformed:
    """A request that gets an error page: `status`, for the first `length` bytes looked at."""

    __slots__ = ("length", "reason", "status")

    def __init__(self, status: int, reason: str, length: int = 0) -> None:
        self.status = status
        self.reason = reason
        self.length = length

    @property
    def passing(self) -> bool:
        """Not the request's fault: another replica, or this one later, may read it and run it."""
        return self.status == 503

    def log(self) -> None:
        """Say who is to blame: the client, or this server's disk."""
        if self.status < 500:
            logger.warning("Invalid HTTP request received: %s.", self.reason)
        else:
            logger.error("HTTP request refused: %s.", self.reason)


class Request:
    """A whole request of `length` bytes on the wire. Header names are lower-case.

    Of a `streamed` one this is the head only; the rest is `intake`'s. It is not `safe`, because it
    cannot be run again, whatever its method.

    `target` is in origin-form, or `*`; of one in absolute-form the authority has become the Host.

    `safe`: it may run again; `never_rerun` says at which paths that is not left to the method.

    `size`: bytes of memory without the body. `body` is there once `Reader.take` was called.
    """

    __slots__ = (
        "body",
        "closes",
        "expects_continue",
        "headers",
        "intake",
        "length",
        "method",
        "safe",
        "size",
        "streamed",
        "target",
        "version",
        "websocket",
    )

    def __init__(
        self,
        method: str,
        target: bytes,
        version: str,
        headers: list[tuple[bytes, bytes]],
        closes: bool,
        never_rerun: Iterable[str] = (),
        headers_size: int = 0,
    ) -> None:
        """headers_size: bytes of memory of the headers."""
        self.method = method
        self.target = target
        self.version = version
        self.headers = headers
        self.closes = closes
        self.safe = method in SAFE_METHODS and not (
            never_rerun and any(fnmatchcase(self.path, glob) for glob in never_rerun)
        )
        self.streamed = self.websocket = self.expects_continue = False
        self.intake: Intake | None = None
        self.body: bytes | Backing = b""
        self.length = 0
        self.size = REQUEST_OVERHEAD + len(target) + headers_size

    @property
    def path(self) -> str:
        """Decoded and without the query; bytes that are no UTF-8 become U+FFFD."""
        path = self.target.partition(b"?")[0].decode("ascii")
        return unquote(path) if "%" in path else path

    def drop_body(self) -> None:
        """Nobody reads it any more, or the rest of it."""
        if isinstance(self.body, Backing):
            self.body.close()
        self.body = b""
        if self.intake is not None:
            self.intake.close()


def check_globs(globs: Iterable[str]) -> None:
    """Raises UsageError for a pattern that matches no path: it would protect nothing."""
    for glob in globs:
        if not glob.startswith(("/", "*", "?", "[")):
            reason = f"no path matches {glob!r}; paths begin with /, as in '/{glob or '*'}'"
            raise UsageError(f"--never-rerun: {reason}")
