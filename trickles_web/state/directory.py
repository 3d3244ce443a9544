"""Soft state that the processes of one machine share: a run directory on tmpfs.

Beside the memory of each process, one exchange has up to four files here, named by its key:

    KEY.c   claim     digest, owner, time; made by link(2), so exactly one process makes it
    KEY.o   owner     whoever spools the request, or runs the application for it
    KEY.r   response  whole, so that it outlives the process that produced it
    KEY.b-OWNER-N     the bytes of a large response, appended as OWNER produces them
    s-OWNER-N         was a KEY.r, and will be another (see `spares`)

Files appear whole and are replaced whole, but for the last kind: KEY.r says how long it must be.
Times of modification say when they were last of use. What cannot be written (directory full, or
gone) makes claims fail; all else goes on without it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import struct
from pathlib import Path
from typing import Final

from trickles_web.state import rundir
from trickles_web.state.ledger import LIFE_MS, Claim, Entry, Ledger
from trickles_web.state.memory import LIMITS, Limits, MemoryStore
from trickles_web.state.prefixes import Prefix
from trickles_web.state.spares import Spares, publish
from trickles_web.state.store import EMPTY, MOST_APPENDED, Key, Part, Published, R

MOST_KEYS = 16_384
"""Exchanges whose files here are known to be from this process: 3 MB."""

_CLAIM: Final = struct.Struct(">8sIQ")
_OWNER: Final = struct.Struct(">I")

logger = logging.getLogger("trickles.error")


class DirectoryStore(MemoryStore[R]):
    """The store of one process among those that share `directory`. Call `sweep` now and then."""

    def __init__(
        self,
        directory: Path,
        random: bytes,
        limits: Limits = LIMITS,
        ledger: Ledger | None = None,
    ) -> None:
        """`random`: 8 bytes. `most_bytes` bounds this process's memory, and the directory too.

        Raises UsageError.
        """
        super().__init__(random, limits, ledger)
        self.directory = directory
        rundir.open_directory(directory)
        self.id = rundir.store_id(directory, random)
        self.owner = int.from_bytes(random[4:8], "big") or 1
        self._life = rundir.Life(directory, self.owner)
        self._stored = 0
        """Bytes of responses in the directory: as swept last, and what was written since."""
        self._spares = Spares(directory, self.owner, self.most_bytes)
        self._mine: dict[Key, int] = {}
        """Wall-clock ms by which the directory was given files of this key from here, the
        oldest first."""
        self._parts: dict[Key, Part] = {}
        """Of these keys, bytes were appended from here."""
        self._serial = 0
        self._complained = False
        self.lost = False
        """The directory is not there any more, or another process has made it anew."""
        self.ledger.forgotten = self._unclaim

    def close(self) -> None:
        """Leave the directory: what this process ran has ended."""
        self._spares.clear()
        self._life.end()

    def renew(self, random: bytes) -> None:
        """Begin anew where a directory was taken away: `lost` said so. `random`: 4 bytes.

        Claims went with it, so the id changes. Raises UsageError.
        """
        self._life.forget()
        rundir.open_directory(self.directory)
        self.id = rundir.store_id(self.directory, random)
        self._life = rundir.Life(self.directory, self.owner)
        self.ledger.clear()
        self._stored = 0
        self._spares.clear()
        self._complained = self.lost = False

    def wipe(self, random: bytes) -> None:
        """Lose what memory holds, but for the ledger. The directory outlives any process."""
        self._clear()
        self._parts.clear()

    def _path(self, key: Key, kind: str) -> str:
        return f"{self.directory}/{key[0]:x}-{key[1]:x}.{kind}"

    # Who has it

    def alive(self, owner: int) -> bool:
        """Is `owner` another process that lives?"""
        return owner not in (0, self.owner) and rundir.alive(self.directory, owner)

    def another(self) -> int:
        """Another process that lives, 0 if none."""
        with contextlib.suppress(OSError, ValueError):
            return next(filter(self.alive, rundir.owners(self.directory)), 0)
        return 0

    def elsewhere(self, key: Key) -> int:
        """Another process that lives and has the exchange `key`, 0 if none."""
        owner = self._written_owner(key)
        return owner if self.alive(owner) else 0

    def _written_owner(self, key: Key) -> int:
        claim = self._read(self._path(key, "c"), _CLAIM.size)
        if claim is not None:
            return int(_CLAIM.unpack(claim)[1])
        owner = self._read(self._path(key, "o"), _OWNER.size)
        return int(_OWNER.unpack(owner)[0]) if owner is not None else 0

    def announce(self, key: Key, now: int) -> None:
        """Tell the others that this process has the exchange."""
        if key not in self._mine:
            self._note(key, now)
            self._replace(key, "o", [_OWNER.pack(self.owner)], now)

    def _note(self, key: Key, now: int) -> None:
        """The directory has files of this key from here. Those forgotten go when their time is
        over.
        """
        self._mine.pop(key, None)
        self._mine[key] = now
        if len(self._mine) > MOST_KEYS:
            self._disown(next(iter(self._mine)))

    def _disown(self, key: Key) -> None:
        self._mine.pop(key, None)
        self._parts.pop(key, None)

    # Responses

    def append(self, key: Key, part: Part, piece: bytes, now: int) -> Part | None:
        """Keep bytes that were produced after those of `part`: one write(2).

        Only in half of the room: the other half is for what is whole.
        """
        flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC
        if part == EMPTY:
            self.give_up(key)
            self._serial += 1
            part = Part(self.owner, self._serial)
            flags |= os.O_CREAT | os.O_EXCL
        elif self._parts.get(key) != part:
            return None
        longer = part._replace(length=part.length + len(piece))
        room = self.most_bytes // 2 - self._stored
        self._parts[key] = longer
        self._note(key, now)
        try:
            if longer.length <= MOST_APPENDED and len(piece) <= room:
                rundir.append(self._part_path(key, part), piece, flags, now)
                self._stored += len(piece)
                return longer
        except FileNotFoundError:
            pass  # it was not of use for too long
        except OSError as error:
            self._complain(error)
        self.give_up(key)
        return None

    def _part_path(self, key: Key, part: Part) -> str:
        return self._path(key, f"b-{part.owner:08x}-{part.serial:x}")

    def give_up(self, key: Key) -> None:
        """Nothing that was appended of `key` will be published."""
        part = self._parts.pop(key, None)
        if part is not None:
            self._discard(self._part_path(key, part))

    def publish(self, key: Key, response: Published, now: int) -> None:
        """Put a whole response where the others find it."""
        content = response.pack()
        size = sum(map(len, content))
        if self._stored + size > self.most_bytes:
            return
        part = response.part
        if part != EMPTY and not rundir.touch(self._part_path(key, part), part.length, now):
            return
        try:
            publish(self._path(key, "r"), self._spares.take(size), content, now)
        except OSError as error:
            self._complain(error)
        else:
            self._note(key, now)
            self._stored += size

    def published(self, key: Key, now: int) -> Published | None:
        """The whole response to `key`, whoever produced it."""
        data = rundir.read(self._path(key, "r"), -1, now)
        response = None if data is None else Published.unpack(data)
        if response is None or response.part == EMPTY:
            return response
        appended = rundir.read(self._part_path(key, response.part), MOST_APPENDED + 1, now)
        return None if appended is None else response.joined(appended)

    def drop(self, key: Key) -> None:
        """Forget the response and the spool of `key`, here and in the directory."""
        super().drop(key)
        if self._mine.pop(key, None) is not None:  # what others made goes when its time is over
            self.give_up(key)
            self._discard(self._path(key, "r"), spare=True)
            with contextlib.suppress(OSError):
                os.unlink(self._path(key, "o"))

    def _discard(self, path: str, *, spare: bool = False) -> None:
        """Remove bytes of a response, so that there is room for others even before the next sweep.

        spare: the file may as well be kept for the next one.
        """
        with contextlib.suppress(OSError):
            size = os.stat(path).st_size
            if not (spare and self._spares.keep(path, size)):
                os.unlink(path)
            self._stored = max(0, self._stored - size)

    # The ledger

    def claim(self, key: Key, digest: bytes, now: int, prefix: Prefix = None) -> Claim:
        """Reserve the one execution of an unsafe request, among all processes."""
        granted = self.ledger.claim(key, digest, now, prefix)
        if granted is not Claim.GRANTED:
            return granted
        content = _CLAIM.pack(digest, self.owner, now)
        try:
            made = rundir.create(self._path(key, "c"), content, now)
        except OSError as error:
            self._complain(error)
            self.ledger.withdraw(key)
            return Claim.DOWN  # another process may have been granted it
        if made and not self._is_lost():
            return Claim.GRANTED
        self.ledger.withdraw(key)
        if made:  # under an id by which nobody knows what was claimed before
            self._unclaim(key)
            return Claim.DOWN
        entry = self.claimed(key)
        return Claim.CONFLICT if entry is not None and entry.digest != digest else Claim.KNOWN

    def claimed(self, key: Key) -> Entry | None:
        """The entry of an unsafe request that was started by any process."""
        entry = self.ledger.find(key)
        if entry is None:
            content = self._read(self._path(key, "c"), _CLAIM.size)
            if content is not None:
                digest, _, claimed = _CLAIM.unpack(content)
                entry = Entry(digest, claimed)
        return entry

    def _unclaim(self, key: Key) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self._path(key, "c"))

    # Upkeep

    def _is_lost(self) -> bool:
        """Is the directory another one than that whose id this process has, or none?"""
        try:
            return rundir.read_id(self.directory) != self.id
        except OSError as error:
            return isinstance(error, FileNotFoundError)

    def sweep(self, now: int) -> None:
        """Remove what has had its time; may be called from another thread. now: wall ms.

        Of responses that are too many the oldest go first, but not those of live claims.
        """
        responses: dict[str, list[tuple[int, int, str]]] = {}
        claims: set[str] = set()
        self.lost = self._is_lost()
        try:
            with os.scandir(self.directory) as entries:
                found = [(entry.name, entry.stat()) for entry in entries]
        except OSError as error:
            self._complain(error)
            return
        for name, status in found:
            if name.endswith(".c"):
                if self._is_live(name, status, now):
                    claims.add(name[:-2])
                else:
                    self._remove(name)
        for name, status in found:
            touched = status.st_mtime_ns // 1_000_000
            if name.startswith("w-"):
                self._bury(name)
            elif name != "id" and not name.endswith(".c"):
                # Drafts of processes that died have a name of their own.
                key, _, kind = name.partition(".")
                if key not in claims and touched + self.ttl_ms < now:
                    self._remove(name)
                elif kind == "r" or kind.startswith("b-"):
                    responses.setdefault(key, []).append((touched, status.st_size, name))
        self._stored = self._remove_oldest(responses, claims)
        for mine in [key for key, at in self._mine.copy().items() if at + 2 * LIFE_MS <= now]:
            self._disown(mine)

    def _remove_oldest(
        self, responses: dict[str, list[tuple[int, int, str]]], claims: set[str]
    ) -> int:
        """Remove what is too much, the files of a key together; returns the bytes that are left.

        responses: time of last use, size and name of each file, by key.
        """
        used = sum(size for files in responses.values() for _, size, _ in files)
        for key in sorted(responses, key=lambda key: max(responses[key])):
            if used <= self.most_bytes:
                break
            if key not in claims:
                for _, size, name in responses[key]:
                    self._remove(name)
                    used -= size
        return used

    def _is_live(self, name: str, status: os.stat_result, now: int) -> bool:
        """A claim goes with its process's ledger, or, if that process is dead, by its age."""
        if status.st_mtime_ns // 1_000_000 + LIFE_MS > now:
            return True
        content = self._read(f"{self.directory}/{name}", _CLAIM.size)
        if content is None:
            return False
        owner = _CLAIM.unpack(content)[1]
        return owner == self.owner or rundir.alive(self.directory, owner)

    def _bury(self, name: str) -> None:
        try:
            owner = int(name[2:10], 16)
        except ValueError:
            return
        if owner != self.owner and not rundir.alive(self.directory, owner):
            self._remove(name)

    def _remove(self, name: str) -> None:
        with contextlib.suppress(OSError):
            os.unlink(f"{self.directory}/{name}")

    # Files

    def _read(self, path: str, size: int) -> bytes | None:
        """The file's bytes, None unless it is there with exactly `size` of them."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            content = os.read(fd, size + 1)
        except OSError:
            return None
        finally:
            os.close(fd)
        return content if len(content) == size else None

    def _replace(self, key: Key, kind: str, parts: list[bytes | bytearray], now: int) -> bool:
        """Put a file in place of what was there; False if that cannot be done."""
        path = self._path(key, kind)
        try:
            os.rename(rundir.write_draft(path, parts, now), path)
        except OSError as error:
            self._complain(error)
            return False
        return True

    def _complain(self, error: OSError) -> None:
        if not self._complained:
            self._complained = True
            logger.error(
                "The store in %s cannot be written (%s): requests that change something get 503",
                self.directory,
                error.strerror or error,
            )
