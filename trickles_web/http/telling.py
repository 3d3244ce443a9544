"""What other processes get of the responses that are produced here: the bytes, as they come or at
their end.

    done at once, and safe   put off until something is owed that the first answer does not bring:
                             writing it down costs as much as sending it
    slow, or unsafe          at its end
    larger than its buffer   as it is produced
    checkpointed             nothing: others can go on with it
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from trickles_web.http.responses import Finished
from trickles_web.state.store import EMPTY

if TYPE_CHECKING:
    from trickles_web.http.files import FileResponse
    from trickles_web.http.run import Run
    from trickles_web.http.runner import KeptResponse
    from trickles_web.state import Key, Part, Store
    from trickles_web.transport.redeemed import Redeemed

FIRST_FLIGHT: Final = 8_192
"""Bytes that any first answer brings, or nearly: 10 datagrams (RFC 6928)."""

APPENDED_AT_ONCE: Final = 65_536
"""Bytes: what is produced goes to the store in pieces of at least so many, because each costs some
system calls. A response that is whole before the first piece goes there as a whole."""


class Telling:
    """Keeps nothing itself: what of it was told, a response says."""

    def __init__(self, store: Store[KeptResponse], clock: Callable[[], int]) -> None:
        """clock: wall-clock ms."""
        self._store = store
        self._now = clock

    def produced(self, run: Run) -> None:
        """Let the store have what was produced since last time, if that is worth it."""
        # What it has lost, as when it was wiped, is not published any more.
        if run.part is not None and self._store.response(run.key, self._now()) is run:
            self._append(run, APPENDED_AT_ONCE)

    def _append(self, run: Run, least: int) -> None:
        """The same, if that is `least` bytes or more."""
        part = run.part
        if part is None:
            return
        if run.checkpoints is not None:
            run.part = None
            self._store.give_up(run.key)
            return
        at = run.start + part.length
        if run.available - at >= least:
            piece = bytes(run.read(at, run.available))
            run.part = self._store.append(run.key, part, piece, self._now())

    def completed(self, run: Run, response: Finished | FileResponse, *, at_once: bool) -> None:
        """All of it is there. at_once: do not put it off."""
        if run.part != EMPTY:
            self._append(run, 1)
        if at_once or run.p.unsafe or run.announced or run.part != EMPTY:
            self._publish(run.key, response, run.part or EMPTY)
        elif isinstance(response, Finished):
            response.put_off = True

    def answered(self, response: Finished, r: Redeemed) -> None:
        """One that was put off is given to its client."""
        length = response.available - response.base
        if response.told or length > max(FIRST_FLIGHT, r.first_flight):
            self._catch_up(response)
        response.told = True

    def everything(self) -> None:
        """Put off no longer what was put off: this process is about to end."""
        for response in self._store.finished():
            if isinstance(response, Finished) and response.put_off:
                self._catch_up(response)

    def _catch_up(self, response: Finished) -> None:
        response.put_off = False
        self._publish(response.key, response, EMPTY)

    def _publish(self, key: Key, response: Finished | FileResponse, part: Part) -> None:
        """part: its bytes, where the store has them already."""
        published = response.published(part)
        if published is not None:
            self._store.publish(key, published, self._now())
        else:
            self._store.give_up(key)
