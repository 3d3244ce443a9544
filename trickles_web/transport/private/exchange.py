"""The first datagram of a private flow, sealed to a key that the server is known to have.

    2 | HELLO, flow id | key generation, 4 | exchange, 1 | HPKE: secret, 32 | HELLO from byte 9 on

HPKE (RFC 9180) in base mode, one message. All that stands before it is in its `info`. Servers
derive the private keys from the secret that they share, one for each key generation and suite, so
all have the same, and they rotate with everything else.

With X25519 a HELLO has room for a request. The hybrid of ML-KEM-768 and X25519 takes 1,120 bytes
for its encapsulation: that HELLO has nothing but the secret with it, and the request follows when
the ticket is there, one round trip later.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from enum import IntEnum
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from trickles_web.config import BASE_DATAGRAM
from trickles_web.errors import ContinuationError, WireError
from trickles_web.transport.keys import EXCHANGE_SEED_BYTES
from trickles_web.transport.private.cover import AEAD_TAG_BYTES, FLOW_SECRET_BYTES, start_of
from trickles_web.transport.wire import START_BYTES

_KEY: Final = struct.Struct(">IB")
_LABEL: Final = b"trickles 1 hello\0"
_MLKEM_PUBLIC_BYTES: Final = 1184
_ANY: Final = X25519PrivateKey.from_private_bytes(bytes(range(32)))


class Exchange(IntEnum):
    """How a client and a server come to a secret, the better ones last."""

    X25519 = 1
    MLKEM768_X25519 = 2


_LARGEST_HELLO: Final = {Exchange.X25519: BASE_DATAGRAM, Exchange.MLKEM768_X25519: 1232}
"""The latter is what any IPv6 path carries in UDP: less would not hold what a gateway says."""

_KEMS: Final = {
    Exchange.X25519: hpke.KEM.X25519,
    Exchange.MLKEM768_X25519: hpke.KEM.MLKEM768_X25519,
}
_SUITES: Final = {
    exchange: hpke.Suite(kem, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_128_GCM)
    for exchange, kem in _KEMS.items()
}
ENCAPSULATION_BYTES: Final = {Exchange.X25519: 32, Exchange.MLKEM768_X25519: 1120}


def hello_bytes(exchange: Exchange) -> int:
    """How long a HELLO is to be, so that any path carries it when it is sealed."""
    return (
        _LARGEST_HELLO[exchange]
        - _KEY.size
        - ENCAPSULATION_BYTES[exchange]
        - FLOW_SECRET_BYTES
        - AEAD_TAG_BYTES
    )


def _parts(exchange: Exchange, seed: bytes) -> tuple[X25519PrivateKey, MLKEM768PrivateKey | None]:
    """The private keys that `EXCHANGE_SEED_BYTES` secret bytes of a generation stand for."""
    assert len(seed) == EXCHANGE_SEED_BYTES
    alone, beside, mlkem = seed[:32], seed[32:64], seed[64:]
    if exchange is Exchange.X25519:
        return X25519PrivateKey.from_private_bytes(alone), None
    return X25519PrivateKey.from_private_bytes(beside), MLKEM768PrivateKey.from_seed_bytes(mlkem)


def private_key(exchange: Exchange, seed: bytes) -> Any:
    """The key of a generation with this seed, as HPKE takes it."""
    x25519, mlkem = _parts(exchange, seed)
    return x25519 if mlkem is None else hpke.MLKEM768X25519PrivateKey(mlkem, x25519)


def public_bytes(exchange: Exchange, seed: bytes) -> bytes:
    """The public key of `private_key`, as clients are told of it."""
    x25519, mlkem = _parts(exchange, seed)
    before = b"" if mlkem is None else mlkem.public_key().public_bytes_raw()
    return before + x25519.public_key().public_bytes_raw()


def public_key(exchange: Exchange, told: bytes) -> Any:
    """Of `public_bytes`. Raises WireError, also if no secret could be agreed on with it."""
    mlkem, x25519 = b"", told
    if exchange is Exchange.MLKEM768_X25519:
        mlkem, x25519 = told[:_MLKEM_PUBLIC_BYTES], told[_MLKEM_PUBLIC_BYTES:]
    try:
        point = X25519PublicKey.from_public_bytes(x25519)
        _ANY.exchange(point)  # refuses points of small order, RFC 7748 §6.1
        if exchange is Exchange.X25519:
            return point
        return hpke.MLKEM768X25519PublicKey(MLKEM768PublicKey.from_public_bytes(mlkem), point)
    except ValueError:
        raise WireError("key") from None


def seal_hello(
    message: bytes, secret: bytes, exchange: Exchange, generation: int, key: Any
) -> bytes:
    """The datagram that says the HELLO `message`, and the secret of its flow."""
    head = start_of(message) + _KEY.pack(generation, exchange)
    sealed = _SUITES[exchange].encrypt(secret + message[START_BYTES:], key, _LABEL + head)
    return head + sealed


def unseal_hello(datagram: bytes, key_of: Callable[[int, Exchange], Any]) -> tuple[bytes, bytes]:
    """HELLO and secret. key_of(generation, exchange): the private key, or what it raises.

    Raises WireError, and ContinuationError if it was sealed to another key of that name: whoever
    has been told of that has to ask again.
    """
    at = START_BYTES + _KEY.size
    try:
        generation, number = _KEY.unpack_from(datagram, START_BYTES)
        exchange = Exchange(number)
    except (struct.error, ValueError):
        raise WireError("exchange") from None
    key = key_of(generation, exchange)
    try:
        plain = _SUITES[exchange].decrypt(datagram[at:], key, _LABEL + datagram[:at])
    except InvalidTag:
        raise ContinuationError("forged") from None
    if len(plain) < FLOW_SECRET_BYTES:
        raise WireError("truncated")
    return start_of(datagram) + plain[FLOW_SECRET_BYTES:], plain[:FLOW_SECRET_BYTES]
