"""One connection of an HTTP client of the test, and the flow that carries it."""

from __future__ import annotations

import asyncio

from trickles_web.testing.cluster import Client, Cluster
from trickles_web.testing.exchange import Exchange
from trickles_web.testing.story import SAFE, Asked, Story

UNREAD_BYTES = 1 << 20
"""Of a response that the test has not read: beyond that its flow takes no more."""


class Connection(Client, asyncio.Protocol):
    """See the module. A request is sent once it is whole, whatever the pieces that it comes in."""

    def __init__(self, cluster: Cluster, story: Story) -> None:
        super().__init__(cluster)
        self.asked: Asked | None = None
        """The request that is being answered, or was the last one."""
        self._story = story
        self._exchange = Exchange()
        self._transport: asyncio.WriteTransport | None = None
        self._paused = False

    @property
    def waits(self) -> bool:
        """Is there a response to come, and does the test take it?"""
        exchange = self._exchange
        here = self._transport is not None and not self._paused
        return here and exchange.whole and not exchange.answered

    # The test's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        transport.set_write_buffer_limits(UNREAD_BYTES)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._exchange.answered:
            self._exchange = Exchange()
        exchange = self._exchange
        if exchange.whole:  # more than one request at a time
            self.write(data)
            return
        exchange.ask(data)
        if exchange.whole:
            request = bytes(exchange.request)
            self.asked = self._story.ask(exchange.method, exchange.target, request)
            self.write(request)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self.pump()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._over("the test closed the connection")
        for datagram in self.flow.cancel():
            self.cluster.up(datagram, self)
        self.pump()

    def end(self) -> None:
        """Whatever is in progress."""
        if self._transport is not None:
            self._transport.close()

    # The flow's side

    def pump(self, due: float = 0.0) -> None:
        """The same, and hand on what has come."""
        super().pump(due)
        transport = self._transport
        if transport is None or self._paused:
            return
        data = self.flow.read()
        if data:
            super().pump()  # there is room again
            self._answer(data)
            transport.write(data)
        if self.flow.error is not None:
            self._over(str(self.flow.error) or type(self.flow.error).__name__)
            transport.close()
        elif self.flow.eof and not self.flow.readable():
            self._over("the response ended early")
            transport.close()

    def _answer(self, data: bytes) -> None:
        exchange, asked = self._exchange, self.asked
        exchange.answer(data)
        if asked is not None:
            asked.status, asked.unknown = exchange.status, exchange.unknown

    def _over(self, error: str) -> None:
        """No more of the response will come. It may be that the request was executed."""
        exchange, asked = self._exchange, self.asked
        if asked is not None and exchange.whole and not exchange.answered:
            asked.error, asked.unknown = error, exchange.method not in SAFE
            exchange.answered = True
