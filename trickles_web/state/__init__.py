"""Soft state: whatever a server keeps that costs only time when it is lost.

`Store` is the interface, `MemoryStore` the one for a single process, `DirectoryStore` the one for
all processes of a machine.
"""

from __future__ import annotations

from trickles_web.state.directory import DirectoryStore
from trickles_web.state.ledger import Claim, Entry, Ledger
from trickles_web.state.memory import Limits, MemoryStore
from trickles_web.state.spool import Conflict, Spool
from trickles_web.state.store import EMPTY, Kept, Key, Part, Published, Store

__all__ = [
    "EMPTY",
    "Claim",
    "Conflict",
    "DirectoryStore",
    "Entry",
    "Kept",
    "Key",
    "Ledger",
    "Limits",
    "MemoryStore",
    "Part",
    "Published",
    "Spool",
    "Store",
]
