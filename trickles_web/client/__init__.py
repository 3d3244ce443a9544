"""Client side: flows with the feel of asyncio's connections."""

from __future__ import annotations

from trickles_web.client.streams import open_connection, open_transport

__all__ = ["open_connection", "open_transport"]
