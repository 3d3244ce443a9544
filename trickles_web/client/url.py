"""trickles:// URLs, and the sizes and rates that command lines take."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, urljoin, urlsplit, urlunsplit

from trickles_web.errors import UsageError

DEFAULT_PORT = 8000
"""UDP port of trickles-serve when nobody names one."""

SCHEME = "trickles"

_UNITS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5}
_RATE = re.compile(r"(\d+(?:\.\d+)?|\.\d+)([kKmMgGtTpP]?)[bB]?", re.ASCII)
_PATH_SAFE = "/?:@!$&'()*+,;=-._~%[]|^`{}\"<>\\"
"""Sent as typed: servers judge a target, a client only keeps it one line of ASCII."""


@dataclass(frozen=True, slots=True)
class Url:
    """Where a request goes: `host` without brackets, `target` beginning with "/"."""

    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """The Host header's value. With the port always: trickles:// has none that all assume."""
        return join_authority(self.host, self.port)


def join_authority(host: str, port: int) -> str:
    """`host:port`, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_url(text: str) -> Url:
    """Read `[trickles://]host[:port][/path][?query][#fragment]`; the fragment is not sent.

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
    if parts.scheme.lower() != SCHEME:
        raise UsageError(f"bad URL {text!r}: the scheme must be {SCHEME}://")
    if "@" in parts.netloc:
        raise UsageError(f"bad URL {text!r}: a user name or password has no place here")
    if not host:
        raise UsageError(f"bad URL {text!r}: no host in it")
    if port == 0:
        raise UsageError(f"bad URL {text!r}: port 0")
    return Url(host, port or DEFAULT_PORT, _target(parts))


def followed(location: str, url: str) -> str:
    """Where a response to a request for `url`, of trickles://, sends its client; absolute.

    To the server that was asked, by trickles:// again, though applications know themselves as
    http://. What cannot be read as a URL stays as it is.
    """
    try:
        asked = urlsplit(url)
        target = urlsplit(urljoin(urlunsplit(asked._replace(scheme="http")), location))
    except ValueError:
        return location
    if target.scheme == "http" and target.netloc.lower() == asked.netloc.lower():
        return urlunsplit(target._replace(scheme=SCHEME))
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
