"""How a transfer fails: curl's exit codes, one line of text, and whether asking again is right."""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass
from enum import IntEnum

import h11

from trickles_web.client.fetch import EmptyReply
from trickles_web.errors import (
    ConnectError,
    FlowError,
    FlowTimeout,
    IdentityError,
    ResponseTruncated,
    VersionsDiffer,
)


class Exit(IntEnum):
    """curl's exit codes, as far as they have a meaning here."""

    OK = 0
    PROTOCOL = 1
    USAGE = 2
    BAD_URL = 3
    UNRESOLVED = 6
    UNCONNECTED = 7
    WEIRD_REPLY = 8
    PARTIAL = 18
    HTTP_ERROR = 22
    WRITE = 23
    READ = 26
    TIMEOUT = 28
    RANGE = 33
    NO_KEY = 35
    REDIRECTS = 47
    EMPTY = 52
    RECEIVE = 56
    IDENTITY = 60
    PIN = 90


_DISTRUST = {
    "pin": Exit.PIN,
    "settings": Exit.USAGE,
    "no key": Exit.NO_KEY,
    "signature": Exit.NO_KEY,
}
"""By the reason of an IdentityError; any other is Exit.IDENTITY."""


class Failure(Exception):
    """Ends a transfer with this code and one line; quiet ones say nothing.

    `transient`: it may go better in a while. `unexecuted`: no server has executed the request, so
    sending it again is right even where twice would be wrong.
    """

    def __init__(
        self,
        code: Exit,
        message: str,
        *,
        quiet: bool = False,
        transient: bool = False,
        unexecuted: bool = False,
        wait_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.quiet = quiet
        self.transient = transient
        self.unexecuted = unexecuted
        self.wait_s = wait_s
        """What the server asked to wait (Retry-After), in seconds."""


@dataclass(frozen=True, slots=True)
class Came:
    """What had come when it failed: bytes, those missing if that is known, after how long."""

    received: int
    missing: int | None
    seconds: float


def explain(error: Exception, came: Came) -> Failure:
    """curl's code and one line for whatever ended a transfer, of OSError, EmptyReply and h11's."""
    if isinstance(error, socket.gaierror):
        text = f"could not resolve host: {error.strerror}"
        return Failure(Exit.UNRESOLVED, text, transient=True, unexecuted=True)
    if isinstance(error, IdentityError):
        return Failure(_DISTRUST.get(error.reason, Exit.IDENTITY), str(error), unexecuted=True)
    if isinstance(error, ConnectError):
        # No continuation has come, and without one no server runs what must not run twice.
        code = Exit.TIMEOUT if error.errno == errno.ETIMEDOUT else Exit.UNCONNECTED
        return Failure(code, str(error), transient=True, unexecuted=True)
    if isinstance(error, TimeoutError) and not isinstance(error, FlowError):
        after = f"after {came.seconds * 1000:.0f} ms with {came.received} bytes received"
        return Failure(Exit.TIMEOUT, f"operation timed out {after}", transient=True)
    if isinstance(error, h11.LocalProtocolError):
        return Failure(Exit.USAGE, f"this request cannot be sent: {error}")
    if isinstance(error, EmptyReply):
        return Failure(Exit.EMPTY, str(error))
    return _broken(error, came)


def _broken(error: Exception, came: Came) -> Failure:
    """The flow or the response came to a bad end: a server was there, and may have done it."""
    if came.missing and isinstance(error, (ResponseTruncated, h11.RemoteProtocolError)):
        why = f" ({error})" if isinstance(error, ResponseTruncated) else ""
        text = f"transfer ended with {came.missing} bytes missing{why}"
        return Failure(Exit.PARTIAL, text, transient=True)
    if isinstance(error, ResponseTruncated):
        text = f"transfer broke off after {came.received} bytes: {error}"
        return Failure(Exit.PARTIAL, text, transient=True)
    if isinstance(error, FlowTimeout):
        return Failure(Exit.TIMEOUT, f"{error}, after {came.received} bytes", transient=True)
    if isinstance(error, h11.RemoteProtocolError):
        partial = "without sending complete message body" in str(error)
        code = Exit.PARTIAL if partial else Exit.WEIRD_REPLY
        return Failure(code, f"bad response: {error}", transient=partial)
    transient = isinstance(error, FlowError) and not isinstance(error, VersionsDiffer)
    return Failure(Exit.RECEIVE, str(error) or type(error).__name__, transient=transient)
