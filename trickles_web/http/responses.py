"""What `Service.answer` gives: responses that can be read, and the five other outcomes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from trickles_web.http.checkpoints import Checkpoints
from trickles_web.http.names import digest, edition_of
from trickles_web.http.pieces import Pieces
from trickles_web.http.progress import UNKNOWN, Body, called, encode
from trickles_web.state.store import EMPTY, Part, Published
from trickles_web.transport.wire import Code

if TYPE_CHECKING:
    from trickles_web.http.intake import Intake
    from trickles_web.http.names import Names
    from trickles_web.http.progress import Progress
    from trickles_web.http.run import Run
    from trickles_web.state.store import Key
    from trickles_web.transport.note import Note

KEPT_WHOLE: Final = 65_536
"""Bytes: a response no larger is kept whole; of larger ones, what the client has is forgotten."""

KEPT_BEHIND: Final = 262_144
"""Bytes kept below what the client has: late and repeated datagrams still ask for them."""


class Pending:
    """Nothing to send yet: park the request until `on_ready`.

    `run`: the call that was begun for this very request, if that is what it waits for.
    """

    __slots__ = ("run",)

    def __init__(self, run: Run | None = None) -> None:
        self.run = run


PENDING: Final = Pending()


@dataclass(frozen=True, slots=True)
class Held:
    """The request is not whole, or may not run yet: acknowledge it with this progress.

    `held`: stream offset below which its bytes are here. `complete`: that is all of it. `room`: the
    request is open, and so many bytes more are taken; its answer is awaited all the same. -1: not.
    `taken`: all of this datagram's bytes are here, or were not needed. `begins`: there may be more
    to say now to who waits for an answer to this request.
    """

    held: int
    progress: bytes
    complete: bool = False
    room: int = -1
    taken: bool = True
    begins: bool = True


@dataclass(frozen=True, slots=True)
class Need:
    """Ranges of the request stream that have to be sent again."""

    ranges: list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Forward:
    """Another process has this exchange: give it the datagram."""

    owner: int


@dataclass(frozen=True, slots=True)
class Refuse:
    """This exchange will not go on here."""

    code: Code


class Finished:
    """A response whose bytes are all in memory, or all that there will ever be (`failed`)."""

    __slots__ = (
        "authorised_at",
        "available",
        "checkpoints",
        "closes",
        "data",
        "edition",
        "end",
        "failed",
        "joins",
        "key",
        "name",
        "progress",
        "put_off",
        "request_digest",
        "request_start",
        "request_wanted",
        "start",
        "told",
    )
    open = False
    running = False

    def __init__(
        self,
        key: Key,
        p: Progress,
        progress: bytes,
        data: Pieces,
        authorised_at: int,
        name: bytes = b"",
        failed: bool = False,
        checkpoints: Checkpoints | None = None,
        joins: int = -1,
    ) -> None:
        """`data`: all of it from some stream offset on. `name`: of the whole, where it is known.

        `joins`: see the transport; -1: at the start.
        """
        self.key = key
        self.progress = progress
        self.start = p.response_start
        self.request_start = p.request_start
        self.request_wanted = p.request_end
        self.request_digest = p.whole_digest
        self.edition = p.edition
        self.closes = p.closes
        self.data = data
        self.available = data.stop
        self.end: int | None = p.response_end if p.response_end >= 0 else None
        self.authorised_at = authorised_at
        self.name = name
        self.failed = failed
        self.checkpoints = checkpoints
        self.joins = p.response_start if joins < 0 else joins
        self.put_off = False
        """Other processes have not got it, and need not, if the first answer is all that it takes.
        """
        self.told = False
        """There was a first answer."""

    @property
    def size(self) -> int:
        checkpoints = 0 if self.checkpoints is None else self.checkpoints.size
        return len(self.data) + len(self.progress) + checkpoints

    @property
    def base(self) -> int:
        """Stream offset where `data` begins."""
        return self.data.base

    def noted(self, stop: int) -> Note | None:
        """The note for a client that gets the bytes below `stop`."""
        return None if self.checkpoints is None else self.checkpoints.at(stop)

    def read(self, start: int, stop: int) -> bytes | memoryview:
        """Bytes [start, stop) of the response stream. Raises ResponseGone."""
        return self.data.read(start, stop)

    def published(self, part: Part) -> Published | None:
        """The response for other processes, unless its beginning is forgotten.

        part: all of its bytes, where the store has them already, or EMPTY. Of a checkpointed one
        others need none: they can go on with it.
        """
        if self.checkpoints is not None or (part == EMPTY and self.base != self.start):
            return None
        data = tuple(self.data.all()) if part == EMPTY else ()
        return Published(self.progress, data, self.name, self.failed, self.authorised_at, part)

    def trim(self, received: int) -> bool:
        """Forget what the client has; True if `size` changed."""
        if self.checkpoints is not None:
            self.checkpoints.forget(received)
        useless = min(received, self.available) - KEPT_BEHIND - self.base
        return useless >= KEPT_WHOLE and self.data.forget(self.base + useless)


CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


def go_on(key: Key, p: Progress, now: int) -> Finished:
    """100 Continue (RFC 9110 §15.2.1), as an exchange of its own that takes nothing of the request.

    After it the same exchange goes on, with its request from the start, and its response behind
    this one. It follows from the progress, so any process can say it. now: wall-clock ms.
    """
    interim = called(p, p.request_start, b"", 0)
    interim.edition = edition_of(digest(CONTINUE))
    interim.response_end = p.response_start + len(CONTINUE)
    after = replace(p, response_start=interim.response_end, held=p.request_start, owner=0)
    after.continued = True
    return Finished(key, interim, encode(after), Pieces(p.response_start, CONTINUE), now // 1000)


class Growing:
    """A response whose application call still runs: what there is of it so far."""

    __slots__ = (
        "_names",
        "authorised_at",
        "checkpoints",
        "complete",
        "data",
        "failed",
        "intake",
        "joins",
        "key",
        "known_end",
        "like",
        "name",
        "p",
        "part",
        "preface",
        "taken",
    )
    running = True

    def __init__(self, key: Key, p: Progress, names: Names, authorised_at: int) -> None:
        """`p`: progress in phase RESPONDING, kind PENDING, owned by the response from now on."""
        self.key = key
        self.p = p
        self._names = names
        self.like = 0
        """The edition that its client has bytes of, if it is one that is made again."""
        self.data = Pieces(p.response_start)
        self.taken = p.response_start
        """The client holds every byte below."""
        self.known_end: int | None = None
        self.preface = 0
        """Bytes in front that are an interim response (100 Continue)."""
        self.intake: Intake | None = None
        """Where an open request goes."""
        self.complete = False
        """All of the response is there, or it has failed."""
        self.authorised_at = authorised_at
        self.failed = False
        self.name = b""
        """Digest of the whole response, if the whole was there when it was first answered."""
        self.joins = p.response_start
        self.checkpoints: Checkpoints | None = None
        self.part: Part | None = EMPTY
        """What the store has of it; None: nothing, and nothing will be appended."""

    def noted(self, stop: int) -> Note | None:
        """The note for a client that gets the bytes below `stop`."""
        return None if self.checkpoints is None else self.checkpoints.at(stop)

    @property
    def open(self) -> bool:
        return self.intake is not None and not (self.intake.whole or self.complete)

    @property
    def end(self) -> int | None:
        """Not told while the request is open: what comes of that would be taken for the next."""
        return None if self.open else self.known_end

    @property
    def start(self) -> int:
        return self.p.response_start

    @property
    def base(self) -> int:
        """Stream offset where `data` begins."""
        return self.data.base

    @property
    def available(self) -> int:
        return self.data.stop

    @property
    def edition(self) -> int:
        return self.p.edition

    @property
    def closes(self) -> bool:
        return self.p.closes

    @property
    def request_start(self) -> int:
        return self.p.request_start

    @property
    def request_wanted(self) -> int:
        return self.p.request_end if self.intake is None else self.intake.held

    @property
    def request_digest(self) -> bytes:
        return self.p.whole_digest

    @property
    def size(self) -> int:
        intake = 0 if self.intake is None else self.intake.size
        checkpoints = 0 if self.checkpoints is None else self.checkpoints.size
        return len(self.data) + checkpoints + intake

    @property
    def progress(self) -> bytes:
        end = self.end
        self.p.response_end = UNKNOWN if end is None else end
        if self.intake is not None and self.intake.whole:
            self.p.request_end = self.intake.held
        return encode(self.p)

    @property
    def waiting(self) -> int:
        """Bytes that the client has not got."""
        return self.data.stop - self.taken

    def read(self, start: int, stop: int) -> bytes | memoryview:
        """Bytes [start, stop) of the response stream. Raises ResponseGone."""
        return self.data.read(start, stop)

    def settle(self, token: Callable[[], bytes]) -> None:
        """Fix the edition, now that an answer is made: by content if it is all there."""
        if self.p.edition:
            return
        if self.data.stop == self.known_end:
            self.name_by_content()
        else:
            self.p.edition = edition_of(token())
            self.p.kind = self._kind

    @property
    def _kind(self) -> Body:
        """How the bytes can be had, once some were."""
        checkpoints = self.checkpoints
        return Body.MEMORY if checkpoints is None or checkpoints.lapsed else Body.CHECKPOINT

    def name_by_content(self) -> None:
        """The edition of a response that was whole before anything of it was answered."""
        self.name = name = self._names.of(self.data.all(), self.like)
        self.p.kind = self._kind
        self.p.edition = edition_of(name)
        self.p.response_check = name[4:]
        self.p.reproducible = self.p.kind is Body.MEMORY

    def mark(self, checkpoint: bytes) -> None:
        """The application can go on from what it has sent by now."""
        if self.checkpoints is None:
            self.checkpoints = Checkpoints(self.start, self.joins)
        if not self.checkpoints.lapsed:
            self.checkpoints.add(self.available, checkpoint)
            self.p.reruns = 0  # of what follows
        if self.p.edition:
            self.p.kind = self._kind

    def go_on(self, offset: int, checkpoint: bytes, edition: int) -> None:
        """Nothing of it is here, but the state at `offset`."""
        self.joins = self.taken = offset
        self.data = Pieces(offset)
        self.p.edition, self.p.kind = edition, Body.CHECKPOINT
        self.checkpoints = Checkpoints(self.start, offset)
        self.checkpoints.add(offset, checkpoint)

    def trim(self, received: int) -> bool:
        """Note what the client has, and forget it of a large response; True if `size` changed."""
        received = min(received, self.data.stop)
        self.taken = max(self.taken, received)
        if self.checkpoints is not None:
            self.checkpoints.forget(received)
        useless = received - KEPT_BEHIND - self.base
        return useless >= KEPT_WHOLE and self.data.forget(self.base + useless)

    def finished(self) -> Finished:
        """The same response in less memory, for the time after the call."""
        return Finished(
            self.key,
            self.p,
            self.progress,
            self.data,
            self.authorised_at,
            self.name,
            self.failed,
            self.checkpoints,
            self.joins,
        )
