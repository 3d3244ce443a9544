"""When the bytes of a response are lost: may it be made again, from where, and for whom?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trickles_web.http.checkpoints import Rerun, decode
from trickles_web.http.progress import MOST_RERUNS, Body, Progress, ProgressError
from trickles_web.http.responses import Finished, Need, Refuse
from trickles_web.transport.wire import Code

if TYPE_CHECKING:
    from trickles_web.http.runner import KeptResponse
    from trickles_web.transport.redeemed import Redeemed


def rerun(p: Progress, r: Redeemed) -> Rerun | Need | Refuse:
    """May the response be made again, and from where?"""
    if p.kind is Body.CHECKPOINT and not r.noted:
        return Need([(p.request_start, p.request_end)])  # the note comes with it
    if p.reruns >= MOST_RERUNS:
        return Refuse(Code.GONE)
    if r.note is not None:
        try:
            checkpoint = decode(r.note.progress)
        except ProgressError:
            return Refuse(Code.GONE)
        if checkpoint.exchange != p.exchange or r.note.firm < p.response_start:
            return Refuse(Code.GONE)
        return Rerun(None, r.note.firm, checkpoint)
    if r.handed_on and p.kind in (Body.MEMORY, Body.CHECKPOINT) and not p.reproducible:
        return Refuse(Code.GONE)
    return Rerun(name_of(p) if r.handed_on else None)


def name_of(p: Progress) -> bytes:
    """The digest of the whole response, b"" if it is not sealed."""
    return p.edition.to_bytes(4, "big") + p.response_check if p.reproducible else b""


def _differs(kept: KeptResponse, p: Progress, r: Redeemed) -> bool:
    """Has the reader got bytes of another edition of this checkpointed response?"""
    if p.kind is not Body.CHECKPOINT or not r.handed_on:
        return False
    return kept.edition not in (0, r.edition) and r.edition != 0


def is_surpassed(kept: KeptResponse, p: Progress, r: Redeemed) -> bool:
    """Does the client have a later checkpoint than the one that this went on from?"""
    return _differs(kept, p, r) and r.note is not None and r.note.firm > kept.joins


def contradiction(kept: KeptResponse, p: Progress, r: Redeemed) -> Need | Refuse | None:
    """Why this response may not be given to who has handed on bytes of another."""
    name = name_of(p)
    if r.handed_on and name and isinstance(kept, Finished) and kept.name != name:
        return Refuse(Code.GONE)
    if not _differs(kept, p, r):
        return None
    if not r.noted:
        return Need([(p.request_start, p.request_end)])
    if r.note is not None and r.note.firm < kept.joins:
        return Refuse(Code.CLOSED)  # a late copy of what started an earlier call
    return None
