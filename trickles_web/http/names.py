"""Names of requests and responses: digests of their bytes, as the client computes them too."""

from __future__ import annotations

from hashlib import blake2b

_NEW = blake2b(digest_size=8)


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
