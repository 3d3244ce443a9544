"""URLs of trickles:// and trickless://, and the pins, sizes and rates that command lines take."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, urljoin, urlsplit, urlunsplit

from trickles_web.config import PRIVATE_SCHEME, SCHEME
from trickles_web.errors import UsageError

PIN_IN_CONFIG = (
    "a key in a URL is for command lines: give ClientConfig(private=Trust(pin='sha256//...'))"
)
DEFAULT_PORT = 8000
"""UDP port of trickles-serve when nobody names one."""

SCHEMES = (SCHEME, PRIVATE_SCHEME)

_PIN = re.compile(r"sha256//([A-Za-z0-9+/]{43})=")
_PIN_IN_URL = re.compile(r"sha256:([A-Za-z0-9_-]{43})")
_UNITS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5}
_RATE = re.compile(r"(\d+(?:\.\d+)?|\.\d+)([kKmMgGtTpP]?)[bB]?", re.ASCII)
_THEIRS = ("http", "https")
_PATH_SAFE = "/?:@!$&'()*+,;=-._~%[]|^`{}\"<>\\"
"""Sent as typed: servers judge a target, a client only keeps it one line of ASCII."""


@dataclass(frozen=True, slots=True)
class Url:
    """Where a request goes: `host` without brackets, `target` beginning with "/"."""

    host: str
    port: int
    target: str
    private: bool = False
    pin: str | None = None
    """Of the server's key, as `parse_pin` has it. It is not sent."""

    @property
    def scheme(self) -> str:
        return PRIVATE_SCHEME if self.private else SCHEME

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"

    @property
    def authority(self) -> str:
        """The Host header's value. With the port always: there is none that all assume."""
        return join_authority(self.host, self.port)


def join_authority(host: str, port: int) -> str:
    """`host:port`, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_url(text: str) -> Url:
    """Read `[trickles://]host[:port][/path][?query][#fragment]`; the fragment is not sent.

    `trickless://[sha256:PIN@]host...` is private, and may name the server's key: PIN is that of
    `parse_pin` in the alphabet of URLs, without padding.

    Raises UsageError, one line that names the URL and what is wrong with it.
    """
    if not text or any(ord(c) <= 0x20 or ord(c) == 0x7F for c in text):
        raise UsageError(
            f"bad URL {text!r}: it is empty, or has a space or control character in it"
        )
    whole = text if "://" in text else f"{SCHEME}://{text}"
    try:
        parts = urlsplit(whole)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError(f"bad URL {text!r}: {error}") from None
    if parts.scheme not in SCHEMES:
        raise UsageError(
            f"bad URL {text!r}: the scheme must be {SCHEME}://, or {PRIVATE_SCHEME}:// for a "
            "private flow"
        )
    private = parts.scheme == PRIVATE_SCHEME
    user, at, _ = parts.netloc.rpartition("@")
    pin = _pin_in_url(user) if private and user.startswith("sha256:") else None
    if at and pin is None:
        raise UsageError(
            f"bad URL {text!r}: a user name or password has no place here, only the server's key "
            f"as in {PRIVATE_SCHEME}://sha256:KEY@HOST:PORT/"
        )
    if not host:
        raise UsageError(f"bad URL {text!r}: no host in it")
    if port == 0:
        raise UsageError(f"bad URL {text!r}: port 0")
    return Url(host, port or DEFAULT_PORT, _target(parts), private, pin)


def parse_pin(text: str) -> str:
    """Read the name of a server's key, `sha256//` and base64, as the server prints it at its start.

    Raises UsageError.
    """
    match = _PIN.fullmatch(text)
    if match is None:
        raise UsageError(
            f"bad pin {text!r}: give sha256// and 44 characters of base64, as the server prints it "
            "at its start"
        )
    return _pin(match[1])


def _pin_in_url(user: str) -> str | None:
    match = _PIN_IN_URL.fullmatch(user)
    return None if match is None else _pin(match[1].translate(str.maketrans("-_", "+/")))


def _pin(digits: str) -> str:
    """One hash can be written in four ways: the last digit has two bits too many."""
    return "sha256//" + b64encode(b64decode(digits + "=")).decode()


def names_key(url: str) -> bool:
    """Has it a pin in it? HTTP libraries would send that, as a user's name and password."""
    try:
        return urlsplit(url).username == "sha256"
    except ValueError:
        return False


def followed(location: str, url: str) -> str:
    """Where a response to a request for `url`, of one of our schemes, sends its client; absolute.

    To the server that was asked, by our scheme again, though applications know themselves as
    http:// and https://. What was asked for privately is followed privately or not at all. What
    cannot be read as a URL stays as it is.
    """
    try:
        asked = urlsplit(url)
        target = urlsplit(urljoin(urlunsplit(asked._replace(scheme="http")), location))
    except ValueError:
        return location
    was_private = asked.scheme == PRIVATE_SCHEME
    if target.scheme in _THEIRS and target.netloc.lower() == asked.netloc.lower():
        private = was_private or target.scheme == "https"
        return urlunsplit(target._replace(scheme=PRIVATE_SCHEME if private else SCHEME))
    if was_private and target.scheme == SCHEME:
        return urlunsplit(target._replace(scheme=PRIVATE_SCHEME))
    return location


def _target(parts: SplitResult) -> str:
    query = f"?{parts.query}" if parts.query else ""
    return quote(f"{parts.path or '/'}{query}", safe=_PATH_SAFE)


def parse_rate(text: str) -> float:
    """Bytes per second from "500k", "10M", "1.5G", multiples of 1024 as curl's; "0" is no limit.

    Raises UsageError.
    """
    match = _RATE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"bad rate {text!r}: give bytes per second, such as 500k, 10M or 1G")
    return float(match[1]) * 1024.0 ** _UNITS[match[2].upper()]


def parse_listen(text: str) -> tuple[str, int]:
    """Read `host:port`, `[v6]:port` or `:port` (all interfaces: an empty host) to listen on.

    Raises UsageError.
    """
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if (
        not colon
        or not (port.isascii() and port.isdigit())
        or int(port) > 65_535
        or (":" in host and not bracketed)
        or any(c.isspace() or c == "/" for c in host)
    ):
        raise UsageError(f"bad address {text!r}: give HOST:PORT, such as 127.0.0.1:8080")
    return (host[1:-1] if bracketed else host), int(port)
