"""One call of an ASGI 3 application for a WebSocket (RFC 6455); wsproto knows its frames.

    asked --accept--> open --close, of either side--> closing --close of the other--> over
      |--close: 403, http.response.start: what the application says------------------> over

The client's frames come as those bytes of an open request that follow its head, the server's are a
response that has no end until both have said goodbye. All of it is one process's: when that dies,
the flow ends with an error, which a WebSocket client sees as code 1006.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from operator import index
from typing import TYPE_CHECKING, Any, Final

from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Message,
    Ping,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.extensions import Extension
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from trickles_web.errors import ClientGone
from trickles_web.http.deflate import Deflate
from trickles_web.http.framing import Framing, default_headers, framing_of, plain, plain_headers
from trickles_web.http.run import Run
from trickles_web.http.scope import full_path

if TYPE_CHECKING:
    from trickles_web.http import scope as asgi
    from trickles_web.http.host import Host
    from trickles_web.http.progress import Progress
    from trickles_web.http.request import Request as Head
    from trickles_web.state.prefixes import Prefix
    from trickles_web.state.store import Key

FED_BYTES: Final = 8_192
"""Given to wsproto at once: what it inflates to is at most a thousand times as much."""

MOST_WAITING: Final = 16
MOST_WAITING_BYTES: Final = 65_536
"""Messages that wait for the application, and what is in them: with one of these reached no more
is read, and in the end none taken.
"""

CLOSE_TIMEOUT_S = 10.0
"""How long the client's answer to a close is waited for, as by uvicorn."""

NORMAL, ABNORMAL, TOO_LARGE, INTERNAL_ERROR, RESTARTING = 1000, 1006, 1009, 1011, 1012
"""Close codes (RFC 6455 §7.4.1 and IANA's registry)."""

logger = logging.getLogger("trickles.error")


