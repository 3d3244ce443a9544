"""A changed datagram changes nothing; `python -m loadtest fuzz` flips bits of 100,000."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from tests.sim.tampering import tampered
from tests.sim.world import Config
from trickles_web.errors import WireError
from trickles_web.transport.private.cover import (
    AEAD_TAG_BYTES,
    NONCE_BYTES,
    PREFIX_BYTES,
    FlowKeys,
    flow_key,
    start_of,
)


def test_changed_datagrams_change_no_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Config, "private", True)
    done, broken = tampered(3000, 1)
    assert not broken
    assert set(done) == {"flip", "cut", "lengthen", "splice", "other"}
    assert min(done.values()) >= 500


def test_who_does_not_look_at_tags_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same with a cipher of which nothing is authenticated."""

    def read(self: FlowKeys, direction: bytes, datagram: bytes, at: int) -> bytes:
        nonce, body = datagram[at : at + NONCE_BYTES], datagram[at + NONCE_BYTES : -AEAD_TAG_BYTES]
        if len(nonce) < NONCE_BYTES:
            raise WireError("truncated")
        key = algorithms.AES128(flow_key(self.secret, direction, nonce[:PREFIX_BYTES]))
        counter = modes.CTR(nonce + (2).to_bytes(4, "big"))  # as AES-GCM has it, NIST SP 800-38D
        return start_of(datagram) + Cipher(key, counter).decryptor().update(body)

    monkeypatch.setattr(Config, "private", True)
    monkeypatch.setattr(FlowKeys, "unseal", read)
    _, broken = tampered(3000, 1)
    assert broken
