"""Networks of clients: what one client could be, and so what shares a cap."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

Prefix = str | int | None
"""An IPv4 /24 or an IPv6 /56; None for loopback."""


@lru_cache(maxsize=4096)
def prefix_of(host: str) -> Prefix:
    """The prefix of an address, without a scope's name.

    Loopback is exempt from caps: a gateway's many clients all come from there.
    """
    if ":" not in host:
        return None if host.startswith("127.") else host.rpartition(".")[0]
    if host == "::1":
        return None
    return int(ipaddress.IPv6Address(host.partition("%")[0])) >> 72


class PerPrefix:
    """How much of something each prefix has, of which none may have more than `most`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._counts: dict[Prefix, int] = {}

    def full(self, prefix: Prefix) -> bool:
        """Has this prefix all that it may have?"""
        return prefix is not None and self._counts.get(prefix, 0) >= self._most

    def add(self, prefix: Prefix) -> None:
        """One more."""
        if prefix is not None:
            self._counts[prefix] = self._counts.get(prefix, 0) + 1

    def remove(self, prefix: Prefix) -> None:
        """One less of those added."""
        if prefix is not None:
            left = self._counts[prefix] - 1
            if left:
                self._counts[prefix] = left
            else:
                del self._counts[prefix]
