"""Range requests for bytes (RFC 9110 §14), and the multipart body that answers several."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from itertools import pairwise

MOST_RANGES = 16
"""A request for more gets the whole, as RFC 9110 §14.2 allows: most such requests are attacks."""

MOST_BYTES = 1 << 20
"""Several ranges are answered from memory, unlike one; of more bytes than this, with the whole."""

MOST_DIGITS = 18

_SPECIFIER = re.compile(r"[ \t]*bytes=(.*)", re.IGNORECASE | re.DOTALL).fullmatch
_RANGE = re.compile(r"([0-9]*)-([0-9]*)").fullmatch


def _number(digits: str) -> int:
    digits = digits.lstrip("0")
    return int(digits or "0") if len(digits) <= MOST_DIGITS else 10**MOST_DIGITS


def parse_ranges(text: str, size: int) -> list[range] | None:
    """The satisfiable ones of a Range field, as they stand there, for `size` bytes.

    None: to be ignored, because it is malformed, or not worth it. Empty: none can be satisfied.
    """
    found = _SPECIFIER(text)
    if found is None or text.count(",") > 4 * MOST_RANGES:
        return None
    specs = [spec for spec in (spec.strip(" \t") for spec in found[1].split(",")) if spec]
    if not 1 <= len(specs) <= MOST_RANGES:
        return None
    parts: list[range] = []
    for spec in specs:
        bounds = _RANGE(spec)
        if bounds is None or spec == "-":
            return None
        part = _part(bounds[1], bounds[2], size)
        if part is None:
            return None
        if part:
            parts.append(part)
    return parts if len(parts) < 2 or _are_modest(parts) else None


def _part(first: str, last: str, size: int) -> range | None:
    """The bytes meant, none if there are none; None if that is no range."""
    if not first:
        length = _number(last)
        if length and not size:
            return None  # all of nothing: satisfiable, but Content-Range cannot say it
        return range(max(0, size - length), size)
    start = _number(first)
    stop = _number(last) + 1 if last else max(size, start + 1)
    return range(start, min(stop, size)) if start < stop else None


def _are_modest(parts: Iterable[range]) -> bool:
    """None overlaps another, and together they are not too long."""
    ordered = sorted(parts, key=lambda part: part.start)
    if sum(map(len, ordered)) > MOST_BYTES:
        return False
    return all(one.stop <= other.start for one, other in pairwise(ordered))


def content_range(part: range, size: int) -> bytes:
    """The value of Content-Range."""
    return b"bytes %d-%d/%d" % (part.start, part.stop - 1, size)


def boundary_of(etag: bytes, parts: Iterable[range]) -> bytes:
    """The same for the same answer, everywhere: whoever answers again gives the same bytes."""
    name = hashlib.blake2b(etag, digest_size=15)
    for part in parts:
        name.update(b"%d-%d," % (part.start, part.stop))
    return name.hexdigest().encode()


def multipart(
    pieces: Iterable[tuple[range, bytes]], size: int, content_type: bytes, boundary: bytes
) -> bytes:
    """A body of type multipart/byteranges (RFC 9110 §14.6)."""
    lines = []
    for part, data in pieces:
        lines.append(
            b"--%b\r\nContent-Type: %b\r\nContent-Range: %b\r\n\r\n%b\r\n"
            % (boundary, content_type, content_range(part, size), data)
        )
    return b"".join((*lines, b"--%b--\r\n" % boundary))
