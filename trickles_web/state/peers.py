"""The processes that share a store: who lives, and where they take datagrams."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

MOST_GONE: Final = 8_192


class Peers:
    """As one of them, `owner`, knows them since it renewed its lease."""

    def __init__(self, owner: int) -> None:
        self._owner = owner
        self._addresses: dict[int, str] = {}
        """Host, blank, port, of all that have a lease."""
        self._gone: dict[int, None] = {}
        """Those that had none when they were asked for."""

    def learn(self, told: list[bytes]) -> None:
        """told: owner and address of each that has a lease, one after the other."""
        pairs = zip(told[::2], told[1::2], strict=True)
        self._addresses = {int(owner, 16): address.decode() for owner, address in pairs}

    def alive(self, owner: int) -> bool:
        """Is `owner` another process whose lease had not run out lately?"""
        return owner != self._owner and owner in self._addresses

    def another(self) -> int:
        """Another process whose lease had not run out lately, 0 if none."""
        return next((owner for owner in self._addresses if owner != self._owner), 0)

    def address(self, owner: int) -> tuple[str, int] | None:
        """Where another process takes datagrams."""
        host, _, port = self._addresses.get(owner, "").rpartition(" ")
        return (host, int(port)) if host else None

    def strangers(self, *owners: int) -> list[int]:
        """Those that may have begun since: who is taken for dead has its calls given up."""
        known = (0, self._owner)
        return [
            owner
            for owner in owners
            if owner not in known and owner not in self._addresses and owner not in self._gone
        ]

    def asked_for(self, owners: Iterable[int]) -> None:
        """Those of them that are not known by now are strangers no more."""
        self._gone.update(dict.fromkeys(owners))
        while len(self._gone) > MOST_GONE:
            del self._gone[next(iter(self._gone))]
