"""Which coding of a representation a client prefers (RFC 9110 §12.5.3)."""

from __future__ import annotations

import re
from collections.abc import Sequence

IDENTITY = "identity"

LEAST = 0.0001
"""Weight of the identity where nothing is said of it: acceptable, after all that was named."""

_ALIASES = {"x-gzip": "gzip"}  # RFC 9110 §8.4.1.3
_ITEM = re.compile(
    r"([-!#$%&'*+.^_`|~0-9a-z]+)[ \t]*(?:;[ \t]*q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?))?"
).fullmatch


def choose(accepted: str | None, codings: Sequence[str]) -> str:
    """The best of `codings`, which stand in our own order of preference, or the identity.

    accepted: the Accept-Encoding field, None if there is none. Malformed items do not count. Where
    nothing is acceptable it is the identity: better than an error.
    """
    if accepted is None or not codings:
        return IDENTITY
    weights: dict[str, float] = {}
    for item in accepted.lower().split(","):
        found = _ITEM(item.strip(" \t"))
        if found is not None:
            weights[_ALIASES.get(found[1], found[1])] = float(found[2] or 1)
    best, most = IDENTITY, weights.get(IDENTITY, weights.get("*", LEAST))
    for coding in reversed(codings):
        weight = weights.get(coding, weights.get("*", 0.0))
        if weight >= most and weight > 0:
            best, most = coding, weight
    return best
