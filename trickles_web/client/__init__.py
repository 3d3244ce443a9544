"""Client side: flows with the feel of connections of asyncio, and of sockets."""

from __future__ import annotations

from trickles_web.client.flow_socket import FlowSocket, create_connection
from trickles_web.client.routing import routed
from trickles_web.client.streams import open_connection, open_transport

__all__ = ["FlowSocket", "create_connection", "open_connection", "open_transport", "routed"]
