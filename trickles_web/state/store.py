"""The interface of soft state. All is keyed (incarnation, exchange), both minted by servers.

Anything may be gone at any call, but for two things: responses whose application call still runs,
and live entries of the ledger. Whoever uses a store must give right bytes or a typed error all the
same: a wipe takes even those two, and then the id tells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from trickles_web.state.ledger import Claim, Entry
    from trickles_web.state.spool import Spool

Key = tuple[int, int]
"""(incarnation, exchange number)."""


class Kept(Protocol):
    """What the store needs to know of a response. `size`: bytes. `running`: not evictable."""

    @property
    def size(self) -> int: ...
    @property
    def running(self) -> bool: ...


R = TypeVar("R", bound=Kept)


class Store(Protocol, Generic[R]):
    """Spools, responses and the ledger of one service. Times are wall-clock ms."""

    id: int
    """32-bit random name of these contents, never 0. A store that lost its ledger has a new one."""

    @property
    def full(self) -> bool:
        """No room even after eviction: running responses should wait for their clients."""
        ...

    def response(self, key: Key, now: int) -> R | None:
        """The response to `key`, running or finished."""
        ...

    def keep(self, key: Key, response: R, now: int) -> None:
        """Hold `response` in place of what the key had. Finished ones may go at any time."""
        ...

    def resized(self, key: Key, response: R) -> None:
        """`response.size` has changed. Nothing happens if the store does not hold it any more."""
        ...

    def drop(self, key: Key) -> None:
        """Forget the response and the spool of `key`, not its ledger entry."""
        ...

    def spool(self, key: Key, now: int) -> Spool | None:
        """The request bytes held for `key`."""
        ...

    def open_spool(self, key: Key, start: int, now: int) -> Spool:
        """The same, made if it is not there: from stream offset `start` on."""
        ...

    def write(self, key: Key, spool: Spool, offset: int, piece: bytes, limit: int) -> None:
        """Add request bytes to a spool just returned. Raises Conflict."""
        ...

    def charge(self, key: Key, spool: Spool, reading_size: int) -> None:
        """Account for what reading the spool costs in memory: `reading_size` bytes by now."""
        ...

    def close_spool(self, key: Key) -> None:
        """Forget the request bytes of `key`."""
        ...

    def claim(self, key: Key, digest: bytes, now: int) -> Claim:
        """Reserve the one execution of an unsafe request, bound to the digest of its bytes."""
        ...

    def claimed(self, key: Key) -> Entry | None:
        """The ledger's entry of `key`."""
        ...

    def ended(self, key: Key, now: int) -> None:
        """The execution of an unsafe request is over."""
        ...

    def wipe(self, random: bytes) -> None:
        """Lose everything; `random` (at least 4 bytes) makes the new id."""
        ...
