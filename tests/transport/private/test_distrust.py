"""A private flow whose server is not trusted: it fails, and says nothing more."""

from __future__ import annotations

import os
from typing import Any

import pytest

from trickles_web.config import ClientConfig
from trickles_web.errors import IdentityError
from trickles_web.transport import wire
from trickles_web.transport.private.flow import PrivateFlow
from trickles_web.transport.private.introduction import MOST_BYTES, PART
from trickles_web.transport.wire import Kind

REQUEST = b"GET / HTTP/1.1\r\n\r\n"
FLOW = b"flow id "


class Distrusted:
    """Nobody is believed."""

    def known(self) -> tuple[int, Any] | None:
        return None

    def learn(self, blob: bytes) -> None:
        raise IdentityError("untrusted", f"{len(blob)} bytes of lies")

    def forget(self, generation: int) -> None:
        raise AssertionError("nothing was known")


def identities(size: int) -> list[bytes]:
    """All that a server says of itself, asked or not."""
    return [
        wire.encode_identity(
            wire.Identity(FLOW, b"the name", size, at, bytes(min(PART, size - at)))
        )
        for at in range(0, size, PART)
    ]


@pytest.mark.parametrize("size", [1, 3 * PART, 3 * PART + 1, MOST_BYTES])
@pytest.mark.parametrize("at_once", [True, False])
def test_nothing_is_sent_after_it(size: int, at_once: bool) -> None:
    flow = PrivateFlow(FLOW, ClientConfig(), 0.0, Distrusted(), os.urandom)
    flow.write(REQUEST)
    asked = flow.transmit(0.0)
    for datagram in identities(size):
        assert flow.error is None
        flow.receive(datagram, 0.1)
        if not at_once:
            asked += flow.transmit(0.1)
    assert isinstance(flow.error, IdentityError) and str(flow.error) == f"{size} bytes of lies"
    after = len(asked)
    for now in (0.1, 1.0, 100.0):
        flow.write(REQUEST)
        asked += flow.transmit(now)
        assert flow.timeout() is None
    asked += flow.cancel()
    assert len(asked) == after
    assert {wire.kind_of(datagram) for datagram in asked} == {Kind.IDENTIFY}
