"""Who a server is: a certificate and its key from files, a key alone, or one that the secret gives.

The last needs no configuration, and is the same in all that share the secret; it is another one
when the secret is replaced. What clients are to pin for long is a key from a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from trickles_web.credentials import Identity
from trickles_web.errors import UsageError
from trickles_web.transport.keys import derived


def load_identity(
    certfile: str | None, keyfile: str | None, password: str | None, secret: bytes, service: str
) -> Identity:
    """`certfile`: PEM, the server's own certificate first, and perhaps its key. Raises UsageError.

    `secret`: the master secret that seals, for where there is no file.
    """
    file = keyfile or certfile
    if file is None:
        seed = derived(secret, service, "server identity", 0, 32)
        return Identity(Ed25519PrivateKey.from_private_bytes(seed))
    option = "--ssl-keyfile" if keyfile else "--ssl-certfile"
    key = _key(option, file, _read(option, file), password)
    try:
        return Identity(key, _chain(certfile))
    except UsageError as error:
        raise UsageError(f"{option} {file}: {error}") from None


def _read(option: str, file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise UsageError(f"{option} {file}: {error.strerror}") from None


def _key(option: str, file: str, pem: bytes, password: str | None) -> Any:
    try:
        return load_pem_private_key(pem, password.encode() if password else None)
    except TypeError as error:  # a password is missing, or too much
        hint = "give --ssl-keyfile-password" if not password else "it has no password"
        raise UsageError(f"{option} {file}: {hint}") from error
    except ValueError:
        wrong = " that this password opens" if password else ""
        raise UsageError(f"{option} {file}: no private key in PEM form{wrong}") from None


def _chain(certfile: str | None) -> Sequence[x509.Certificate]:
    if certfile is None:
        return ()
    try:
        return x509.load_pem_x509_certificates(_read("--ssl-certfile", certfile))
    except ValueError:
        raise UsageError(f"--ssl-certfile {certfile}: no certificates in PEM form") from None
