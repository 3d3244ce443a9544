"""What a request head must be, whichever parser reads it (RFC 9112 §2 to §5, §6.1, §11.2).

Parsers differ on what they tolerate: h11 takes control characters, folded lines, bare LF, equal
lengths; httptools takes any transfer coding, two Hosts, none; each has its own idea of a target.
What is here stands before both and lets nothing pass on which they differ, so that they cannot.
Whatever is ambiguous is an error: two readers of one request are how smuggling works.
"""

from __future__ import annotations

import re
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from trickles_web.config import HttpConfig

MOST_HEADERS: Final = 128
"""Header lines: parsing takes 2 us for each, and each takes more memory than it has bytes."""

MOST_BLANKS: Final = 1024
"""Spaces and tabs in header lines: h11 takes 0.3 us for each word of a value."""

MOST_METHOD: Final = 32
"""Bytes; the longest registered one has 17 (UPDATEREDIRECTREF)."""

LINE_ROOM: Final = 64
"""Bytes of a request line beside its target: the method, two spaces, the version."""

MOST_AUTHORITY: Final = 300
"""Bytes of a host and its port: a DNS name has 253 at most (RFC 1035 §2.3.4)."""

MOST_EXPECT: Final = 256
"""Bytes of an Expect field, which says one word."""

CHUNKED: Final = -1
"""In place of a length: the body comes in chunks."""
ENDLESS: Final = -2
"""What follows is no body but a WebSocket, which has no end."""

_TOKEN: Final = rb"[-!#$%&'*+.^_`|~0-9a-zA-Z]++"
_REQUEST_LINE: Final = re.compile(rb"(" + _TOKEN + rb") ([!-~]++) HTTP/1\.([01])\r\n").match
_VERSION: Final = re.compile(rb" HTTP/[0-9]\.[0-9]").fullmatch
# RFC 9110 §5.5: visible characters, blanks and obs-text. Thus no bare CR or LF, no NUL, no folded
# line (its name would begin with a blank), no blank before the colon (RFC 9112 §5.1).
_HEADER_LINES: Final = re.compile(rb"(?:" + _TOKEN + rb":[\t -~\x80-\xff]*+\r\n)*+\r\n").fullmatch
_NUMBER: Final = re.compile(rb"[0-9]{1,18}").fullmatch

_LENGTH: Final = b"\r\ncontent-length:"
_CODING: Final = b"\r\ntransfer-encoding:"
_HOST: Final = b"\r\nhost:"
_ONCE: Final = (_HOST, _LENGTH, _CODING)

# RFC 3986 §3.1, §3.2. A fragment is no part of a target, and blanks are none already.
_ABSOLUTE: Final = re.compile(rb"([A-Za-z][-+.0-9A-Za-z]*+)://([^/?]*+)([^#]*+)").fullmatch
# RFC 3986 §3.2.2 and §3.2.3, without user information and the address forms of the future.
_AUTHORITY: Final = re.compile(
    rb"(?:\[([0-9A-Fa-f:.]{2,45})\]|(?:[-._~!$&'()*+,;=0-9A-Za-z]|%[0-9A-Fa-f]{2})++)"
    rb"(?::([0-9]{0,5}))?"
).fullmatch


