"""Whether a server is who it is taken for: what a client believes, and why.

    pin           the server's public key is this one, whatever else is said
    insecure      any
    known hosts   as with ssh: the first key of a server is kept, and has to stay the same
    certificates  else: a chain for the host's name, up to one that the system or `cafile` has

(`config.Trust`, in this order.)

A judgement is of what a server says of itself (`trickles_web.credentials`), which is signed by the
key that it names; so what is judged here is that key. Chains are verified by the library
(RFC 5280, and the rules that browsers add to it); what is looked at here beside it only says what
is wrong. Whether a certificate was revoked is not asked.
"""

from __future__ import annotations

import datetime
import functools
import ipaddress
import math
import ssl
import warnings
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.x509 import verification

from trickles_web.client.known_hosts import KnownHosts
from trickles_web.client.url import join_authority, parse_pin
from trickles_web.config import Trust
from trickles_web.credentials import Credentials
from trickles_web.errors import IdentityError, UsageError

_MOST_SAID = 300
"""Characters of what a stranger's certificate says that get into a message."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """This may be the server."""

    pin: str
    why: str
    until: float = math.inf
    """Unix seconds: then it has to be judged anew."""


def check(trust: Trust) -> None:
    """Can anybody be judged by this? Raises UsageError, in a line that names the option."""
    if trust.pin is not None:
        parse_pin(trust.pin)
    if trust.known_hosts is not None:
        KnownHosts(Path(trust.known_hosts)).check()
    if trust.cafile is not None or trust == Trust(server_name=trust.server_name):
        _store(trust.cafile)


def judge(
    trust: Trust, told: Credentials, host: str, port: int, now: float, *, cached: bool = False
) -> Judgement:
    """Raises IdentityError unless this may be the server; now: Unix seconds.

    cached: nobody has said so now. Who is a stranger has to be asked.
    """
    name = join_authority(host, port)
    if trust.pin is not None:
        pin = parse_pin(trust.pin)
        if told.pin != pin:
            raise IdentityError(
                "pin", f"{name} has another key than is pinned: {told.pin}, not {pin}"
            )
        return Judgement(pin, "its key is the pinned one")
    if trust.insecure:
        return Judgement(told.pin, "anybody is believed")
    if trust.known_hosts is not None:
        hosts = KnownHosts(Path(trust.known_hosts))
        hosts.judge(name, told.pin, may_add=not cached)
        return Judgement(told.pin, f"its key is in {hosts.path}")
    return _judge_chain(told, trust.cafile, trust.server_name or host, name, now)


def _judge_chain(
    told: Credentials, cafile: str | None, host: str, name: str, now: float
) -> Judgement:
    if not told.chain:
        raise IdentityError(
            "no certificate",
            f"{name} has no certificate; if you know its key, pin it: {told.pin}",
        )
    own, store = told.chain[0], _store(cafile)
    try:
        when = datetime.datetime.fromtimestamp(max(0.0, min(now, _LATEST)), datetime.UTC)
        _judge_dates(own, name, when)
        subject = _subject(host)
        if not _is_for(own, subject):
            raise IdentityError(
                "other host", f"the certificate of {name} is not for {host}, but for {_names(own)}"
            )
        builder = verification.PolicyBuilder().store(store).time(when)
        chain = builder.build_server_verifier(subject).verify(own, list(told.chain[1:]))
    except (verification.VerificationError, *_UNREADABLE) as error:
        raise IdentityError(
            "untrusted",
            f"nobody who is trusted vouches for the certificate of {name} "
            f"({_said(str(error))}); if you know its key, pin it: {told.pin}",
        ) from None
    until = min(one.not_valid_after_utc for one in chain)
    issuer = _said(own.issuer.rfc4514_string())
    why = f"its certificate is for {_names(own)}, by {issuer}, until {own.not_valid_after_utc:%F}"
    return Judgement(told.pin, why, until.timestamp())


_UNREADABLE = (
    ValueError,
    TypeError,
    OverflowError,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What parts of a certificate raise that are only read when they are looked at."""
_LATEST = 253_402_300_799.0
"""The last second of 9999: a clock that is further off tells no date."""


def _judge_dates(own: x509.Certificate, name: str, when: datetime.datetime) -> None:
    if when > own.not_valid_after_utc:
        raise IdentityError(
            "expired",
            f"the certificate of {name} expired on {own.not_valid_after_utc:%F}; "
            f"the clock here says {when:%F}",
        )
    if when < own.not_valid_before_utc:
        raise IdentityError(
            "not yet valid",
            f"the certificate of {name} is valid from {own.not_valid_before_utc:%F} on; "
            f"the clock here says {when:%F}",
        )


def _subject(host: str) -> x509.DNSName | x509.IPAddress:
    """Raises ValueError."""
    try:
        return x509.IPAddress(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        return x509.DNSName(host.rstrip(".").encode("idna").decode("ascii"))


def _alternatives(certificate: x509.Certificate) -> list[x509.GeneralName]:
    """Raises what is _UNREADABLE."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return list(found.value)


def _is_for(certificate: x509.Certificate, subject: x509.DNSName | x509.IPAddress) -> bool:
    """Only to say what is wrong; the verifier has the last word. RFC 9525 §6.3."""
    names = _alternatives(certificate)
    if isinstance(subject, x509.IPAddress) or subject in names:
        return subject in names
    name = subject.value.lower()
    patterns = [one.value.lower() for one in names if isinstance(one, x509.DNSName)]
    return name in patterns or f"*.{name.partition('.')[2]}" in patterns


def _names(certificate: x509.Certificate) -> str:
    """Raises what is _UNREADABLE."""
    names = [str(one.value) for one in _alternatives(certificate)]
    return _said(", ".join(names)) or "no name at all"


def _said(text: str) -> str:
    """What a stranger wrote, as it may be shown: a line of no great length, without controls."""
    shown = "".join(c if c.isprintable() else "?" for c in text)
    return shown if len(shown) <= _MOST_SAID else f"{shown[:_MOST_SAID]}..."


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
        with warnings.catch_warnings():  # of what systems trust, some is odd
            warnings.simplefilter("ignore")
            return verification.Store([x509.load_der_x509_certificate(one) for one in found])
    try:
        pem = Path(cafile).read_bytes()
    except (OSError, ValueError) as error:  # the latter for a name with a NUL in it
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"--cacert {cafile!r}: {reason}") from None
    try:
        return verification.Store(x509.load_pem_x509_certificates(pem))
    except ValueError:
        raise UsageError(f"--cacert {cafile!r}: no certificates in PEM form") from None
