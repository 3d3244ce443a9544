"""Known answers that only open; and those of RFC 9180, by the library that we use."""

from __future__ import annotations

from cryptography.hazmat.bindings._rust import openssl
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tests.transport.driver import NOW
from tests.transport.private import answers
from tests.transport.test_wire import VECTORS, parse_vector
from trickles_web.credentials import read_credentials
from trickles_web.transport.private import exchange
from trickles_web.transport.private.channel import Privacy
from trickles_web.transport.private.cover import DOWN, FlowKeys
from trickles_web.transport.private.exchange import Exchange
from trickles_web.transport.wire import START_BYTES

# RFC 9180, appendix A.1.1: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-128-GCM, base mode.
PRIVATE_KEY = "4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8"
INFO = "4f6465206f6e2061204772656369616e2055726e"
ENCAPSULATION = "37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431"
AAD = "436f756e742d30"
CIPHERTEXT = (
    "f938558b5d72f1a23810b4be2ab4f84331acc02fc97babc53a52ae8218a355a96d8770ac83d07bea87e13c512a"
)
PLAINTEXT = "4265617574792069732074727574682c20747275746820626561757479"


def vector(name: str) -> bytes:
    return parse_vector((VECTORS / f"{name}.hex").read_text(encoding="ascii"))


def privacy() -> Privacy:
    return Privacy(answers.keyring(), answers.IDENTITY.credentials, answers.counting)


def test_the_known_hello_opens() -> None:
    message, channel = privacy().opened(vector(answers.RANDOM), NOW)
    assert message == answers.HELLO
    assert channel._keys.secret == answers.FLOW_SECRET


def test_the_known_datagrams_open() -> None:
    message, channel = privacy().opened(vector("private-client"), NOW)
    assert message == answers.UPWARDS
    assert (channel.incarnation, channel.ticket) == (answers.INCARNATION, vector("private-ticket"))
    keys = FlowKeys(answers.FLOW_SECRET)
    assert keys.unseal(DOWN, vector("private-server"), START_BYTES) == answers.DOWNWARDS


def test_the_known_credentials_are_those_of_their_key() -> None:
    told = read_credentials(vector("private-credentials"))
    assert told.pin == answers.IDENTITY.pin
    assert [key.exchange for key in told.keys] == list(Exchange)
    assert b"".join(key.public for key in told.keys) == vector("private-exchange")[128:]


def test_rfc_9180() -> None:
    """Its first message has associated data, for which the library's interface has no place,
    because what is in `info` is authenticated as well. Its own tests check the RFC's messages by
    the function that is used here, of which `Suite.decrypt` is the case of no such data.
    """
    plain = openssl.hpke._decrypt_with_aad(
        exchange._SUITES[Exchange.X25519],
        bytes.fromhex(ENCAPSULATION + CIPHERTEXT),
        X25519PrivateKey.from_private_bytes(bytes.fromhex(PRIVATE_KEY)),
        bytes.fromhex(INFO),
        bytes.fromhex(AAD),
    )
    assert plain == bytes.fromhex(PLAINTEXT)
