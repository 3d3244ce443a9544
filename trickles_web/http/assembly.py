"""Requests of several datagrams: their bytes, read as they come, a bounded part of them at a time.

A datagram that fills a gap can make megabytes readable at once. What one call leaves undone is done
in later turns of the event loop, and whoever waits for it is told.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from trickles_web.http.reader import Reader, most_request_bytes
from trickles_web.http.responses import PENDING, Pending
from trickles_web.http.scope import network_of
from trickles_web.state.backing import DiskError

if TYPE_CHECKING:
    from trickles_web.config import HttpConfig
    from trickles_web.state import Key, Spool, Store
    from trickles_web.state.store import Kept
    from trickles_web.transport.redeemed import Redeemed

    R = TypeVar("R", bound=Kept)


class Assembly:
    """The spools of a store and their readers."""

    def __init__(
        self,
        config: HttpConfig,
        store: Store[R],
        *,
        soon: Callable[[Callable[[], None]], None],
        on_ready: Callable[[int], None],
        clock: Callable[[], int],
    ) -> None:
        """soon(f): call f in the event loop's next turn. clock: wall-clock ms."""
        self._config = config
        self._store = store
        self._soon = soon
        self._on_ready = on_ready
        self._clock = clock
        self._queue: dict[Key, None] = {}
        """Spools that have more to be read."""

    def write(self, key: Key, start: int, r: Redeemed, now: int, limit: int = 0) -> Spool:
        """The spool from stream offset `start` on, with `r`'s bytes. Raises Conflict.

        limit: offset where the request ends, if that is known.
        """
        limit = limit or start + most_request_bytes(self._config)
        spool = self._store.open_spool(key, start, now, network_of(r, self._config))
        self._store.announce(key, now)
        self._store.write(key, spool, r.request_offset, r.request_bytes, limit)
        if spool.behind:
            self._enqueue(key)
        return spool

    def read(self, key: Key, spool: Spool) -> Reader:
        """The spool's reader, as far as it came. Its outcome is a 503 if the spool is starved.

        RFC 9110 §15.6.4: a shared disk is full for a while, nothing was executed, and the client
        may come again. A 507 (RFC 4918 §11.5) would forbid it to do so by itself.
        """
        reader = spool.reading
        if not isinstance(reader, Reader):
            reader = spool.reading = Reader(self._config, spool.disk)
        self._go_on_reading(key, spool, reader)
        if reader.behind:
            self._enqueue(key)
        return reader

    def _go_on_reading(self, key: Key, spool: Spool, reader: Reader) -> None:
        try:
            reader.read(spool.data)
        except DiskError as error:
            spool.starved = str(error)
        if spool.starved:
            reader.refuse(503, spool.starved)
        self._store.charge(key, spool, reader.size)

    def later(self, key: Key) -> Pending:
        """Whoever wants this spool read is told in another turn of the loop."""
        self._enqueue(key)
        return PENDING

    def _enqueue(self, key: Key) -> None:
        if not self._queue:
            self._soon(self._go_on)
        self._queue[key] = None

    def _go_on(self) -> None:
        """One step for one spool in each turn of the loop."""
        key = next(iter(self._queue))
        del self._queue[key]
        try:
            if self._one_step(key):
                self._queue[key] = None
            else:
                self._on_ready(key[0])
        finally:
            if self._queue:
                self._soon(self._go_on)

    def _one_step(self, key: Key) -> bool:
        """Is there more to be done for this spool?"""
        spool = self._store.spool(key, self._clock())
        if spool is None:
            return False
        self._store.write(key, spool, spool.held, b"", spool.held)
        if isinstance(spool.reading, Reader):
            self._go_on_reading(key, spool, spool.reading)
            if spool.reading.behind:
                return True
        return spool.behind
