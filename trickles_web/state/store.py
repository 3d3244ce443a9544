"""The interface of soft state. All is keyed (incarnation, exchange), both minted by servers.

Anything may be gone at any call, but for two things: responses whose application call still runs,
and live entries of the ledger. Whoever uses a store must give right bytes or a typed error all the
same: a wipe takes even those two, and then the id tells.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from trickles_web.state.ledger import Claim, Entry
    from trickles_web.state.prefixes import Prefix
    from trickles_web.state.spool import Spool

MOST_APPENDED = 16 << 20
"""Bytes of one response that are appended as they are produced. Whoever goes on with it reads them
at once and holds them in memory, and endless streams must not fill a store for nothing."""

_PUBLISHED = struct.Struct(">BIHBIIQ")
"""Failed, authorised_at, lengths of progress and name; the part."""

Key = tuple[int, int]
"""(incarnation, exchange number)."""


class Kept(Protocol):
    """What the store needs to know of a response. `size`: bytes. `running`: not evictable."""

    @property
    def size(self) -> int: ...
    @property
    def running(self) -> bool: ...


R = TypeVar("R", bound=Kept)


class Part(NamedTuple):
    """The bytes of a response that its producer has appended to the store so far.

    Each production has a part of its own, so bytes of two of them never mix.
    """

    owner: int = 0
    serial: int = 0
    """Of this owner's parts."""
    length: int = 0


EMPTY = Part()


class Published(NamedTuple):
    """A whole response, as processes hand it to each other."""

    progress: bytes
    """As sealed for it."""
    data: tuple[bytes | bytearray, ...]
    """Its bytes on the wire, in pieces; none where the progress says how to have them, or the part.
    """
    name: bytes
    """Digest of the data, where it is known."""
    failed: bool
    authorised_at: int
    """Unix seconds."""
    part: Part = EMPTY
    """Where the data is, if it was appended as it was produced."""

    def pack(self) -> list[bytes | bytearray]:
        """As stores keep it, in pieces."""
        lengths = len(self.progress), len(self.name)
        head = _PUBLISHED.pack(self.failed, self.authorised_at, *lengths, *self.part)
        return [head, self.progress, self.name, *self.data]

    @classmethod
    def unpack(cls, data: bytes) -> Published | None:
        """What `pack` made, None if it was something else."""
        at = _PUBLISHED.size
        if len(data) < at:
            return None
        failed, authorised_at, length, named, *part = _PUBLISHED.unpack_from(data)
        name, rest = at + length, at + length + named
        progress, named_by = data[at:name], data[name:rest]
        return cls(progress, (data[rest:],), named_by, bool(failed), authorised_at, Part(*part))

    def joined(self, appended: bytes) -> Published | None:
        """With the bytes of its part, None if `appended` is not all of them."""
        if len(appended) != self.part.length:
            return None
        return self._replace(data=(appended,), part=EMPTY)


class Store(Protocol, Generic[R]):
    """Spools, responses and the ledger of one service. Times are wall-clock ms.

    Some stores are shared by several processes: each has its own spools and running responses
    there, the ledger is one, and whole responses may be handed over.
    """

    id: int
    """32-bit random name of these contents, never 0. A store that lost its ledger has a new one."""
    owner: int
    """32-bit random name of this process among those that share the store; 0: it is not shared."""

    def full_for(self, key: Key) -> bool:
        """The running response to `key` should wait for its client.

        There is no room even after eviction, or its prefix has more than half of it; loopback may.
        """
        ...

    def response(self, key: Key, now: int) -> R | None:
        """The response to `key`, running or finished."""
        ...

    def keep(self, key: Key, response: R, now: int, prefix: Prefix = None) -> None:
        """Hold `response` in place of what the key had. Finished ones may go at any time.

        prefix: of the client. What is too much goes from the prefix that holds most.
        """
        ...

    def replace(self, key: Key, running: R, finished: R, now: int) -> bool:
        """Hold the response that came of a running one; False if that is not held any more."""
        ...

    def finished(self) -> list[R]:
        """All responses that are held here and do not run."""
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

    def open_spool(self, key: Key, start: int, now: int, prefix: Prefix = None) -> Spool:
        """The same, made if it is not there: from stream offset `start` on, for such a client."""
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

    def claim(self, key: Key, digest: bytes, now: int, prefix: Prefix = None) -> Claim:
        """Reserve the one execution of an unsafe request, bound to the digest of its bytes.

        prefix: of the client.
        """
        ...

    def claimed(self, key: Key) -> Entry | None:
        """The ledger's entry of `key`."""
        ...

    def ended(self, key: Key, now: int) -> None:
        """The execution of an unsafe request is over."""
        ...

    def knows(self, key: Key, now: int, owner: int = 0) -> bool:
        """True if what others have of `key`, and whether `owner` lives, can be told now; else the
        service is called later.
        """
        ...

    def declare_unknown(self, key: Key) -> None:
        """What came of the unsafe request `key` is not known, and stays so."""
        ...

    def settled(self, key: Key) -> bool:
        """False while it is not certain that what was published of `key` is kept."""
        ...

    def alive(self, owner: int) -> bool:
        """Is `owner` another process that lives?"""
        ...

    def another(self) -> int:
        """Another process that lives, for what is new; 0 if there is none."""
        ...

    def elsewhere(self, key: Key) -> int:
        """Another process that lives and has the exchange `key`, 0 if none is known."""
        ...

    def announce(self, key: Key, now: int) -> None:
        """Tell the others that this process has the exchange: spools it, or runs it."""
        ...

    def append(self, key: Key, part: Part, piece: bytes, now: int) -> Part | None:
        """Keep bytes that were produced after those of `part` (EMPTY: the first ones).

        None: nothing of it is kept any more, because there is no room, or it was lost.
        """
        ...

    def give_up(self, key: Key) -> None:
        """Nothing that was appended of `key` from here will be published: it takes no room."""
        ...

    def publish(self, key: Key, response: Published, now: int) -> None:
        """Keep a whole response where the others find it. Does nothing if there is no room."""
        ...

    def published(self, key: Key, now: int) -> Published | None:
        """The whole response that some process has published."""
        ...

    def wipe(self, random: bytes) -> None:
        """Lose everything; `random` (at least 4 bytes) makes the new id."""
        ...
