"""Keys and nonces of a private flow: none twice, whoever seals, and whatever is counted."""

from __future__ import annotations

import random

from trickles_web.transport.private import cover
from trickles_web.transport.private.cover import (
    DOWN,
    MOST_UNDER_A_PREFIX,
    NONCE_BYTES,
    PREFIX_BYTES,
    UP,
    FlowKeys,
    Nonces,
    flow_key,
)


def test_a_new_prefix_is_drawn_before_the_bounds_of_the_cipher() -> None:
    """RFC 9001 §6.6: 2^23 datagrams under one key at most."""
    nonces = Nonces(random.Random(1).randbytes)
    first = nonces.next()
    nonces.count = MOST_UNDER_A_PREFIX - 1
    last, next_one = nonces.next(), nonces.next()
    assert first[:PREFIX_BYTES] == last[:PREFIX_BYTES] != next_one[:PREFIX_BYTES]
    assert last[PREFIX_BYTES:] == (MOST_UNDER_A_PREFIX - 1).to_bytes(4, "big")
    assert next_one[PREFIX_BYTES:] == bytes(4)
    assert 2 * MOST_UNDER_A_PREFIX <= 1 << 23
    assert len(first) == NONCE_BYTES


def test_a_child_counts_on_its_own() -> None:
    nonces = Nonces(random.Random(1).randbytes)
    before = nonces.next()
    nonces.forked()
    assert nonces.next()[:PREFIX_BYTES] != before[:PREFIX_BYTES]


def test_each_secret_direction_and_prefix_has_a_key_of_its_own() -> None:
    """So a nonce that two senders share by chance is under one key only in one flow's direction."""
    prefixes = [bytes(8), b"down" + bytes(4), b"p" * 8]
    made = {
        flow_key(secret, way, prefix)
        for secret in (bytes(32), b"s" * 32)
        for way in (UP, DOWN)
        for prefix in prefixes
    }
    assert len(made) == 2 * 2 * len(prefixes)


def test_replicas_that_serve_one_claim_twice_never_seal_under_one_key() -> None:
    """Packet numbers repeat there, with other bytes: what is sealed must not tell."""
    secret, draw = bytes(32), random.Random(1)
    message = b"\x18flow-id." + bytes(50)
    sealed = [FlowKeys(secret).seal(DOWN, message, b"", Nonces(draw.randbytes)) for _ in range(50)]
    assert len({one[9 + PREFIX_BYTES :] for one in sealed}) == 50


def test_what_shows_is_kind_flow_sender_count_and_length() -> None:
    message = b"\x18flow-id." + b"secret" * 9
    nonces = Nonces(random.Random(1).randbytes)
    for direction, ticket in ((UP, b"t" * 72), (DOWN, b"")):
        sealed = FlowKeys(bytes(32)).seal(direction, message, ticket, nonces)
        nonce = nonces.prefix + (nonces.count - 1).to_bytes(4, "big")
        assert sealed.startswith(b"\x28flow-id." + ticket + nonce)
        assert len(sealed) == len(message) + len(ticket) + 28


def test_the_secret_does_not_show() -> None:
    keys = FlowKeys(b"very secret".ljust(32))
    assert "very secret" not in f"{keys!r} {cover.__name__}"
