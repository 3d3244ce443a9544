"""Conditional requests (RFC 9110 §13) for representations with an entity tag and a date."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
_MONTH = f"(?P<month>{'|'.join(_MONTHS)})"
_TIME = r"(?P<hour>[0-2][0-9]):(?P<minute>[0-5][0-9]):(?P<second>[0-5][0-9]|60)"
_SHORT_DAY = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_LONG_DAY = "(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day"
_DATES = [
    re.compile(form).fullmatch
    for form in (
        rf"{_SHORT_DAY}, (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT",
        rf"{_LONG_DAY}, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT",
        rf"{_SHORT_DAY} {_MONTH} (?P<day>[ 0-9][0-9]) {_TIME} (?P<year>[0-9]{{4}})",
    )
]
"""The three forms of an HTTP-date (RFC 9110 §5.6.7)."""

_TAG = re.compile(r'[ \t,]*(W/)?("[!#-~\x80-\xff]*")[ \t]*(?:,|$)').match


@dataclass(frozen=True, slots=True)
class Validators:
    """What names a representation."""

    etag: str
    """A strong one, in its quotes."""
    modified: int
    """Unix seconds."""


def parse_date(text: str) -> int | None:
    """Unix seconds, or None if it is no HTTP-date."""
    for form in _DATES:
        found = form(text.strip(" \t"))
        if found is not None:
            break
    else:
        return None
    year = int(found["year"])
    if len(found["year"]) == 2:
        year += 2000 if year < 70 else 1900
    month = _MONTHS.index(found["month"]) + 1
    clock = int(found["hour"]), int(found["minute"]), min(int(found["second"]), 59)
    try:
        moment = datetime(year, month, int(found["day"]), *clock, tzinfo=UTC)
    except ValueError:
        return None
    return int(moment.timestamp())


def _tags(text: str) -> list[tuple[bool, str]]:
    """(is weak, opaque tag) of a list of entity tags; none of a malformed one."""
    tags: list[tuple[bool, str]] = []
    at = 0
    while at < len(text):
        found = _TAG(text, at)
        if found is None:
            return tags if not text[at:].strip(" \t,") else []
        tags.append((found[1] is not None, found[2]))
        at = found.end()
    return tags


def matches(text: str, etag: str, *, weakly: bool) -> bool:
    """Is `etag`, a strong one, in this list? `*` names anything (RFC 9110 §8.8.3.2)."""
    if text.strip(" \t") == "*":
        return True
    return any(tag == etag and (weakly or not weak) for weak, tag in _tags(text))


def outcome(fields: Mapping[str, str], validators: Validators) -> int:
    """200, 304 or 412 for a GET or HEAD with these header fields (RFC 9110 §13.2.2)."""
    etag, modified = validators.etag, validators.modified
    if "if-match" in fields:
        if not matches(fields["if-match"], etag, weakly=False):
            return 412
    else:
        date = parse_date(fields.get("if-unmodified-since", ""))
        if date is not None and modified > date:
            return 412
    if "if-none-match" in fields:
        if matches(fields["if-none-match"], etag, weakly=True):
            return 304
    else:
        date = parse_date(fields.get("if-modified-since", ""))
        if date is not None and modified <= date:
            return 304
    return 200


def allows_range(fields: Mapping[str, str], validators: Validators, now: int) -> bool:
    """If-Range, if it is there: does the client have a part of this very representation?

    A date says so only when it is exact, and when the second that it names is over, within which
    there could have been two versions (RFC 9110 §13.1.5, §8.8.2.2). now: unix seconds.
    """
    if "if-range" not in fields:
        return True
    text = fields["if-range"].strip(" \t")
    if text.endswith('"'):
        return text == validators.etag
    return parse_date(text) == validators.modified < now
