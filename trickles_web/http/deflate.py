"""Compression of WebSocket messages (RFC 7692), as wsproto has it."""

from __future__ import annotations

from wsproto.extensions import PerMessageDeflate


class Deflate(PerMessageDeflate):
    """An offer that cannot be understood is declined (RFC 7692 §5.1), not an error."""

    def accept(self, offer: str) -> bool | str | None:
        """The parameters agreed on, None if there is no agreement."""
        try:
            return super().accept(offer)
        except ValueError:
            return None
