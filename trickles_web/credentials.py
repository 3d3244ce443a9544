"""What a server says of itself to who wants to open a private flow: its keys, and who vouches.

    version, 1 byte | keys, 1 | each: exchange 1, generation 4, from 8, until 8 (ms), length 2, key
    certificates, 1 | each: length 2, DER, the server's own first; if none: its public key, SPKI
    signature: length 2, bytes, of all before it behind a label

The signature is by the certificate's key, or by the public key that stands in its place. Who is to
be believed is for the client to judge; here is only what is said, and that one key said it.
"""

from __future__ import annotations

import hashlib
import struct
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)
from cryptography.utils import CryptographyDeprecationWarning

from trickles_web.errors import UsageError, WireError
from trickles_web.transport.keys import Keyring
from trickles_web.transport.private.exchange import Exchange, public_bytes

SigningKey = (
    rsa.RSAPrivateKey
    | ec.EllipticCurvePrivateKey
    | ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
)
VerifyingKey = (
    rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey
)

FORMAT: Final = 1
LEAST_RSA_BITS: Final = 2048
_UNREADABLE: Final = (
    struct.error,
    ValueError,
    TypeError,
    InvalidSignature,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    CryptographyDeprecationWarning,  # of what will be a ValueError; where warnings are errors
)
_LABEL: Final = b"trickles 1 server keys\0"
_KEY: Final = struct.Struct(">BIQQH")
_LENGTH: Final = struct.Struct(">H")


@dataclass(frozen=True, slots=True)
class ServerKey:
    """A public key to which a HELLO may be sealed, `since` and `until` wall-clock ms."""

    exchange: int
    generation: int
    since: int
    until: int
    public: bytes


@dataclass(frozen=True, slots=True)
class Credentials:
    """As they are read; the signature was found to be of `public_key`."""

    keys: tuple[ServerKey, ...]
    chain: tuple[x509.Certificate, ...]
    """The server's own certificate first; empty if it has none."""
    public_key: VerifyingKey

    @property
    def pin(self) -> str:
        return pin_of(self.public_key)


def pin_of(key: VerifyingKey) -> str:
    """The name of a public key, as curl and HPKP have it: `sha256//` and base64 of its SPKI's hash
    (RFC 7469 §2.4).
    """
    return "sha256//" + b64encode(hashlib.sha256(_spki(key)).digest()).decode()


def _spki(key: VerifyingKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


class Identity:
    """A server's own: what it signs with, and the certificates that vouch for that."""

    def __init__(self, key: SigningKey, chain: Sequence[x509.Certificate] = ()) -> None:
        """Raises UsageError if the first certificate is of another key, or the key of no use."""
        if not isinstance(key, SigningKey) or _is_weak(key):
            raise UsageError("the key must be of RSA with 2048 bits or more, EC, Ed25519 or Ed448")
        if chain and pin_of(_verifying(chain[0].public_key())) != pin_of(key.public_key()):
            raise UsageError("the certificate is of another key")
        self._key = key
        self._chain = [one.public_bytes(Encoding.DER) for one in chain]
        self.pin = pin_of(key.public_key())

    def __repr__(self) -> str:
        return f"<Identity {self.pin}>"

    def credentials(self, keyring: Keyring, exchanges: Sequence[Exchange], now: int) -> bytes:
        """What to tell clients now (wall-clock ms)."""
        generation = keyring.generation(now)
        since, until = keyring.accepted(now)
        seed = keyring.current(now).exchange_seed
        parts = [struct.pack(">BB", FORMAT, len(exchanges))]
        for exchange in exchanges:
            public = public_bytes(exchange, seed)
            parts += [_KEY.pack(exchange, generation, since, until, len(public)), public]
        parts.append(bytes((len(self._chain),)))
        for one in self._chain or (_spki(self._key.public_key()),):
            parts += [_LENGTH.pack(len(one)), one]
        said = b"".join(parts)
        signature = _sign(self._key, _LABEL + said)
        return said + _LENGTH.pack(len(signature)) + signature


def read_credentials(blob: bytes) -> Credentials:
    """Raises WireError if it cannot be read, or is not signed by the key that it names."""
    try:
        keys, certificates, vouched, at = _parts(blob)
        (length,) = _LENGTH.unpack_from(blob, at)
        signature = blob[at + _LENGTH.size :]
        if length != len(signature):
            raise WireError("credentials")
        chain = tuple(x509.load_der_x509_certificate(one) for one in certificates)
        public = chain[0].public_key() if chain else load_der_public_key(vouched)
        key = _verifying(public)
        _verify(key, signature, _LABEL + blob[:at])
    except _UNREADABLE:
        raise WireError("credentials") from None
    return Credentials(keys, chain, key)


def _parts(blob: bytes) -> tuple[tuple[ServerKey, ...], list[bytes], bytes, int]:
    """Keys, certificates, the public key without any, and where the signature begins."""
    version, count = struct.unpack_from(">BB", blob)
    if version != FORMAT:
        raise WireError("credentials")
    at, keys = 2, []
    for _ in range(count):
        exchange, generation, since, until, length = _KEY.unpack_from(blob, at)
        at += _KEY.size
        keys.append(ServerKey(exchange, generation, since, until, blob[at : at + length]))
        at += length
    (count,) = struct.unpack_from(">B", blob, at)
    at, parts = at + 1, []
    for _ in range(count or 1):
        (length,) = _LENGTH.unpack_from(blob, at)
        at += _LENGTH.size + length
        parts.append(blob[at - length : at])
    return tuple(keys), parts if count else [], b"" if count else parts[0], at


def _is_weak(key: SigningKey | VerifyingKey) -> bool:
    """The library's verifier does not ask this of a server's own key."""
    return isinstance(key, (rsa.RSAPrivateKey, rsa.RSAPublicKey)) and key.key_size < LEAST_RSA_BITS


def _verifying(key: object) -> VerifyingKey:
    if not isinstance(key, VerifyingKey) or _is_weak(key):
        raise WireError("credentials")
    return key


def _sign(key: SigningKey, said: bytes) -> bytes:
    """Always the same of the same, where the algorithm can: replicas then say the same."""
    match key:
        case rsa.RSAPrivateKey():
            return key.sign(said, padding.PKCS1v15(), hashes.SHA256())
        case ec.EllipticCurvePrivateKey():
            return key.sign(said, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
        case _:
            return key.sign(said)


def _verify(key: VerifyingKey, signature: bytes, said: bytes) -> None:
    match key:
        case rsa.RSAPublicKey():
            key.verify(signature, said, padding.PKCS1v15(), hashes.SHA256())
        case ec.EllipticCurvePublicKey():
            key.verify(signature, said, ec.ECDSA(hashes.SHA256()))
        case _:
            key.verify(signature, said)
