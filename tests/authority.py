"""A certificate authority for tests, and what it certifies."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from trickles_web.credentials import Identity, SigningKey

DAY = datetime.timedelta(days=1)
SERVERS: Sequence[x509.ObjectIdentifier] = (ExtendedKeyUsageOID.SERVER_AUTH,)


def p256() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def names_of(hosts: Sequence[str]) -> list[x509.GeneralName]:
    found: list[x509.GeneralName] = []
    for host in hosts:
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            found.append(x509.DNSName(host))
    return found


@dataclass(frozen=True)
class Certified:
    """A server's key, and its certificates, its own first."""

    key: SigningKey
    chain: tuple[x509.Certificate, ...]

    @property
    def identity(self) -> Identity:
        return Identity(self.key, self.chain)

    def write(self, directory: Path, password: bytes | None = None) -> tuple[str, str]:
        """The paths of the certificates' file and the key's."""
        certificates, key = directory / "server.pem", directory / "server.key"
        certificates.write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in self.chain))
        secrecy = NoEncryption() if password is None else BestAvailableEncryption(password)
        key.write_bytes(self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secrecy))
        return str(certificates), str(key)


class Authority:
    """A root, or one that another has certified."""

    def __init__(self, name: str = "Test", above: Authority | None = None) -> None:
        self.key = p256()
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.above = above
        issuer = above or self
        builder = issuer._builder(self.name, self.key.public_key(), -DAY, 100 * DAY)
        builder = builder.add_extension(x509.BasicConstraints(True, None), critical=True)
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        builder = builder.add_extension(usage, critical=True)
        self.certificate = builder.sign(issuer.key, hashes.SHA256())

    def _builder(
        self,
        subject: x509.Name,
        key: rsa.RSAPublicKey
        | ec.EllipticCurvePublicKey
        | ed25519.Ed25519PublicKey
        | ed448.Ed448PublicKey,
        since: datetime.timedelta,
        until: datetime.timedelta,
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        mine = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        return (
            x509.CertificateBuilder(self.name, subject, key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + since)
            .not_valid_after(now + until)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(mine, critical=False)
        )

    def certify(
        self,
        *hosts: str,
        key: SigningKey | None = None,
        since: datetime.timedelta = -DAY,
        until: datetime.timedelta = 10 * DAY,
        usage: Sequence[x509.ObjectIdentifier] = SERVERS,
        names: Sequence[x509.GeneralName] | None = None,
    ) -> Certified:
        """For these hosts; with those between it and the root. names: instead of hosts."""
        own = key or p256()
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server")])
        builder = self._builder(subject, own.public_key(), since, until)
        alternatives = names_of(hosts) if names is None else names
        if alternatives:
            builder = builder.add_extension(
                x509.SubjectAlternativeName(alternatives), critical=False
            )
        if usage:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usage), critical=False)
        chain, authority = [builder.sign(self.key, hashes.SHA256())], self
        while authority.above is not None:
            chain.append(authority.certificate)
            authority = authority.above
        return Certified(own, tuple(chain))

    def write(self, directory: Path) -> str:
        """The path of its certificate."""
        path = directory / "ca.pem"
        path.write_bytes(self.certificate.public_bytes(Encoding.PEM))
        return str(path)
