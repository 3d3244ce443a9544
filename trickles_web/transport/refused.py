"""A claim that is refused, as an exception inside the transport."""

from __future__ import annotations

from trickles_web.errors import TricklesError
from trickles_web.transport.wire import Code


class RefusedError(TricklesError):
    """Never leaves the transport: `Server.redeem` turns it into a Refusal."""

    def __init__(self, code: Code, retry_after: int = 0) -> None:
        super().__init__(code.name)
        self.code = code
        self.retry_after = retry_after