class RequestError(Exception):
    """Carries status and reason to the one place that answers."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def check_lines(lines: bytes, old: bool) -> int:
    """Bytes of body that header lines, with the empty one at their end, announce, or CHUNKED.

    Raises RequestError for what the parsers, or other readers, could understand differently.
    """
    if lines.count(b"\r\n") > MOST_HEADERS + 1:
        raise RequestError(431, "too many header lines")
    if lines.count(b" ") + lines.count(b"\t") > MOST_BLANKS:
        raise RequestError(431, "too many words in header lines")
    if not _HEADER_LINES(lines):
        raise RequestError(400, "bad header line")
    # Parsers merge equal lengths, and "0, 0", into one number.
    folded = b"\r\n" + lines.lower()
    for name in _ONCE:
        if folded.count(name) > 1:
            raise RequestError(400, "repeated " + name[2:-1].decode())
    if not old and _HOST not in folded:
        raise RequestError(400, "no Host")  # RFC 9112 §3.2
    length, coding = _value(folded, _LENGTH), _value(folded, _CODING)
    if coding is not None:
        # RFC 9112 §6.1: beside a length, or in HTTP/1.0, this is what an attack looks like.
        if length is not None or old:
            raise RequestError(400, "Transfer-Encoding beside Content-Length or in HTTP/1.0")
        if coding != b"chunked":
            raise RequestError(501, "unknown transfer coding")
        return CHUNKED
    if length is None:
        return 0
    if not _NUMBER(length):
        raise RequestError(400, "bad Content-Length")
    return int(length)


def _value(folded: bytes, name: bytes) -> bytes | None:
    at = folded.find(name)
    if at < 0:
        return None
    return folded[at + len(name) : folded.find(b"\r\n", at + 2)].strip(b" \t")


def read_line(head: bytes, config: HttpConfig) -> tuple[str, bytes, bool, int]:
    """Method, target, whether it is HTTP/1.0, and where the header lines of a head begin.

    Raises RequestError.
    """
    line = _REQUEST_LINE(head, 0, config.max_target_bytes + LINE_ROOM + 2)
    if line is None:
        end = head.find(b"\r\n")
        if end > config.max_target_bytes + LINE_ROOM:
            raise RequestError(414, "request target too long")
        version = head[max(0, end - 9) : end]
        if _VERSION(version) and version not in (b" HTTP/1.1", b" HTTP/1.0"):
            raise RequestError(505, "unknown HTTP version")
        raise RequestError(400, "bad request line")
    method, target, minor = line.groups()
    _check_target(method, target, config.max_target_bytes)
    return method.decode("ascii"), target, minor == b"0", line.end()


def _check_target(method: bytes, target: bytes, most: int) -> None:
    """RFC 9112 §3.2: origin-form, absolute-form, or OPTIONS for the server as a whole."""
    if len(target) > most:
        raise RequestError(414, "request target too long")
    # RFC 9110 §9.1: 501 for what is not implemented, and no origin server is a tunnel (§9.3.6).
    if method == b"CONNECT" or len(method) > MOST_METHOD:
        raise RequestError(501, "method not implemented")
    if b"#" in target:
        raise RequestError(400, "fragment in the request target")
    if target == b"*":
        if method != b"OPTIONS":
            raise RequestError(400, "asterisk is a target of OPTIONS only")
    elif not target.startswith(b"/"):
        resolve(method.decode("ascii"), target)


def resolve(method: str, target: bytes) -> tuple[bytes, bytes]:
    """Origin-form and authority of an absolute-form target. Raises RequestError."""
    found = _ABSOLUTE(target)
    if found is None:
        raise RequestError(400, "bad request target")
    scheme = found[1].lower()
    if scheme == b"https":
        # RFC 9110 §7.4: nothing here proves that this server may speak for that origin.
        raise RequestError(421, "https target without TLS")
    if scheme != b"http" or not is_authority(found[2]):
        raise RequestError(400, "bad request target")
    rest = found[3]
    if rest.startswith(b"/"):
        return rest, found[2]
    if method == "OPTIONS" and not rest:  # RFC 9112 §3.2.4
        return b"*", found[2]
    return b"/" + rest, found[2]


def is_authority(value: bytes) -> bool:
    """Whether this is `host` or `host:port` of an http URI (RFC 9110 §4.2.1): no empty host."""
    found = _AUTHORITY(value) if len(value) <= MOST_AUTHORITY else None
    if found is None or (found[2] and int(found[2]) > 65_535):
        return False
    if found[1]:
        try:
            IPv6Address(found[1].decode("ascii"))
        except ValueError:
            return False
    return True


def expects_continue(value: bytes) -> bool:
    """Whether an Expect field asks for 100 Continue; what else it asks for is a RequestError."""
    if len(value) > MOST_EXPECT:
        raise RequestError(417, "unknown expectation")
    members = {member.strip(b" \t").lower() for member in value.split(b",")} - {b""}
    if members - {b"100-continue"}:
        raise RequestError(417, "unknown expectation")
    return bool(members)