class WebSocketRun(Run):
    """See the module. What is fragmented is handed to the application in one piece."""

    __slots__ = (
        "_accepted",
        "_close_sent",
        "_connection",
        "_denial",
        "_messages",
        "_over",
        "_part",
        "_ping",
        "_said_all",
        "_timer",
        "_waiting_bytes",
    )

    def __init__(
        self,
        host: Host,
        key: Key,
        prefix: Prefix,
        request: Head,
        scope: asgi.Scope,
        p: Progress,
        now: int,
        *_: Any,
    ) -> None:
        """prefix: of its client. now: wall-clock ms."""
        super().__init__(host, key, prefix, request, scope, p, now)
        self.part = None  # nobody else could go on with what is said here
        self._connection = WSConnection(ConnectionType.SERVER)
        self._accepted = self._close_sent = self._said_all = False
        self._denial: Framing | None = None
        """Of a response with which the application denies the handshake."""
        self._messages: deque[asgi.Message] = deque([{"type": "websocket.connect"}])
        self._waiting_bytes = 0
        """In these messages."""
        self._part = bytearray()
        """Of a message whose end is not here yet."""
        self._ping: Ping | None = None
        """The last that is not answered; those before it need not be (RFC 6455 §5.5.3)."""
        self._over = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def size(self) -> int:
        return super().size + self._waiting_bytes + len(self._part)

    # The application's call

    async def _call(self, app: asgi.ASGIApp) -> None:
        """Check the handshake, run the application, and wait until both sides have closed."""
        if not self._begin():
            return
        await super()._call(app)
        if not (self.complete or self.gone):
            await self._over.wait()

    def _begin(self) -> bool:
        """Is it a handshake? Else the response says why not (RFC 6455 §4.2.2)."""
        head = self._request
        try:
            self._connection.initiate_upgrade_connection(head.headers, head.target)
            event = next(self._connection.events())
        except RemoteProtocolError as error:
            hint = error.event_hint
            rejection = hint if isinstance(hint, RejectConnection) else RejectConnection()
            self._deny(rejection.status_code, list(rejection.headers), str(error))
        except (LocalProtocolError, ValueError) as error:
            self._deny(400, [], str(error))
        else:
            assert isinstance(event, Request)
            self.scope["subprotocols"] = event.subprotocols
            return True
        return False

    def _deny(self, status: int, headers: list[tuple[bytes, bytes]], reason: str) -> None:
        logger.warning("Invalid WebSocket handshake: %s.", reason)
        self._log(str(status))
        self._page(status, headers)

    def _fail(self, status: int = 500) -> None:
        if self.complete or self.gone:
            return
        if self._accepted:
            self._close(INTERNAL_ERROR, "")
            self._end()
        elif self._denial is not None and self.p.edition:
            self._complete(failed=True)
        else:
            self._log(str(status))
            self._page(status)

    def _returned(self) -> None:
        if not self._accepted:
            logger.error("ASGI callable returned without completing handshake.")
            self._fail()
        else:
            self._close(NORMAL, "")
            self._advance()

    def restarting(self) -> bool:
        """RFC 6455 clients come again by themselves when they hear this."""
        if self.complete or self.gone:
            return False
        if self._accepted:
            self._close(RESTARTING, "")
            self._disconnect(RESTARTING, "")
            self._end()
        else:
            self._fail()
        return True

    def leave(self) -> None:
        """The client is gone."""
        self._disconnect(ABNORMAL, "")
        super().leave()
        self._cease()

    # What the client sends

    def take(self, offset: int, piece: bytes) -> bool:
        """More of what the client sends; control frames are answered at once."""
        taken = super().take(offset, piece)
        self._advance()
        return taken

    def trim(self, received: int) -> bool:
        """Note what the client has, and let both sides go on."""
        trimmed = super().trim(received)
        self._answer_ping()
        return trimmed

    async def receive(self) -> asgi.Message:
        """websocket.connect, then websocket.receive, at last and for ever websocket.disconnect."""
        while True:
            self._advance()
            if self._messages:
                break
            await self._arrived()
        message = self._messages[0]
        if message["type"] != "websocket.disconnect":
            self._messages.popleft()
            self._waiting_bytes -= _length(message)
        self._advance()
        return message

    def _advance(self) -> None:
        """Read frames, as long as the application keeps up."""
        intake = self.intake
        while self._accepted and intake is not None and not self._is_behind:
            data = intake.read(FED_BYTES)
            if not data:
                break
            self._read(data)
        self._host.grown(self)
        self._offer_room()

    @property
    def _is_behind(self) -> bool:
        """Has the application enough to read, or no use for more?"""
        if self.complete or self.gone:
            return True
        if self._close_sent:
            return False  # messages are not kept any more
        return len(self._messages) >= MOST_WAITING or self._waiting_bytes >= MOST_WAITING_BYTES

    def _read(self, data: bytes) -> None:
        try:
            self._connection.receive_data(data)
            for event in self._connection.events():
                self._handle(event)
        except (RemoteProtocolError, LocalProtocolError) as error:
            # Behind the last frame there can be, or no frame at all.
            logger.warning("Invalid WebSocket data received: %s.", error)
            self._disconnect(ABNORMAL, "")
            self._end()

    def _handle(self, event: Event) -> None:
        if self.complete:
            return
        if isinstance(event, CloseConnection):
            if self._connection.state in (ConnectionState.REMOTE_CLOSING, ConnectionState.OPEN):
                self._append(self._connection.send(event.response()))
            self._disconnect(event.code, event.reason or "")
            self._end()
        elif self._close_sent:
            return
        elif isinstance(event, (TextMessage, BytesMessage)):
            self._add(event)
        elif isinstance(event, Ping):
            self._ping = event
            self._answer_ping()

    def _answer_ping(self) -> None:
        """Unless the client has enough to read: it may do nothing but ping."""
        ping, ends = self._ping, self._close_sent or self.complete or self.gone
        if ping is not None and self.waiting <= self.allowed and not ends:
            self._ping = None
            self._append(self._connection.send(ping.response()))

    def _add(self, event: TextMessage | BytesMessage) -> None:
        """A part of a message, perhaps the last."""
        data = event.data
        self._part += data.encode() if isinstance(data, str) else data
        most = self._host.config.ws_max_bytes
        if len(self._part) > most:
            self._part = bytearray()
            reason = f"Message exceeds the maximum size ({most} bytes)"
            self._close(TOO_LARGE, reason)
            self._disconnect(TOO_LARGE, reason)
        elif event.message_finished:
            part, self._part = self._part, bytearray()
            message: asgi.Message = {"type": "websocket.receive"}
            if isinstance(event, TextMessage):
                message["text"] = part.decode()
            else:
                message["bytes"] = bytes(part)
            self._waiting_bytes += _length(message)
            self._post(message)

    def _post(self, message: asgi.Message) -> None:
        self._messages.append(message)
        if self._arrival is not None:
            self._arrival.set()

    def _disconnect(self, code: int, reason: str) -> None:
        """The last message there is, as often as the application asks."""
        if not self._messages or self._messages[-1]["type"] != "websocket.disconnect":
            self._post({"type": "websocket.disconnect", "code": code, "reason": reason})

    # What the application sends

    async def send(self, message: asgi.Message) -> None:
        """Take one message. Raises RuntimeError on misuse, ClientGone if the client has left."""
        kind = message["type"]
        if self._denial is not None and not self.complete:
            await self._deny_on(self._denial, message)
        elif self._said_all:
            raise RuntimeError(
                f"Unexpected ASGI message '{kind}', after sending 'websocket.close' "
                "or response already completed."
            )
        elif self.gone or self.complete or self._close_sent:
            raise ClientGone
        elif self._accepted:
            await self._send_on(message)
        elif kind == "websocket.accept":
            self._accept(message)
        elif kind == "websocket.close":
            self._log("403")
            self._said_all = True
            self._disconnect(ABNORMAL, "")
            self._page(403)
        elif kind == "websocket.http.response.start":
            self._begin_denial(message)
        else:
            raise RuntimeError(
                "Expected ASGI message 'websocket.accept', 'websocket.close' or "
                f"'websocket.http.response.start' but got '{kind}'."
            )

    def _accept(self, message: asgi.Message) -> None:
        config = self._host.config
        extensions: list[Extension] = [Deflate()] if config.ws_per_message_deflate else []
        headers = default_headers(config, self.p.date) + plain_headers(message.get("headers", ()))
        accepting = AcceptConnection(
            subprotocol=message.get("subprotocol"), extensions=extensions, extra_headers=headers
        )
        try:
            data = self._connection.send(accepting)
        except LocalProtocolError as error:
            raise RuntimeError(str(error)) from error
        self._log("[accepted]")
        self._accepted = True
        self._append(data)
        self._advance()

    async def _send_on(self, message: asgi.Message) -> None:
        kind = message["type"]
        if kind == "websocket.send":
            data = message.get("bytes")
            self._append(self._connection.send(Message(message["text"] if data is None else data)))
            await self._wait_for_room()
        elif kind == "websocket.close":
            code, reason = message.get("code") or NORMAL, message.get("reason") or ""
            self._close(code, reason)
            self._said_all = True
            self._disconnect(code, reason)
            self._advance()
        else:
            raise RuntimeError(
                f"Expected ASGI message 'websocket.send' or 'websocket.close', but got '{kind}'."
            )

    def _close(self, code: int, reason: str) -> None:
        """Say goodbye, and wait a while for the client to say so too."""
        if not self._close_sent:
            self._append(self._connection.send(CloseConnection(code, reason)))
            self._close_sent = True
            self._timer = asyncio.get_running_loop().call_later(CLOSE_TIMEOUT_S, self._end)

    def _end(self) -> None:
        """Both sides have closed, or one of them has waited long enough."""
        if not (self.complete or self.gone):
            self._complete()

    def _complete(self, failed: bool = False) -> None:
        self.p.closes = True
        super()._complete(failed)
        self._cease()

    def _cease(self) -> None:
        """Nothing is waited for any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._over.set()

    # A denial: the application answers as to an HTTP request

    def _begin_denial(self, message: asgi.Message) -> None:
        framing = framing_of(self._host.config, self._request, self.p.date)
        framing.closes = True
        status = index(message["status"])
        self._append(framing.head(status, plain_headers(message.get("headers", ()))))
        self._log(str(status))
        self._denial = framing

    async def _deny_on(self, framing: Framing, message: asgi.Message) -> None:
        kind, expected = message["type"], "websocket.http.response.body"
        if kind != expected:
            raise RuntimeError(f"Expected ASGI message '{expected}' but got '{kind}'.")
        more = message.get("more_body", False)
        data = framing.body(plain(message.get("body") or b""))
        self._append(data if more else data + framing.end())
        if more:
            await self._wait_for_room()
        else:
            self._said_all = True
            self._disconnect(ABNORMAL, "")
            self._complete()

    def _log(self, what: str) -> None:
        self._host.started(self, 101 if what == "[accepted]" else int(what))
        host, port = self.scope["client"]
        logger.info('%s:%d - "WebSocket %s" %s', host, port, full_path(self.scope), what)


def _length(message: asgi.Message) -> int:
    """Of what the client has sent in a message."""
    return len(message.get("bytes") or message.get("text") or "")
