"""Names of requests and responses: digests of their bytes, of requests as clients make them too."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES128
from cryptography.hazmat.primitives.ciphers.modes import GCM

NAME_KEY_BYTES: Final = 16

SHORT: Final = 8_192
"""Bytes up to which BLAKE2b costs less than to begin with GCM."""

_FIXED_NONCE: Final = bytes(12)

_NEW: Final = blake2b(digest_size=8)


def hasher() -> blake2b:
    """For bytes that come in pieces. A copy costs less than a new one."""
    return _NEW.copy()


def digest(data: bytes | bytearray | memoryview) -> bytes:
    """8 bytes that name a request or a response: BLAKE2b, unkeyed."""
    name = _NEW.copy()
    name.update(data)
    return name.digest()


def edition_of(name: bytes) -> int:
    """The 32-bit edition of a response whose digest is `name`; never 0, which means "none"."""
    return int.from_bytes(name[:4], "big") or 1


class Names:
    """Names of responses: the same for the same bytes, wherever the key is the same.

    Of more than a few bytes BLAKE2b would be a third of what sending them costs, and GMAC costs
    next to nothing. Its tag under one nonce is a universal hash (NIST SP 800-38D §8.3: who sees
    tags could learn the key), so it stays secret, and BLAKE2b of it is the name. Nobody without the
    key can make two responses of one name but by chance, at 64 bits.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        """keys: NAME_KEY_BYTES each, for this purpose only; the same at all servers of a service,
        but for those that are about to be replaced. The first counts for what is new.
        """
        self._ciphers = [Cipher(AES128(key), GCM(_FIXED_NONCE)) for key in keys]

    def of(self, pieces: list[bytes | bytearray], like: int = 0) -> bytes:
        """8 bytes that name a response, whatever the pieces that it is in.

        like: an edition that it may have by another of the keys.
        """
        if sum(map(len, pieces)) <= SHORT:
            return digest(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        name = self._by(self._ciphers[0], pieces)
        if like and edition_of(name) != like:
            for cipher in self._ciphers[1:]:
                other = self._by(cipher, pieces)
                if edition_of(other) == like:
                    return other
        return name

    @staticmethod
    def _by(cipher: Cipher[GCM], pieces: list[bytes | bytearray]) -> bytes:
        tagging = cipher.encryptor()
        for piece in pieces:
            tagging.authenticate_additional_data(piece)
        tagging.finalize()
        return digest(tagging.tag)
