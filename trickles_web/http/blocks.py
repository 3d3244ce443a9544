"""The header lines of a request, read: and read once, where a client sends the same again.

Most clients do: from one request to the next only the request line differs. What was made of a
block of lines follows from its bytes alone, so it is kept by them, not by who sent them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from trickles_web.http import heads
from trickles_web.http.heads import RequestError
from trickles_web.http.parsers import Parse
from trickles_web.http.request import HEADER_OVERHEAD

MOST_KEPT: Final = 512
LONGEST_KEPT: Final = 2048
"""Bytes. Together with the number of lines a head may have, at most 10 MB are kept."""

_LOOKED_AT: Final = frozenset((b"host", b"connection", b"expect", b"upgrade"))
_LINES: Final = {True: b"GET / HTTP/1.0\r\n", False: b"GET / HTTP/1.1\r\n"}


class Block:
    """Header lines up to the empty one. Names are lower-case.

    `length`: bytes of body that they announce, or CHUNKED. `options`: what Connection says.
    `upgrade`: the protocol asked for. `size`: bytes of memory.
    """

    __slots__ = ("expects_continue", "headers", "length", "options", "size", "upgrade")

    def __init__(self, headers: list[tuple[bytes, bytes]], length: int) -> None:
        """Raises RequestError for what concerns a server and makes no sense."""
        self.headers = headers
        self.length = length
        self.size = 0
        found: dict[bytes, bytes] = {}
        for name, value in headers:
            self.size += HEADER_OVERHEAD + len(name) + len(value)
            if name in _LOOKED_AT:
                found[name] = found[name] + b"," + value if name in found else value
        host = found.get(b"host")
        # RFC 9112 §3.2. The empty one is right where the target has no authority.
        if host and not heads.is_authority(host):
            raise RequestError(400, "bad Host")
        self.expects_continue = b"expect" in found and heads.expects_continue(found[b"expect"])
        connection = found.get(b"connection", b"").lower()
        self.options = [option.strip() for option in connection.split(b",")]
        self.upgrade = found.get(b"upgrade", b"")


def _read(lines: bytes, old: bool, parse: Parse) -> Block:
    length = heads.check_lines(lines, old)
    return Block(parse(_LINES[old] + lines).headers, length)


_read_once = lru_cache(maxsize=MOST_KEPT)(_read)


def read_block(lines: bytes, old: bool, parse: Parse) -> Block:
    """What header lines say, in a request of HTTP/1.0 (`old`) or 1.1. Raises RequestError."""
    if len(lines) > LONGEST_KEPT:
        return _read(lines, old, parse)
    return _read_once(lines, old, parse)
