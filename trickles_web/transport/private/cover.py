"""Datagrams as they look on the wire in a private flow: what they say is sealed.

    client:   2 | kind, flow id | ticket, 72 bytes | nonce, 12 | sealed: the message from byte 9 on
    server:   2 | kind, flow id |                    nonce, 12 | sealed: likewise

All that stands before the sealed part is authenticated with it. Kind and flow id are readable, for
who steers by them, and for a server under load, which has to choose before it opens anything.

Keys and nonces. Client and servers share a secret of 32 bytes. Each sender draws a *prefix* of 8
bytes, and seals under a key of its own, which follows from secret, direction and prefix:

    key = HKDF-Expand(SHA-256, secret, "trickles 1 private " | direction | prefix)    AES-128-GCM
    nonce = prefix | count

No two datagrams have key and nonce in common, though servers know nothing of each other: two of
n processes that serve one flow draw the same prefix with probability n^2/2^65. (Packet numbers
would not do. A claim may be served once by each of several replicas, with other bytes.) A prefix
seals at most 2^22 datagrams, far below what AES-GCM bears under one key (RFC 9001 §6.6: 2^23).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from trickles_web.errors import WireError
from trickles_web.transport.continuation import COVER_BYTES
from trickles_web.transport.wire import START_BYTES, VERSION

PRIVATE: Final = 2
"""The version that a sealed datagram has in its first byte."""
FLOW_SECRET_BYTES: Final = 32
PREFIX_BYTES: Final = 8
NONCE_BYTES: Final = 12
AEAD_TAG_BYTES: Final = 16
assert NONCE_BYTES + AEAD_TAG_BYTES == COVER_BYTES
MOST_UNDER_A_PREFIX: Final = 1 << 22
UP: Final = b"up"
"""Of a client's datagrams,"""
DOWN: Final = b"down"
"""and of a server's."""

_MOST_KEYS: Final = 32
"""Prefixes of others whose keys are remembered."""
_FLIP: Final = (PRIVATE ^ VERSION) << 4
_FIRST: Final = [bytes((first ^ _FLIP,)) for first in range(256)]
"""First bytes, with the one version for the other."""


def is_private(datagram: bytes) -> bool:
    return bool(datagram) and datagram[0] >> 4 == PRIVATE


def start_of(datagram: bytes) -> bytes:
    """Kind and flow id of one form, as the other form has them."""
    return _FIRST[datagram[0]] + datagram[1:START_BYTES]


class Nonces:
    """Those of one sender, a server's process or a client's flow. `random(n)`: n random bytes."""

    __slots__ = ("_random", "count", "prefix")

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._random = random
        self.forked()

    def forked(self) -> None:
        """This is a child's copy: what was counted goes on to be counted in the parent."""
        self.prefix = b""
        self.count = MOST_UNDER_A_PREFIX

    def next(self) -> bytes:
        count = self.count
        if count >= MOST_UNDER_A_PREFIX:
            self.prefix, count = self._random(PREFIX_BYTES), 0
        self.count = count + 1
        return self.prefix + count.to_bytes(4, "big")


def flow_key(secret: bytes, direction: bytes, prefix: bytes) -> bytes:
    """The key under which the sender with this prefix seals, 16 bytes."""
    return _flow_key(secret, direction + prefix)


def _flow_key(secret: bytes, named: bytes) -> bytes:
    return HKDFExpand(SHA256(), 16, b"trickles 1 private " + named).derive(secret)


class FlowKeys:
    """The keys of one flow: made from its secret as they are needed, and remembered for a while."""

    __slots__ = ("_made", "secret")

    def __init__(self, secret: bytes) -> None:
        self.secret = secret
        self._made: dict[bytes, AESGCM] = {}

    def __repr__(self) -> str:  # the secret must not show in a traceback's locals
        return "<FlowKeys>"

    def _key(self, named: bytes) -> AESGCM:
        return AESGCM(_flow_key(self.secret, named))

    def _remember(self, named: bytes, key: AESGCM) -> None:
        """It has sealed or opened something: forged prefixes do not take the places of others."""
        if len(self._made) >= _MOST_KEYS:
            self._made.clear()
        self._made[named] = key

    def seal(self, direction: bytes, message: bytes, ticket: bytes, nonces: Nonces) -> bytes:
        """The datagram that says `message`."""
        nonce = nonces.next()
        head = start_of(message) + ticket + nonce
        named = direction + nonces.prefix
        key = self._made.get(named)
        if key is None:
            key = self._key(named)
            self._remember(named, key)
        return head + key.encrypt(nonce, message[START_BYTES:], head)

    def unseal(self, direction: bytes, datagram: bytes, at: int) -> bytes:
        """The message; its nonce stands at `at`. Raises WireError."""
        body = at + NONCE_BYTES
        nonce = datagram[at:body]
        if len(datagram) < body + AEAD_TAG_BYTES:
            raise WireError("truncated")
        named = direction + nonce[:PREFIX_BYTES]
        known = self._made.get(named)
        key = self._key(named) if known is None else known
        try:
            plain = key.decrypt(nonce, datagram[body:], datagram[:body])
        except InvalidTag:
            raise WireError("seal") from None
        if known is None:
            self._remember(named, key)
        return start_of(datagram) + plain
