"""Client side: flows with the feel of asyncio's connections."""

from __future__ import annotations

from trickles_web.client.streams import create_connection, open_connection

__all__ = ["create_connection", "open_connection"]
