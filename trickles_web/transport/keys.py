"""Keys: everything is derived from a master secret that all replicas of a service share.

    secret --HKDF(version | service | purpose | period)--> seal, nonce, identity, address, exchange

*Service* separates what runs on one secret: a continuation of one service means nothing to another.
*Period* is wall clock // rotation period, so replicas rotate together without talking; the
previous one still opens (continuations in flight), and so does the next (clock skew).

The secret itself can be replaced while replicas serve: each has several, of which the first seals
and all open. So first every replica learns the new one, then each may seal with it, and when what
was sealed with the old one has expired that can go. A *generation* says which secret, and when:

    tag of the secret, 6 bits | period modulo 2^26

AEAD nonces must never repeat under one key, though many processes seal under it and none of them
remembers anything: each process draws a 64-bit prefix at random and counts in the other 32 bits;
it draws again when the count wraps. Two of n processes share a prefix with probability n^2/2^65.
In the child of a process that forks, `forked` makes it draw anew.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from trickles_web.errors import ContinuationError, SecretError

SECRET_BYTES: Final = 32
SEAL_NONCE_BYTES: Final = 12
SEAL_TAG_BYTES: Final = 16
SEAL_OVERHEAD: Final = SEAL_NONCE_BYTES + SEAL_TAG_BYTES

_PERIOD_BITS: Final = 26
_PERIODS: Final = (1 << _PERIOD_BITS) - 1

EXCHANGE_SEED_BYTES: Final = 128
"""Of which the keys are made to which clients seal the secrets of private flows."""

MOST_TAGS: Final = 4096
"""Hosts whose tag is remembered: making one costs more than a datagram's header."""

_IDENTITY: Final = struct.Struct(">QcxIH")
_NAME: Final = struct.Struct(">Q8x")


def derived(secret: bytes, service: str, purpose: str, generation: int, length: int) -> bytes:
    """A key of `length` bytes for one purpose."""
    info = "\0".join(("trickles 1", service, purpose, str(generation))).encode()
    return HKDF(SHA256(), length, salt=None, info=info).derive(secret)


def _block_cipher(key: bytes) -> CipherContext:
    """AES-128, block by block: of inputs that never recur it is a pseudo-random function.

    It is kept, because making one costs 20 blocks.
    """
    return Cipher(algorithms.AES128(key), modes.ECB()).encryptor()


class Keys:
    """The keys of one generation."""

    __slots__ = (
        "_address",
        "_blocks",
        "_names",
        "_prefix",
        "_random",
        "_seal",
        "_sealed",
        "_tags",
        "exchange_seed",
    )

    def __init__(
        self, secret: bytes, service: str, generation: int, random: Callable[[int], bytes]
    ) -> None:
        def derive(purpose: str, length: int) -> bytes:
            return derived(secret, service, purpose, generation, length)

        self._seal = AESGCM(derive("seal", 16))
        self._blocks = _block_cipher(derive("nonce", 16))
        self._names = _block_cipher(derive("identity", 16))
        self._address = derive("address", 32)
        self.exchange_seed = derive("exchange", EXCHANGE_SEED_BYTES)
        self._tags: dict[str, int] = {}
        self._random = random
        self._prefix = b""
        self._sealed = 0

    def seal(self, plain: bytes, readable: bytes) -> bytes:
        """AEAD: nonce | ciphertext | tag, with `readable` authenticated."""
        count = self._sealed & 0xFFFF_FFFF
        if not count:
            self._prefix = self._random(8)
        self._sealed += 1
        nonce = self._prefix + count.to_bytes(4, "big")
        return nonce + self._seal.encrypt(nonce, plain, readable)

    def unseal(self, sealed: bytes, readable: bytes) -> bytes:
        """Raises ContinuationError("forged")."""
        try:
            return self._seal.decrypt(
                sealed[:SEAL_NONCE_BYTES], sealed[SEAL_NONCE_BYTES:], readable
            )
        except (InvalidTag, ValueError):
            raise ContinuationError("forged") from None

    def identity(self, purpose: bytes, a: int, b: int, c: int) -> int:
        """A 64-bit keyed name; `purpose` is one byte, `a` has 64 bits, `b` 32, `c` 16.

        That is one block: half of a cipher's answer to it is as good as that of a keyed hash.
        """
        name: int = _NAME.unpack(self._names.update(_IDENTITY.pack(a, purpose, b, c)))[0]
        return name

    def address_tag(self, host: str) -> int:
        """A 64-bit keyed name of a host; the port is compared apart."""
        tag = self._tags.get(host)
        if tag is None:
            if len(self._tags) >= MOST_TAGS:
                self._tags.clear()
            digest = hashlib.blake2b(host.encode(), digest_size=8, key=self._address).digest()
            tag = self._tags[host] = int.from_bytes(digest, "big")
        return tag

    def encrypt_blocks(self, blocks: bytes) -> bytes:
        """AES-128 of each 16-byte block."""
        return self._blocks.update(blocks)


