"""One of the two that a proxy stands between: its bytes, and HTTP/1.1 as h11 reads them."""

from __future__ import annotations

import h11

from trickles_web.client.fetch import MAX_HEAD_BYTES as MAX_RESPONSE_HEAD_BYTES
from trickles_web.proxy.stream import Stream

MAX_REQUEST_HEAD_BYTES = 65_536
"""As much as trickles-serve takes."""

Event = object
"""One of h11's."""


class Party:
    """A client, or a server."""

    def __init__(self, stream: Stream, *, is_client: bool) -> None:
        self.stream = stream
        self.http = h11.Connection(
            h11.SERVER if is_client else h11.CLIENT,
            MAX_REQUEST_HEAD_BYTES if is_client else MAX_RESPONSE_HEAD_BYTES,
        )

    async def event(self) -> Event:
        """What it says next. Raises h11.RemoteProtocolError, and what `Stream.read` does."""
        while (event := self.http.next_event()) is h11.NEED_DATA:
            self.http.receive_data(await self.stream.read())
        return event

    async def send(self, *events: h11.Event) -> None:
        """Say this to it, in one write. Raises h11.LocalProtocolError."""
        await self.stream.write(b"".join(self.http.send(event) or b"" for event in events))

    @property
    def is_done(self) -> bool:
        """Request and response are over, and there may be others."""
        return self.http.our_state is h11.DONE and self.http.their_state is h11.DONE

    @property
    def can_be_answered(self) -> bool:
        """May a response still be made up for this client?"""
        return self.http.our_state in (h11.IDLE, h11.SEND_RESPONSE)

    @property
    def beyond(self) -> bytes:
        """What came behind the last that was HTTP."""
        return bytes(self.http.trailing_data[0])
