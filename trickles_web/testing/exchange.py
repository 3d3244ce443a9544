"""One request and its response, as their bytes pass: where they end decides when time goes on."""

from __future__ import annotations

import h11

LONGEST_HEAD = 1 << 20
"""Bytes: limits are the server's to set."""


class Exchange:
    """See the module. Bytes that are no HTTP end it: they are the server's to refuse."""

    def __init__(self) -> None:
        self.request = bytearray()
        self.whole = False
        """The request is."""
        self.answered = False
        """The response is whole, or there will not be any more of it."""
        self.method = self.target = "?"
        self.status = 0
        self.unknown = False
        """The server says that nobody knows whether the request was executed."""
        self._server = h11.Connection(h11.SERVER, max_incomplete_event_size=LONGEST_HEAD)
        self._client = h11.Connection(h11.CLIENT, max_incomplete_event_size=LONGEST_HEAD)

    def ask(self, data: bytes) -> None:
        """More of the request."""
        self.request += data
        try:
            self._server.receive_data(data)
            while not self.whole:
                event = self._server.next_event()
                if isinstance(event, h11.Request):
                    self.method, self.target = event.method.decode(), event.target.decode()
                    asked = h11.Request(
                        method=event.method, target=event.target, headers=event.headers
                    )
                    self._client.send(asked)
                elif event is h11.NEED_DATA:
                    break
                else:
                    self.whole = not isinstance(event, h11.Data)
        except h11.ProtocolError:
            self.whole = True

    def answer(self, data: bytes) -> None:
        """More of the response."""
        try:
            self._client.receive_data(data)
            while not self.answered:
                event = self._client.next_event()
                if isinstance(event, h11.Response):
                    self.status = event.status_code
                    self.unknown = (b"trickles-outcome", b"unknown") in event.headers
                elif event is h11.NEED_DATA:
                    break
                elif not isinstance(event, h11.Data | h11.InformationalResponse):
                    self.answered = True
        except h11.ProtocolError:
            self.answered = True
