"""Keys: derivation, separation, rotation, and AEAD nonces that never repeat."""

from __future__ import annotations

import random
import traceback

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transport.driver import NOW, SECRET, keyring
from trickles_web.errors import ContinuationError, SecretError
from trickles_web.transport.keys import SEAL_NONCE_BYTES, Keyring

ROTATION = 86_400_000


def nonce_of(sealed: bytes) -> bytes:
    return sealed[:SEAL_NONCE_BYTES]


@given(st.binary(max_size=100), st.binary(max_size=100))
def test_what_is_sealed_opens(plain: bytes, readable: bytes) -> None:
    keys = keyring().current(NOW)
    assert keys.unseal(keys.seal(plain, readable), readable) == plain


@settings(max_examples=30)
@given(st.data())
def test_what_is_altered_does_not(data: st.DataObject) -> None:
    keys = keyring().current(NOW)
    sealed = keys.seal(b"plain text", b"readable")
    bit = data.draw(st.integers(0, 8 * len(sealed) - 1))
    damaged = bytearray(sealed)
    damaged[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ContinuationError):
        keys.unseal(bytes(damaged), b"readable")
    with pytest.raises(ContinuationError):
        keys.unseal(sealed, b"readablE")
    with pytest.raises(ContinuationError):
        keys.unseal(sealed[: data.draw(st.integers(0, len(sealed) - 1))], b"readable")


def test_seal_nonces_do_not_repeat() -> None:
    keys = keyring().current(NOW)
    seen = {nonce_of(keys.seal(b"", b"")) for _ in range(5000)}
    assert len(seen) == 5000
    assert len({nonce[:8] for nonce in seen}) == 1


def test_a_new_prefix_is_drawn_when_the_count_wraps() -> None:
    keys = keyring().current(NOW)
    first = nonce_of(keys.seal(b"", b""))
    keys._sealed = (1 << 32) - 2  # four thousand million seals later
    around = [nonce_of(keys.seal(b"", b"")) for _ in range(4)]
    assert [nonce[8:].hex() for nonce in around] == [
        "fffffffe",
        "ffffffff",
        "00000000",
        "00000001",
    ]
    assert around[0][:8] == around[1][:8] == first[:8]
    assert around[2][:8] == around[3][:8] != first[:8]


def test_processes_draw_prefixes_of_their_own() -> None:
    prefixes = {nonce_of(keyring(seed=seed).current(NOW).seal(b"", b""))[:8] for seed in range(200)}
    assert len(prefixes) == 200


def test_one_process_draws_a_prefix_per_generation() -> None:
    ring = keyring()
    a = nonce_of(ring.current(NOW).seal(b"", b""))
    b = nonce_of(ring.current(NOW + ROTATION).seal(b"", b""))
    assert a[:8] != b[:8]


def test_neighbouring_generations_open_and_others_do_not() -> None:
    ring = keyring()
    g = ring.generation(NOW)
    sealed = ring.current(NOW).seal(b"plain", b"")
    assert ring.at(g, NOW).unseal(sealed, b"") == b"plain"
    assert ring.at(g, NOW + ROTATION).unseal(sealed, b"") == b"plain"
    assert ring.at(g, NOW - ROTATION).unseal(sealed, b"") == b"plain"
    for away in (-2, 2, 1000):
        with pytest.raises(ContinuationError) as caught:
            ring.at(g, NOW + away * ROTATION)
        assert caught.value.reason == "expired"
    with pytest.raises(ContinuationError):
        ring.at(g + 1, NOW).unseal(sealed, b"")


def test_replicas_and_restarts_derive_the_same_keys() -> None:
    one, other = keyring(seed=1).current(NOW), keyring(seed=2).current(NOW)
    assert other.unseal(one.seal(b"plain", b"r"), b"r") == b"plain"
    assert one.identity(b"e", 1, 2, 3) == other.identity(b"e", 1, 2, 3)
    assert one.address_tag("192.0.2.1") == other.address_tag("192.0.2.1")
    assert one.encrypt_blocks(bytes(16)) == other.encrypt_blocks(bytes(16))


@pytest.mark.parametrize(
    "stranger",
    [
        keyring(service="other"),
        keyring(service="test\0seal"),
        keyring(secret=bytes(31) + b"\1"),
    ],
)
def test_another_service_or_secret_is_a_stranger(stranger: Keyring) -> None:
    ours, theirs = keyring().current(NOW), stranger.current(NOW)
    with pytest.raises(ContinuationError):
        theirs.unseal(ours.seal(b"plain", b""), b"")
    assert ours.identity(b"e", 1, 2, 3) != theirs.identity(b"e", 1, 2, 3)
    assert ours.address_tag("192.0.2.1") != theirs.address_tag("192.0.2.1")
    assert ours.encrypt_blocks(bytes(16)) != theirs.encrypt_blocks(bytes(16))


def test_identities_differ_by_purpose_and_by_every_argument() -> None:
    keys = keyring().current(NOW)
    names = {
        keys.identity(purpose, a, b, c)
        for purpose in (b"e", b"l", b"g")
        for a in range(4)
        for b in range(4)
        for c in range(4)
    }
    assert len(names) == 3 * 64
    assert all(0 <= name < 1 << 64 for name in names)


def test_the_secret_does_not_show() -> None:
    secret = b"a secret nobody should ever read"
    ring = keyring(secret=secret)
    keys = ring.current(NOW)
    try:
        ring.at(0, NOW)
    except ContinuationError as error:
        shown = "".join(traceback.format_exception(error))
    for text in (repr(ring), str(ring), repr(keys), str(keys), shown):
        assert "nobody" not in text
        assert secret.hex() not in text


def test_a_short_secret_is_an_error_that_does_not_show_it() -> None:
    with pytest.raises(SecretError) as caught:
        Keyring((b"short secret",), "test", ROTATION, random.Random(1).randbytes)
    assert "short secret" not in str(caught.value)
    Keyring((SECRET,), "test", ROTATION, random.Random(1).randbytes)
