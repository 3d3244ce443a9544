"""trickles-web: an ASGI server over Trickles, the stateless TCP-like transport."""

from __future__ import annotations

__version__ = "0.1.0"
