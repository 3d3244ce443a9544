"""Whether a server is who it is taken for: what a client believes, and why.

    pin           the server's public key is this one, whatever else is said
    insecure      any
    known hosts   as with ssh: the first key of a server is kept, and has to stay the same
    certificates  else: a chain for the host's name, up to one that the system or `cafile` has

(`config.Trust`, in this order.)

A judgement is of what a server says of itself (`transport.private.credentials`), which is signed by
the key that it names; so what is judged here is that key.
"""

from __future__ import annotations

import datetime
import functools
import ipaddress
import re
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.x509 import verification

from trickles_web.client.known_hosts import KnownHosts
from trickles_web.client.url import join_authority
from trickles_web.config import Trust
from trickles_web.credentials import Credentials
from trickles_web.errors import IdentityError, UsageError

_PIN = re.compile(r"sha256//[A-Za-z0-9+/]{43}=")


def check_pin(pin: str) -> str:
    """The pin, if it is one. Raises UsageError."""
    if not _PIN.fullmatch(pin):
        raise UsageError(
            f"bad pin {pin!r}: give sha256// and 44 characters of base64, as the server prints it "
            "at its start"
        )
    return pin


def judge(trust: Trust, told: Credentials, host: str, port: int, now: float) -> None:
    """Raises IdentityError unless this may be the server; now: Unix seconds."""
    name = join_authority(host, port)
    if trust.pin is not None:
        if told.pin != check_pin(trust.pin):
            raise IdentityError(
                "pin", f"{name} has another key than is pinned: {told.pin}, not {trust.pin}"
            )
    elif trust.insecure:
        pass
    elif trust.known_hosts is not None:
        KnownHosts(Path(trust.known_hosts)).judge(name, told.pin)
    else:
        _judge_chain(told, trust.cafile, host, name, now)


def _judge_chain(told: Credentials, cafile: str | None, host: str, name: str, now: float) -> None:
    if not told.chain:
        raise IdentityError(
            "no certificate",
            f"{name} has no certificate; if you know its key, pin it: {told.pin}",
        )
    own = told.chain[0]
    when = datetime.datetime.fromtimestamp(now, datetime.UTC)
    if when > own.not_valid_after_utc:
        raise IdentityError(
            "expired", f"the certificate of {name} expired on {own.not_valid_after_utc:%F}"
        )
    if when < own.not_valid_before_utc:
        raise IdentityError(
            "not yet valid",
            f"the certificate of {name} is valid from {own.not_valid_before_utc:%F} on; "
            "is the clock right?",
        )
    if not _is_for(own, host):
        raise IdentityError(
            "other host", f"the certificate is not for {host}, but for {_names(own)}"
        )
    try:
        subject = _subject(host)
        builder = verification.PolicyBuilder().store(_store(cafile)).time(when)
        builder.build_server_verifier(subject).verify(own, list(told.chain[1:]))
    except (verification.VerificationError, ValueError) as error:
        raise IdentityError(
            "untrusted",
            f"nobody who is trusted vouches for the certificate of {name}: {error}",
        ) from None


def _subject(host: str) -> x509.DNSName | x509.IPAddress:
    try:
        return x509.IPAddress(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        return x509.DNSName(host.rstrip(".").encode("idna").decode("ascii"))


def _alternatives(certificate: x509.Certificate) -> list[x509.GeneralName]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return []
    return list(found.value)


def _is_for(certificate: x509.Certificate, host: str) -> bool:
    """Only to say what is wrong; the verifier has the last word. RFC 9525 §6.3."""
    subject, names = _subject(host), _alternatives(certificate)
    if isinstance(subject, x509.IPAddress) or subject in names:
        return subject in names
    name = subject.value.lower()
    patterns = [one.value.lower() for one in names if isinstance(one, x509.DNSName)]
    return name in patterns or f"*.{name.partition('.')[2]}" in patterns


def _names(certificate: x509.Certificate) -> str:
    names = [str(one.value) for one in _alternatives(certificate)]
    return ", ".join(names) or "no name at all"


@functools.lru_cache(maxsize=8)
def _store(cafile: str | None) -> verification.Store:
    """Raises UsageError."""
    if cafile is None:
        found = ssl.create_default_context().get_ca_certs(binary_form=True)
        if not found:
            raise UsageError(
                "the system has no certificates to trust (Debian: apt-get install "
                "ca-certificates); or name some with --cacert, or pin the server's key"
            )
        return verification.Store([x509.load_der_x509_certificate(one) for one in found])
    try:
        return verification.Store(x509.load_pem_x509_certificates(Path(cafile).read_bytes()))
    except OSError as error:
        raise UsageError(f"--cacert {cafile}: {error.strerror}") from None
    except ValueError:
        raise UsageError(f"--cacert {cafile}: no certificates in PEM form") from None
