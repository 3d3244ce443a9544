"""Header fields at a proxy: which are for it and go no further, and who may use it."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Iterable, Sequence

from trickles_web.proxy.refusal import Header

VIA = b"1.1 trickles"
"""RFC 9110 §7.6.3 wants each message to say that it came by a proxy."""

_FRAMING = {b"content-length", b"transfer-encoding", b"host"}
"""No `Connection` field takes these away: where a message ends is nobody's option."""
_NEXT_HOP_ONLY = {
    b"connection",
    b"keep-alive",
    b"proxy-authorization",
    b"proxy-connection",
    b"te",
    b"upgrade",
}


def forwarded(headers: Iterable[Header]) -> list[Header]:
    """Those that are for the other end, names in lower case or as they were spelt."""
    fields = list(headers)
    dropped = _NEXT_HOP_ONLY | (set(listed(fields, b"connection")) - _FRAMING)
    return [(name, value) for name, value in fields if name.lower() not in dropped]


def request_headers(headers: Sequence[Header], host: bytes) -> list[Header]:
    """Of a request as a server gets it: Host from the URL, whatever it was (RFC 9112 §3.2.2)."""
    kept = [field for field in forwarded(headers) if field[0].lower() != b"host"]
    return [(b"Host", host), *kept, *_upgrade(headers), (b"Via", VIA)]


def response_headers(headers: Sequence[Header]) -> list[Header]:
    """Of a response as the client gets it; an Upgrade field only matters in a 101."""
    return [*forwarded(headers), *_upgrade(headers), (b"Via", VIA)]


def _upgrade(headers: Sequence[Header]) -> list[Header]:
    """It is a matter of both ends here, for the proxy goes along with any."""
    wanted = [field for field in headers if field[0].lower() == b"upgrade"]
    if not wanted or b"upgrade" not in listed(headers, b"connection"):
        return []
    return [(b"Connection", b"Upgrade"), *wanted]


def listed(headers: Iterable[Header], name: bytes) -> list[bytes]:
    """The members of a field that is a list, in lower case."""
    values = [value for field, value in headers if field.lower() == name]
    return [part.strip().lower() for value in values for part in value.split(b",") if part.strip()]


def has_body(headers: Sequence[Header]) -> bool:
    """Does a request have one, if perhaps an empty one?"""
    names = {name.lower() for name, _ in headers}
    return b"transfer-encoding" in names or listed(headers, b"content-length") not in ([], [b"0"])


def is_ambiguous(headers: Sequence[Header]) -> bool:
    """Framed in two ways: another reader may see another end (RFC 9112 §6.3)."""
    return {b"transfer-encoding", b"content-length"} <= {name.lower() for name, _ in headers}


def may_pass(headers: Sequence[Header], credential: bytes) -> bool:
    """Does the request bear `user:password` (RFC 7617)? Takes as long for any wrong one."""
    given = [value for name, value in headers if name.lower() == b"proxy-authorization"]
    scheme, _, token = (given[0] if len(given) == 1 else b"").partition(b" ")
    try:
        told = base64.b64decode(token.strip(), validate=True)
    except binascii.Error:
        return False
    right = hmac.compare_digest(told, credential)
    return right and scheme.lower() == b"basic"
