"""One call of an application, whatever it speaks: its task, its client, and the bytes it produces.

A run is a Response while the application works (see the transport's contract). It lives as long as
the call does; its response, once complete, is handed over as a smaller object. What the messages
between application and client mean is said by `asgi` for HTTP and by `websocket`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from trickles_web.errors import ClientGone
from trickles_web.http.checkpoints import FIRST_RUN, Rerun
from trickles_web.http.framing import error_page, framing_of
from trickles_web.http.pieces import Pieces
from trickles_web.http.progress import Page, Progress
from trickles_web.http.responses import Finished, Growing
from trickles_web.state.backing import memory_bytes

if TYPE_CHECKING:
    from trickles_web.http.files import FileResponse
    from trickles_web.http.heads import RequestError
    from trickles_web.http.host import Host
    from trickles_web.http.intake import Intake
    from trickles_web.http.request import Request
    from trickles_web.http.scope import ASGIApp, Message, Scope
    from trickles_web.state.prefixes import Prefix
    from trickles_web.state.store import Key
    from trickles_web.transport.redeemed import Redeemed

RUN_OVERHEAD: Final = 4096
"""Bytes that a call costs beside its data: task, coroutine, context, scope, and the run itself."""

logger = logging.getLogger("trickles.error")


class Run(Growing):
    """See the module. `receive` and `send` are what the application is called with."""

    __slots__ = (
        "_arrival",
        "_host",
        "_request",
        "_room",
        "_told",
        "_told_limit",
        "allowed",
        "announced",
        "begun",
        "early",
        "expected",
        "gone",
        "heard",
        "hopeless",
        "outcome",
        "parked",
        "prefix",
        "scope",
        "stopping",
        "task",
    )

    def __init__(
        self,
        host: Host,
        key: Key,
        prefix: Prefix,
        request: Request,
        scope: Scope,
        p: Progress,
        now: int,
        again: Rerun = FIRST_RUN,
    ) -> None:
        """prefix: of its client. now: wall-clock ms."""
        super().__init__(key, p, host.names, now // 1000)
        p.closes = request.closes
        self.intake = request.intake
        self._host = host
        self._request = request
        self._arrival: asyncio.Event | None = None
        self._room: asyncio.Event | None = None
        self._told = False
        self._told_limit = 0
        """Up to here the client knows that more of an open request is taken."""
        self.prefix = prefix
        self.scope = scope
        self.allowed = host.config.response_buffer_bytes
        self.heard = now
        """Wall-clock ms of the client's last datagram about this run."""
        self.parked = -1
        """Stream offset beyond which a parked request wants bytes, -1 = nobody waits."""
        self.early: Redeemed | None = None
        """The HELLO of a private flow that this is run for: who has copied it may have it run
        again."""
        self.gone = False
        """The client has left: nothing is sent any more, the application runs on."""
        self.expected = again.expected
        """A re-run that must come out alike is held back until it is whole."""
        self.hopeless = False
        """It cannot come out alike any more."""
        self.announced = False
        """Other processes know of it."""
        self.begun = False
        """It had its first turn: until then it is the loop that is slow, not the application."""
        self.stopping = False
        self.outcome: Finished | FileResponse | None = None
        """What it was replaced by, once it was complete."""
        self.task: asyncio.Task[None] | None = None

    # What the protocol adds

    async def receive(self) -> Message:
        """The application's next message."""
        raise NotImplementedError

    async def send(self, message: Message) -> None:
        """Take one of the application's messages."""
        raise NotImplementedError

    def _fail(self, status: int = 500) -> None:
        """End the response as a failed one: by a page, if nothing was sent yet."""
        raise NotImplementedError

    def _returned(self) -> None:
        """The application returned, and the response is not complete."""
        raise NotImplementedError

    def is_slow(self) -> None:
        """The call takes its time, from now on."""

    def restarting(self) -> bool:
        """The server ends; did it let the client know?"""
        return False

    # The client

    @property
    def size(self) -> int:
        body = memory_bytes(self._request.body)
        return RUN_OVERHEAD + self._request.size + super().size + body

    def leave_body(self) -> None:
        """Nobody reads what is left of the request's body."""
        self._request.drop_body()

    def trim(self, received: int) -> bool:
        """Note what the client has, and let the application go on."""
        trimmed = super().trim(received)
        if self._room is not None and self.waiting <= self.allowed:
            self._room.set()
        return trimmed

    def leave(self) -> None:
        """The client is gone."""
        self.gone = True
        self.data = Pieces(self.data.stop)
        self.part = None
        self._request.drop_body()
        self._host.grown(self)
        self._wake()

    def put_off(self) -> None:
        """The application will not be called early: the client is to come back first, which
        nobody else can.
        """
        assert self.early is not None
        self.early.may_run = False
        self.leave()
        self._host.ready(self)

    def _wake(self) -> None:
        if self._arrival is not None:
            self._arrival.set()
        if self._room is not None:
            self._room.set()

    # An open request

    def take(self, offset: int, piece: bytes) -> bool:
        """More of the request. False if there was no room for all of it. Raises Conflict."""
        intake = self.intake
        if intake is None or intake.whole or self.complete or self.gone:
            return True
        taken = intake.take(offset, piece)
        self._took(intake)
        return taken

    def _took(self, intake: Intake) -> None:
        self._host.grown(self)
        if intake.refusal is not None:
            self._refuse(intake.refusal)
            return
        if intake.behind:
            asyncio.get_running_loop().call_soon(self._take_on, intake)
        elif intake.whole and self.parked >= 0:
            self._host.ready(self)  # the end of the response may be told now
        if self._arrival is not None:
            self._arrival.set()

    def _take_on(self, intake: Intake) -> None:
        """One datagram can make many chunks readable: the others in later turns of the loop."""
        if not (self.complete or self.gone):
            intake.decode()
            self._took(intake)

    def _refuse(self, refusal: RequestError) -> None:
        """The rest of the request cannot be read."""
        logger.warning("Invalid HTTP request received: %s.", refusal)
        self._fail(refusal.status)
        self.leave()

    def tell_room(self) -> int:
        """How many bytes more are taken; the client is about to be told."""
        assert self.intake is not None
        self._told_limit = self.intake.limit_after(self._told_limit)
        return max(0, self._told_limit - self.intake.held)

    @property
    def owes_room(self) -> bool:
        """Does the client wait for news of room that there is by now?"""
        intake = self.intake
        if intake is None or not self.open:
            return False
        return intake.held >= self._told_limit and intake.is_worth_telling(self._told_limit)

    def _offer_room(self) -> None:
        """Let a parked request be told of room, if its client waits for that."""
        if self.owes_room and self.parked >= 0:
            self._host.ready(self)

    async def _arrived(self) -> None:
        """Wait until `take` was called, or there is nothing to wait for any more."""
        self._offer_room()
        if self._arrival is None:
            self._arrival = asyncio.Event()
        self._arrival.clear()
        await self._arrival.wait()

    # The application's call

    async def call(self, app: ASGIApp) -> None:
        """Run the application to its end, whatever that is."""
        self.begun = True
        try:
            await self._call(app)
        except Exception as error:
            if not self.stopping:
                logger.error("Exception while answering for an application\n", exc_info=error)
        finally:
            self._host.ended(self)

    async def _call(self, app: ASGIApp) -> None:
        if self.intake is not None and self.intake.refusal is not None:
            self._refuse(self.intake.refusal)
            return
        try:
            result = await app(self.scope, self.receive, self.send)
        except BaseException as error:
            if self.stopping or isinstance(error, KeyboardInterrupt):
                self.leave()  # silence: the client asks again, and another process answers
                raise
            if not isinstance(error, ClientGone):
                logger.error("Exception in ASGI application\n", exc_info=error)
            self._fail()
            return
        if result is not None:
            logger.error("ASGI callable should return None, but returned '%s'.", result)
            self._fail()
        elif not self.complete and not self.gone:
            self._returned()

    def _page(self, status: int, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """All of the response is a page of our own."""
        config = self._host.config
        framing = framing_of(config, self._request, self.p.date)
        # What comes of an open request after this would be taken for the next one.
        self.p.closes = framing.closes or self.intake is not None
        page = error_page(
            config,
            status,
            head_only=framing.head_only,
            date=self.p.date,
            closes=self.p.closes,
            extra=headers,
        )
        if not (headers or self.preface):
            self.p.page = Page(status)  # any replica can write it again
        start = self.p.response_start
        preface = bytes(self.data.read(start, start + self.preface))
        self.data, self.checkpoints = Pieces(start, preface + page), None
        self.part = None
        self._complete()

    # Bytes of the response

    def _append(self, data: bytes) -> None:
        self.data.append(data)
        self.allowed = self._host.grown(self)
        if self.parked >= 0 and not self._told:
            # Deferred: an application that is about to finish is answered as a whole.
            self._told = True
            asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        self._told = False
        if 0 <= self.parked < self.available and self.expected is None:
            self._host.ready(self)

    async def _wait_for_room(self) -> None:
        """Backpressure: return when the client has taken enough (or never will)."""
        self._host.produced(self)
        while self.waiting > self.allowed and not (self.gone or self.complete):
            if self.expected is not None:
                self.hopeless = True
                self.leave()
                self._host.ready(self)
                return
            if self._room is None:
                self._room = asyncio.Event()
            self._room.clear()
            await self._room.wait()

    def _complete(self, failed: bool = False) -> None:
        self.failed, self.complete = failed, True
        if not failed:
            self.known_end = self.available
        if not self.p.edition:
            self.name_by_content()
        self._end_request()
        self._finish(self.finished())

    def _end_request(self) -> None:
        """An open request that is answered before it is whole ends the flow: nobody could tell
        what comes of it from the next one.
        """
        if self.intake is not None:
            self.p.closes = self.p.closes or not self.intake.whole
            self.p.request_end = self.intake.held

    def _finish(self, response: Finished | FileResponse) -> None:
        self.complete = True
        self._request.drop_body()
        self._host.completed(self, response)
        self._wake()
        if self.parked >= 0:
            self._host.ready(self)