class Keyring:
    """The keys of the generations that may be met now."""

    def __init__(
        self,
        secrets: Sequence[bytes],
        service: str,
        rotation_ms: int,
        random: Callable[[int], bytes],
    ) -> None:
        """The first secret seals. Raises SecretError."""
        if not secrets or min(map(len, secrets)) < SECRET_BYTES:
            raise SecretError(f"the secret must have {SECRET_BYTES} bytes or more")
        tags = [derived(secret, service, "tag", 0, 1)[0] >> 2 for secret in secrets]
        self._secrets = dict(zip(tags, secrets, strict=True))
        if len(self._secrets) < len(secrets):  # one pair of 64
            raise SecretError("two of the secrets cannot be told apart; make another new one")
        self._sealing = tags[0] << _PERIOD_BITS
        self._service = service
        self._rotation_ms = rotation_ms
        self._random = random
        self._made: dict[int, Keys] = {}

    def __repr__(self) -> str:  # the secret must not show in a traceback's locals
        return f"<Keyring of {self._service!r}>"

    def forked(self) -> None:
        """This is a child's copy: what was counted goes on to be counted in the parent."""
        self._made.clear()

    def generation(self, now: int) -> int:
        """That of what is sealed at a wall-clock time in milliseconds."""
        return self._sealing | now // self._rotation_ms & _PERIODS

    def accepted(self, now: int) -> tuple[int, int]:
        """From when and until when what is sealed now can be opened, as far as clocks agree."""
        period = now // self._rotation_ms
        return (period - 1) * self._rotation_ms, (period + 2) * self._rotation_ms

    def current(self, now: int) -> Keys:
        generation = self._sealing | now // self._rotation_ms & _PERIODS
        return self._made.get(generation) or self._make(generation)

    def at(self, generation: int, now: int) -> Keys:
        """Keys of a generation. Raises ContinuationError: "expired" if it is not of now,
        "secret" if it is of a secret that is not known here.
        """
        if self._away(generation, now) > 1:
            raise ContinuationError("expired")
        return self._made.get(generation) or self._make(generation)

    def of_nonces(self, short: int, now: int) -> tuple[int, Keys]:
        """The generation of which `short_of` is `short`, and its keys. Raises as `at`."""
        tag, period = short >> 2, now // self._rotation_ms
        for near in (period, period - 1, period + 1):
            if near & 3 == short & 3:
                generation = tag << _PERIOD_BITS | near & _PERIODS
                return generation, self._made.get(generation) or self._make(generation)
        raise ContinuationError("expired")

    def _away(self, generation: int, now: int) -> int:
        """How many periods it is from now."""
        ahead = generation - now // self._rotation_ms & _PERIODS
        return min(ahead, _PERIODS + 1 - ahead)

    def _make(self, generation: int) -> Keys:
        secret = self._secrets.get(generation >> _PERIOD_BITS)
        if secret is None:
            raise ContinuationError("secret")
        period = generation & _PERIODS
        keys = Keys(secret, self._service, period, self._random)
        near = {(period + d) & _PERIODS for d in range(-2, 3)}
        self._made = {g: k for g, k in self._made.items() if g & _PERIODS in near}
        self._made[generation] = keys
        return keys


def short_of(generation: int) -> int:
    """8 bits that tell it from all others that may be met at the same time."""
    return generation >> _PERIOD_BITS << 2 | generation & 3
