"""A client of HTTP over Trickles, to the extent that the tests need one."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import h11

from trickles_web.client import open_connection
from trickles_web.client.tokens import TokenStore

PATIENCE_S = 30.0
"""For what takes milliseconds on a machine that is not overloaded."""


@dataclass
class Page:
    status: int
    headers: dict[str, str]
    body: bytes


class Browser:
    """One flow, kept alive: requests one after the other."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._http = h11.Connection(h11.CLIENT)

    async def __aenter__(self) -> Browser:
        self._reader, self._writer = await open_connection(
            "127.0.0.1", self._port, tokens=TokenStore(None)
        )
        return self

    async def __aexit__(self, *error: object) -> None:
        self._writer.transport.abort()  # at once, even if the server is gone; one datagram tells it

    async def fetch(
        self, target: str, *headers: tuple[str, str], method: str = "GET", body: bytes = b""
    ) -> Page:
        async with asyncio.timeout(PATIENCE_S):
            self._send(h11.Request(method=method, target=target, headers=[("Host", "x"), *headers]))
            if body:
                self._send(h11.Data(data=body))
            self._send(h11.EndOfMessage())
            page = Page(0, {}, b"")
            while not isinstance(event := await self._event(), h11.EndOfMessage):
                if isinstance(event, h11.Response):
                    fields = {name.decode(): value.decode() for name, value in event.headers}
                    page.status, page.headers = event.status_code, fields
                elif isinstance(event, h11.Data):
                    page.body += event.data
            if self._http.our_state is h11.DONE:
                self._http.start_next_cycle()
            return page

    async def begin(self, target: str) -> None:
        """Ask for a page, and read the first bytes of the answer."""
        async with asyncio.timeout(PATIENCE_S):
            self._send(h11.Request(method="GET", target=target, headers=[("Host", "x")]))
            self._send(h11.EndOfMessage())
            await self._reader.readexactly(1)

    def _send(self, event: h11.Event) -> None:
        data = self._http.send(event)
        assert data is not None
        self._writer.write(data)

    async def _event(self) -> h11.Event:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(await self._reader.read(65_536))
        assert isinstance(event, h11.Event), event
        return event
