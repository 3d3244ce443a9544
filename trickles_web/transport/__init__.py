"""The Trickles transport, sans-IO: bytes and times in, bytes out.

Both ends live here. The server's side is two pure steps (`server.Server.redeem`, `.burst`); the
client's is one object that holds all the hard state there is (`flow.Flow`). Neither touches a
socket, a clock or a source of randomness: those are arguments. PROTOCOL.md beside this file is the
specification.
"""

from __future__ import annotations
