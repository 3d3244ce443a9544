"""A safe request whose response is lost is run again, from the same bytes as the first time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trickles_web.http.progress import MOST_RERUNS, Progress, called
from trickles_web.http.reader import read_whole
from trickles_web.http.request import Malformed
from trickles_web.http.responses import PENDING, Held, Need, Refuse
from trickles_web.state import Conflict
from trickles_web.transport.wire import Code

if TYPE_CHECKING:
    from trickles_web.config import HttpConfig
    from trickles_web.http.assembly import Assembly
    from trickles_web.http.checkpoints import Rerun
    from trickles_web.http.runner import Answer, KeptResponse, Runner
    from trickles_web.state import Key, Store
    from trickles_web.state.backing import Backing
    from trickles_web.transport.redeemed import Redeemed


class Reruns:
    """Keeps nothing: what is missing for a run, it asks for."""

    def __init__(
        self,
        config: HttpConfig,
        store: Store[KeptResponse],
        runner: Runner,
        assembly: Assembly,
    ) -> None:
        self._config = config
        self._store = store
        self._runner = runner
        self._assembly = assembly

    def run(self, key: Key, p: Progress, r: Redeemed, now: int, how: Rerun) -> Answer:
        """Run exchange `p`'s request again, once its bytes are here."""
        if not r.may_run:
            return Held(p.request_end, r.progress, complete=True)
        if self._runner.is_full_for(r):
            return Refuse(Code.BUSY)
        skip = p.request_start - r.request_offset
        length = p.request_end - p.request_start
        data: bytes | Backing
        if r.request_bytes and skip >= 0 and len(r.request_bytes) - skip >= length:
            data = r.request_bytes[skip : skip + length]
            reader = read_whole(self._config, data)
        else:
            if not r.validated:
                return Held(p.request_end, r.progress, complete=True)
            try:
                spool = self._assembly.write(key, p.request_start, r, now, p.request_end)
            except Conflict:
                return Refuse(Code.CONFLICT)
            if spool.starved:
                return self.busy(key)
            missing = spool.missing(p.request_end)
            if missing:
                return Need(missing)
            # Read once all is here: what is malformed then ends where it ended the first time.
            if spool.behind:
                return PENDING
            data, reader = spool.data, self._assembly.read(key, spool)
            if reader.behind:
                return PENDING
            if spool.starved:
                return self.busy(key)
        outcome = reader.outcome
        if outcome is None or outcome.length != length or reader.name != p.request_digest:
            same = reader.agrees(data, length, p.request_digest)
            if same is None:
                return self._assembly.later(key)
            self._store.close_spool(key)
            return Refuse(Code.UNKNOWN if same else Code.CONFLICT)  # same: another version's
        if isinstance(outcome, Malformed) or not outcome.safe:
            self._store.close_spool(key)
            return Refuse(Code.UNKNOWN)  # who called the application for it read it otherwise
        again = called(p, p.request_end, p.request_digest, p.date)  # the date stays
        again.reruns = min(p.reruns + 1, MOST_RERUNS)
        reader.take(data, p.request_start)
        self._runner.rerun += 1
        return self._runner.start(key, again, outcome, r, now, how)

    def busy(self, key: Key) -> Refuse:
        """The disk has no room for these bytes now; perhaps it will."""
        self._store.close_spool(key)
        return Refuse(Code.BUSY)
