"""What is known of private flows to the byte: stands in tests/vectors, see `test_wire`."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.transport.driver import NOW, SECRET
from trickles_web.credentials import Identity
from trickles_web.transport import wire
from trickles_web.transport.keys import Keyring
from trickles_web.transport.private.cover import DOWN, UP, FlowKeys, Nonces, flow_key
from trickles_web.transport.private.exchange import Exchange, public_bytes
from trickles_web.transport.private.ticket import seal_ticket

FLOW = b"flow-id."
INCARNATION = 0x1112131415161718
FLOW_SECRET = bytes(range(0x80, 0xA0))
PREFIX = bytes(range(8))
IDENTITY = Identity(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
UPWARDS = wire.encode_cancel(wire.Cancel(FLOW, bytes(range(40))))
DOWNWARDS = wire.encode_wait(wire.Wait(FLOW, 3, 0x25262728, 486, 250))
HELLO = wire.encode_hello(wire.Hello(FLOW, 1, 1444, b"", b"GET / HTTP/1.1\r\n\r\n"), 1115)


def counting(count: int) -> bytes:
    """For randomness the bytes 0, 1, 2 ..."""
    return bytes(range(count))


def keyring() -> Keyring:
    return Keyring((SECRET,), "vectors", 86_400_000, counting)


def ticket() -> bytes:
    return seal_ticket(keyring(), INCARNATION, FLOW_SECRET, NOW)


def private_answers() -> dict[str, bytes]:
    keys, seed = FlowKeys(FLOW_SECRET), keyring().current(NOW).exchange_seed
    return {
        "private-keys": b"".join(flow_key(FLOW_SECRET, way, PREFIX) for way in (UP, DOWN)),
        "private-ticket": ticket(),
        "private-client": keys.seal(UP, UPWARDS, ticket(), Nonces(counting)),
        "private-server": keys.seal(DOWN, DOWNWARDS, b"", Nonces(counting)),
        "private-exchange": seed + b"".join(public_bytes(one, seed) for one in Exchange),
        "private-credentials": IDENTITY.credentials(keyring(), list(Exchange), NOW),
    }


ABOUT = {
    "private-keys": "flow keys of the secret 80..9f and the prefix 00..07: a client's, a server's",
    "private-ticket": "that secret for incarnation 1112131415161718, sealed as the continuation is",
    "private-client": "a CANCEL of 40 bytes, 00..27, with that ticket, under the first of the keys",
    "private-server": "the WAIT of wait.hex, under the second of the keys",
    "private-exchange": "a seed of 128 bytes; public keys of X25519, of ML-KEM-768 with X25519",
    "private-credentials": "of those public keys, signed with the Ed25519 key 00..1f",
}
RANDOM = "private-hello"
"""A HELLO for the X25519 key, of the secret 80..9f: no two are alike, so this one only opens."""
