"""A WebSocket client over a `Peer`: it says its lines, and notes what it hears."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Pong,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)

from tests.http.peer import Peer

Line = Event | bytes | tuple[Any, ...]
"""An event or raw bytes to be sent, or what must have been heard before the next one is."""

ACCEPTED = ("accepted", None)


class Talk:
    """One conversation, in which pings and closes are answered as they come."""

    def __init__(self, peer: Peer, lines: Sequence[Line], request: Request | None = None) -> None:
        self.heard: list[tuple[Any, ...]] = []
        """("accepted", subprotocol), ("text", data), ("close", code, reason), ..."""
        self.extensions: list[str] = []
        """That both agreed on."""
        self.headers: list[tuple[bytes, bytes]] = []
        """Of the server's answer to the handshake."""
        self._peer = peer
        self._lines = list(lines)
        self._fed = 0
        self._part: str | bytes = ""
        self._connection = WSConnection(ConnectionType.CLIENT)
        asked = Request(host="test", target="/") if request is None else deepcopy(request)
        self.request = self._connection.send(asked)  # its extensions are used up

    async def to_the_end(self) -> None:
        """Raises RefusedByServer."""
        await self._peer.exchange(self.request, between=self.between)

    def between(self) -> None:
        """Hear what came, and say what is due."""
        data, self._fed = self._peer.got[self._fed :], len(self._peer.got)
        if data:
            self._connection.receive_data(data)
        for event in self._connection.events():
            self._hear(event)
        while self._lines:
            line = self._lines[0]
            if isinstance(line, tuple):
                if line not in self.heard:
                    return
            else:
                self.say(line)
            self._lines.pop(0)

    def say(self, line: Event | bytes) -> None:
        data = line if isinstance(line, bytes) else self._connection.send(line)
        self._peer.stream += data

    def _hear(self, event: Event) -> None:
        if isinstance(event, AcceptConnection):
            self.heard.append(("accepted", event.subprotocol))
            self.extensions = [extension.name for extension in event.extensions]
            self.headers = list(event.extra_headers)
        elif isinstance(event, RejectConnection):
            self.heard.append(("rejected", event.status_code))
            self.headers = list(event.headers)
        elif isinstance(event, RejectData):
            self._add("body", event.data, event.body_finished)
        elif isinstance(event, TextMessage | BytesMessage):
            kind = "text" if isinstance(event, TextMessage) else "bytes"
            self._add(kind, event.data, event.message_finished)
        elif isinstance(event, Ping):
            self.heard.append(("ping", bytes(event.payload)))
            self.say(event.response())
        elif isinstance(event, Pong):
            self.heard.append(("pong", bytes(event.payload)))
        elif isinstance(event, CloseConnection):
            self.heard.append(("close", int(event.code), event.reason))
            if self._connection.state is ConnectionState.REMOTE_CLOSING:
                self.say(event.response())

    def _add(self, kind: str, data: str | bytes | bytearray, last: bool) -> None:
        piece = data if isinstance(data, str) else bytes(data)
        self._part = self._part + piece if self._part else piece  # type: ignore[operator]
        if last:
            self.heard.append((kind, self._part))
            self._part = ""
