"""What a proxy answers by itself, in place of the server that was asked for."""

from __future__ import annotations

import errno
import os

import h11

from trickles_web.errors import ConnectError, FlowError, OutcomeUnknown

Header = tuple[bytes, bytes]

NO_TLS = (
    "no server speaks TLS over Trickles: ask for http://, which is private with --private, or name "
    "the hosts that are to be asked over Trickles with --only, and all others are reached over TCP"
)
REALM = b'Basic realm="trickles", charset="UTF-8"'


class Refusal(Exception):
    """Ends a request with this status. `reason` is the short text that wget, pip and others show;
    `text`, one line, says what failed and what to do."""

    def __init__(
        self, status: int, reason: str, text: str, headers: tuple[Header, ...] = ()
    ) -> None:
        super().__init__(text)
        self.status = status
        self.reason = reason
        self.text = text
        self.headers = headers


def no_credential() -> Refusal:
    text = "this proxy is for those who know its user name and password"
    return Refusal(407, "Proxy Authentication Required", text, ((b"Proxy-Authenticate", REALM),))


def no_tls(place: object) -> Refusal:
    return Refusal(502, "No TLS over Trickles", f"{place}: {NO_TLS}")


def malformed(error: h11.ProtocolError) -> Refusal:
    """The client's bytes are no HTTP."""
    status = error.error_status_hint
    reason = {431: "Request Header Fields Too Large", 501: "Not Implemented"}.get(status)
    return Refusal(status, reason or "Bad Request", f"the request is not HTTP: {error}")


def unresolved(host: str, error: OSError) -> Refusal:
    why = error.strerror or error
    return Refusal(502, "Host Not Found", f"cannot resolve {host!r}: {why}; look for a misspelling")


def failed(place: object, error: Exception) -> Refusal:
    """The server could not be reached, or has failed before it was done."""
    if isinstance(error, h11.ProtocolError):
        return Refusal(502, "Bad Answer", f"the answer of {place} is not whole or no HTTP: {error}")
    if isinstance(error, OutcomeUnknown):
        unknown = ((b"Trickles-Outcome", b"unknown"),)
        return Refusal(502, "Outcome Unknown", f"{place}: {error}", unknown)
    silent = isinstance(error, TimeoutError) or getattr(error, "errno", None) == errno.ETIMEDOUT
    text = _told(place, error)
    return Refusal(504, "No Answer", text) if silent else Refusal(502, "Nobody Answers", text)


def _told(place: object, error: Exception) -> str:
    if isinstance(error, ConnectError):
        return str(error)  # it names the place
    if isinstance(error, FlowError):
        return f"{place}: {error}"
    number = getattr(error, "errno", None)
    why = os.strerror(number) if number else str(error) or "no answer in time"
    return f"TCP {place}: {why}; what --only does not name is asked over TCP"
