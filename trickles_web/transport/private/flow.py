"""A private flow at the client: as any other, but for what its datagrams look like.

    key unknown: HELLO waits; IDENTIFY -> IDENTITY -> who is that? -> (not trusted) the flow fails
    key known:   HELLO, sealed to that key with the flow's secret -> a continuation with its ticket
    from then:   everything is sealed under the flow's secret, and has the ticket with it

Nothing is sent to a server that is not trusted but the question who it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from trickles_web.config import BASE_DATAGRAM, ClientConfig
from trickles_web.errors import FlowError, WireError
from trickles_web.transport import wire
from trickles_web.transport.continuation import COVER_BYTES, TICKET_BYTES
from trickles_web.transport.flow import Flow
from trickles_web.transport.kept import Kept
from trickles_web.transport.path_size import PathSize
from trickles_web.transport.private.cover import (
    DOWN,
    FLOW_SECRET_BYTES,
    UP,
    FlowKeys,
    Nonces,
    is_private,
)
from trickles_web.transport.private.exchange import Exchange, hello_bytes, seal_hello
from trickles_web.transport.private.introduction import Introduction
from trickles_web.transport.wire import START_BYTES, Code, Kind

_HELLO: Final = wire.FIRST_BYTE[Kind.HELLO]
_IN_CLEAR: Final = frozenset({Code.VERSION, Code.FORGED, Code.EXPIRED})
"""What a server may say before it has a key to say it privately."""


def _path(config: ClientConfig) -> PathSize:
    """One of which nothing is known."""
    least = BASE_DATAGRAM - COVER_BYTES
    return PathSize(least, config.max_datagram_bytes - COVER_BYTES, least=least)


class ServerKeys(Protocol):
    """What the client knows of a server's keys, in all of its flows."""

    def known(self) -> tuple[int, Any] | None:
        """Generation and public key of one that is trusted; None: the server has to be asked."""

    def learn(self, blob: bytes) -> None:
        """The server says so. Raises FlowError if that is not to be trusted."""

    def forget(self, generation: int) -> None:
        """The server does not know this key any more."""


class PrivateFlow(Flow):
    """See the module. `random(n)`: n random bytes."""

    def __init__(
        self,
        flow_id: bytes,
        config: ClientConfig,
        now: float,
        server: ServerKeys,
        random: Callable[[int], bytes],
        *,
        exchange: Exchange = Exchange.X25519,
        token: bytes = b"",
        origin: bytes = b"",
        path: PathSize | None = None,
        kept: Kept | None = None,
    ) -> None:
        super().__init__(
            flow_id,
            config,
            now,
            token=token if exchange is Exchange.X25519 else b"",  # else there is no room for it
            origin=origin,
            path=path or _path(config),
            kept=kept,
            hello_bytes=hello_bytes(exchange),
        )
        self._server = server
        self._exchange_of_keys = exchange
        self._secret_keys = FlowKeys(random(FLOW_SECRET_BYTES))
        self._nonces = Nonces(random)
        self._introduction: Introduction | None = None
        self._waiting_hello = b""
        """It is sent when the server's key is known."""
        self._sealed_to = -1
        """The generation of the key to which HELLO was sealed last; -1 once a server has it."""
        self._asks: list[bytes] = []

    def receive_train(self, train: bytes, segment: int, now: float) -> None:
        messages = []
        for at in range(0, len(train), max(1, segment)):  # a datagram may be empty
            datagram = train[at : at + segment]
            if not is_private(datagram):
                self._in_clear(datagram, now)
                continue
            try:
                messages.append(self._secret_keys.unseal(DOWN, datagram, START_BYTES))
            except WireError:
                continue
        if messages:
            self._sealed_to = -1  # whoever answers has opened it
            super().receive_train(b"".join(messages), len(messages[0]), now)

    def _in_clear(self, datagram: bytes, now: float) -> None:
        """Nobody vouches for it, so little of it is believed."""
        try:
            kind = wire.kind_of(datagram)
            if wire.flow_of(datagram) != self.id:
                return
            if kind == Kind.IDENTITY and self._introduction is not None:
                self._introduced(wire.decode_identity(datagram), now)
            elif kind == Kind.REFUSED:
                refused = wire.decode_refused(datagram)
                if refused.code in _IN_CLEAR and self._refusals.answers(refused.echo):
                    if self._sealed_to >= 0:
                        self._server.forget(self._sealed_to)
                    super().receive_train(datagram, len(datagram), now)
        except WireError:
            pass

    def _introduced(self, told: wire.Identity, now: float) -> None:
        introduction = self._introduction
        assert introduction is not None
        try:
            blob = introduction.take(told)
            if blob is not None:
                self._server.learn(blob)
                self._introduction = None
                if self._download.opener is not None:
                    self._download.opener.at = now  # HELLO leaves now
            elif introduction.more and told.offset == 0:
                self._asks = introduction.ask()
        except FlowError as error:
            self._waiting_hello, self._asks = b"", []
            self._fail(error)

    def _covered(self, messages: list[bytes]) -> list[bytes]:
        out, self._asks = self._asks, []
        again = False
        for message in messages:
            if message[0] == _HELLO:
                self._waiting_hello, again = message, True
            else:
                ticket, message = message[-TICKET_BYTES:], message[:-TICKET_BYTES]
                out.append(self._secret_keys.seal(UP, message, ticket, self._nonces))
        if self._waiting_hello:
            out += self._begun(again)
        return out

    def _begun(self, again: bool) -> list[bytes]:
        """HELLO, to a server whose key is known; to another the question who it is, once for each
        time that HELLO was to go out.
        """
        known = self._server.known()
        if known is not None:
            hello, self._waiting_hello, self._introduction = self._waiting_hello, b"", None
            self._sealed_to, key = known
            secret, exchange = self._secret_keys.secret, self._exchange_of_keys
            return [seal_hello(hello, secret, exchange, self._sealed_to, key)]
        if not again:
            return []
        if self._introduction is None:
            self._introduction = Introduction(self.id)
        return self._introduction.ask()
