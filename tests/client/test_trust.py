"""Whom a client believes, and what it says of whom it does not."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.authority import DAY, Authority, Certified, p256
from trickles_web.client.trust import Judgement, check, judge
from trickles_web.config import Trust
from trickles_web.credentials import Credentials, Identity, pin_of, read_credentials
from trickles_web.errors import IdentityError, UsageError, WireError
from trickles_web.transport.keys import Keyring
from trickles_web.transport.private.exchange import Exchange

HOST = "host.test"
NOW_MS = 1_800_000_000_000


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def cafile(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> str:
    return authority.write(tmp_path_factory.mktemp("authority"))


def told(certified: Certified) -> Credentials:
    key = certified.key.public_key()
    return Credentials((), certified.chain, key)


def judged(
    trust: Trust, credentials: Credentials, host: str = HOST, at: float | None = None
) -> Judgement:
    return judge(trust, credentials, host, 8000, time.time() if at is None else at)


def refused(
    trust: Trust, credentials: Credentials, host: str = HOST, at: float | None = None
) -> IdentityError:
    with pytest.raises(IdentityError) as caught:
        judged(trust, credentials, host, at)
    text = str(caught.value)
    assert text.isprintable() and len(text) < 800
    assert host in text
    return caught.value


# ---- certificates


@pytest.mark.parametrize(
    "make",
    [
        p256,
        lambda: ec.generate_private_key(ec.SECP384R1()),
        lambda: ec.generate_private_key(ec.SECP521R1()),
        lambda: rsa.generate_private_key(65537, 2048),
        ed25519.Ed25519PrivateKey.generate,
        ed448.Ed448PrivateKey.generate,
    ],
    ids=["P-256", "P-384", "P-521", "RSA", "Ed25519", "Ed448"],
)
def test_servers_keys_may_be_of_any_of_these(
    authority: Authority, cafile: str, make: Callable[[], ed25519.Ed25519PrivateKey]
) -> None:
    certified = authority.certify(HOST, key=make())
    keyring = Keyring((bytes(32),), "x", 86_400_000, bytes)
    blob = certified.identity.credentials(keyring, [Exchange.X25519], NOW_MS)
    judgement = judged(Trust(cafile=cafile), read_credentials(blob))
    assert judgement.pin == certified.identity.pin
    assert judgement.why.startswith("its certificate is for host.test, by CN=Test, until 20")


@pytest.mark.parametrize(
    ("names", "host"),
    [
        (("other.test", HOST), HOST),
        ((HOST,), "HOST.Test."),
        (("*.test",), HOST),
        (("127.0.0.1", "::1"), "127.0.0.1"),
        (("127.0.0.1", "::1"), "::1"),
        (("fe80::1",), "fe80::1%lo"),
        (("xn--bcher-kva.test",), "bücher.test"),
    ],
)
def test_names_that_fit(
    authority: Authority, cafile: str, names: tuple[str, ...], host: str
) -> None:
    judged(Trust(cafile=cafile), told(authority.certify(*names)), host)


@pytest.mark.parametrize(
    ("names", "host"),
    [
        (("other.test",), HOST),
        (("*.test",), "a.b.test"),
        (("*.test",), "test"),
        (("h*.test",), HOST),
        (("127.0.0.1",), "127.0.0.2"),
        (("127.0.0.1",), "localhost"),
        (("localhost",), "127.0.0.1"),
        ((), HOST),
    ],
)
def test_names_that_do_not_fit(
    authority: Authority, cafile: str, names: tuple[str, ...], host: str
) -> None:
    error = refused(Trust(cafile=cafile), told(authority.certify(*names)), host)
    assert error.reason == "other host"
    assert f"is not for {host}, but for {', '.join(names) or 'no name at all'}" in str(error)


def test_dates(authority: Authority, cafile: str) -> None:
    trust, good = Trust(cafile=cafile), told(authority.certify(HOST))
    own = good.chain[0]
    since, until = own.not_valid_before_utc.timestamp(), own.not_valid_after_utc.timestamp()
    assert judged(trust, good, at=since).until == until
    judged(trust, good, at=until)
    assert refused(trust, good, at=until + 1).reason == "expired"
    early = refused(trust, good, at=since - 1)
    assert early.reason == "not yet valid" and "the clock here says" in str(early)
    for clock in (0.0, 1e11, 1e18, -1e18):  # whatever the clock says, it is judged
        assert refused(trust, good, at=clock).reason in ("not yet valid", "expired", "untrusted")


def test_it_is_judged_anew_when_the_first_of_its_certificates_ends(
    authority: Authority, cafile: str
) -> None:
    good = told(authority.certify(HOST, until=200 * DAY))  # longer than the authority's
    root = authority.certificate.not_valid_after_utc
    assert judged(Trust(cafile=cafile), good).until == root.timestamp()


def test_those_between_must_be_there(authority: Authority, cafile: str) -> None:
    between = Authority("Lower", Authority("Between", authority))
    good, trust = told(between.certify(HOST)), Trust(cafile=cafile)
    assert len(good.chain) == 3
    judged(trust, good)
    without = Credentials((), good.chain[:1], good.public_key)
    assert refused(trust, without).reason == "untrusted"
    shuffled = Credentials((), (good.chain[0], good.chain[2], good.chain[1]), good.public_key)
    judged(trust, shuffled)


def test_nobody_else_vouches(authority: Authority, cafile: str, tmp_path: Path) -> None:
    trust = Trust(cafile=cafile)
    impostor = Authority()  # of the same name
    assert refused(trust, told(impostor.certify(HOST))).reason == "untrusted"
    assert refused(Trust(), told(authority.certify(HOST))).reason == "untrusted"
    leaf = authority.certify(HOST)
    assert isinstance(leaf.key, ec.EllipticCurvePrivateKey)
    below = Authority("Below")
    below.key, below.above = leaf.key, None
    below.name = leaf.chain[0].subject
    child = below.certify(HOST)
    fraud = Certified(child.key, (*child.chain, *leaf.chain))
    assert refused(trust, told(fraud)).reason == "untrusted"
    client = authority.certify(HOST, usage=[ExtendedKeyUsageOID.CLIENT_AUTH])
    assert refused(trust, told(client)).reason == "untrusted"


def test_without_a_certificate_it_is_said_how_to_pin() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    error = refused(Trust(), Credentials((), (), key.public_key()))
    assert error.reason == "no certificate"
    assert str(error).endswith(f"pin it: {pin_of(key.public_key())}")


def openssl(directory: Path, *more: str) -> Certified:
    """What `openssl req -x509` makes for who wants a certificate without an authority."""
    key, file = directory / "key.pem", directory / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3"),
            *("-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}"),
            *("-keyout", str(key), "-out", str(file), *more),
        ],
        check=True,
        capture_output=True,
    )
    own = load_pem_private_key(key.read_bytes(), None)
    assert isinstance(own, rsa.RSAPrivateKey)
    return Certified(own, tuple(x509.load_pem_x509_certificates(file.read_bytes())))


def test_one_that_signed_itself_is_believed_if_it_is_no_authority(tmp_path: Path) -> None:
    trust = Trust(cafile=str(tmp_path / "certificate.pem"))
    judged(trust, told(openssl(tmp_path, "-addext", "basicConstraints=critical,CA:FALSE")))


def test_one_that_signed_itself_as_an_authority_is_to_be_pinned(tmp_path: Path) -> None:
    own = told(openssl(tmp_path))
    error = refused(Trust(cafile=str(tmp_path / "certificate.pem")), own)
    assert error.reason == "untrusted" and str(error).endswith(f"pin it: {own.pin}")
    judged(Trust(pin=own.pin), own)


def test_another_name_than_the_one_that_is_asked(authority: Authority, cafile: str) -> None:
    good = told(authority.certify(HOST))
    judged(Trust(cafile=cafile, server_name=HOST), good, "127.0.0.1")
    error = refused(Trust(cafile=cafile, server_name="127.0.0.1"), good, "127.0.0.1")
    assert error.reason == "other host"


# ---- what strangers write


def altered(certified: Certified, *changes: tuple[bytes, bytes]) -> bytes:
    """Credentials whose certificate is what no library would make."""
    der = certified.chain[0].public_bytes(Encoding.DER)
    for old, new in changes:
        assert len(old) == len(new) and old in der
        der = der.replace(old, new)
    identity = certified.identity
    identity._chain[0] = der
    keyring = Keyring((bytes(32),), "x", 86_400_000, bytes)
    return identity.credentials(keyring, [Exchange.X25519], NOW_MS)


EXTENSION = b"\x06\x03\x55\x1d"
VERSION = b"\xa0\x03\x02\x01"
NAME = b"\x82\x09host.test"


@pytest.mark.parametrize(
    "change",
    [
        (EXTENSION + b"\x23", EXTENSION + b"\x0e"),
        (NAME, b"\xa3\x09host.test"),
        (NAME, b"\xa4\x09host.test"),
        (NAME, b"\x87\x09host.test"),
        (NAME, b"\x82\x09host.\xffest"),
        (NAME, b"\x82\x09host.\x00est"),
        (NAME, b"\x82\x09ho\n\x1b[31mt"),
        (NAME, b"\x82\x7fhost.test"),
    ],
    ids=["twice", "x400", "directory", "address", "latin", "zero", "control", "length"],
)
def test_odd_certificates_are_not_trusted(
    authority: Authority, cafile: str, change: tuple[bytes, bytes]
) -> None:
    try:
        credentials = read_credentials(altered(authority.certify(HOST), change))
    except WireError:
        return
    assert refused(Trust(cafile=cafile), credentials).reason in ("other host", "untrusted")


def test_a_certificate_of_no_known_version_cannot_be_read(authority: Authority) -> None:
    with pytest.raises(WireError):
        read_credentials(altered(authority.certify(HOST), (VERSION + b"\x02", VERSION + b"\x05")))


def test_a_long_name_is_cut(authority: Authority, cafile: str) -> None:
    names: list[x509.GeneralName] = [x509.DNSName(f"{i}.{'x' * 60}.test") for i in range(100)]
    refused(Trust(cafile=cafile), told(authority.certify(names=names)))


def test_weak_keys_are_none() -> None:
    weak = rsa.generate_private_key(65537, 1024)
    with pytest.raises(UsageError, match="2048 bits"):
        Identity(weak)
    strong = Identity(rsa.generate_private_key(65537, 2048))
    strong._key = weak
    keyring = Keyring((bytes(32),), "x", 86_400_000, bytes)
    with pytest.raises(WireError):
        read_credentials(strong.credentials(keyring, [Exchange.X25519], NOW_MS))


BLOBS = [
    made.identity.credentials(Keyring((bytes(32),), "x", 86_400_000, bytes), list(Exchange), NOW_MS)
    for made in (
        Authority("Root").certify(HOST),
        Authority("Low", Authority("Root")).certify(
            HOST, key=rsa.generate_private_key(65537, 2048)
        ),
        Certified(ed25519.Ed25519PrivateKey.generate(), ()),
    )
]


@given(st.binary(max_size=400))
def test_garbage_is_no_credentials(blob: bytes) -> None:
    with pytest.raises(WireError):
        read_credentials(blob)


@given(
    st.sampled_from(BLOBS),
    st.lists(st.tuples(st.integers(0), st.integers(1, 255)), min_size=1, max_size=3),
    st.integers(0),
    st.binary(max_size=2),
)
@settings(deadline=None, max_examples=300)
def test_no_byte_of_credentials_can_be_changed(
    blob: bytes, changes: list[tuple[int, int]], cut: int, more: bytes
) -> None:
    changed = bytearray(blob)
    for place, flip in changes:
        changed[place % len(blob)] ^= flip
    for one in {bytes(changed), blob[: cut % len(blob)], blob + more} - {blob}:
        with pytest.raises(WireError):
            read_credentials(one)


@given(
    st.dictionaries(st.integers(0, 399), st.integers(1, 255), min_size=1, max_size=2),
    st.sampled_from([HOST, "127.0.0.1", "a..b", "_x.test", "x" * 70, "\x00", "host.test."]),
)
@settings(
    deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_whatever_is_in_a_certificate_it_is_judged(
    authority: Authority, cafile: str, changes: dict[int, int], host: str
) -> None:
    """A stranger signs for its own key, so what it signs need not be well formed."""
    identity = (certified := authority.certify(HOST)).identity
    der = bytearray(identity._chain[0])
    for place, flip in changes.items():
        der[place] ^= flip
    identity._chain[0] = bytes(der)
    keyring = Keyring((bytes(32),), "x", 86_400_000, bytes)
    blob = identity.credentials(keyring, [Exchange.X25519], NOW_MS)
    try:
        credentials = read_credentials(blob)
    except WireError:
        return
    assert certified.chain[0] not in credentials.chain
    with pytest.raises(IdentityError):
        judged(Trust(cafile=cafile), credentials, host)


# ---- pins


def test_a_pinned_key_needs_nothing_else(authority: Authority) -> None:
    expired = told(authority.certify("other.test", since=-3 * DAY, until=-DAY))
    assert judged(Trust(pin=expired.pin), expired).why == "its key is the pinned one"
    other = told(authority.certify(HOST))
    error = refused(Trust(pin=expired.pin, insecure=True), other)
    assert error.reason == "pin"
    assert expired.pin in str(error) and other.pin in str(error)


def test_anybody(authority: Authority) -> None:
    one = told(authority.certify("other.test"))
    assert judged(Trust(insecure=True), one).pin == one.pin


# ---- what can be said before anybody is asked


@pytest.mark.parametrize(
    ("trust", "said"),
    [
        (Trust(pin="sha256//"), "bad pin 'sha256//'"),
        (Trust(cafile="/no/such/file"), "--cacert '/no/such/file': No such file"),
        (Trust(cafile="/"), "--cacert '/': Is a directory"),
        (Trust(cafile=__file__), f"--cacert {__file__!r}: no certificates in PEM form"),
        (Trust(cafile="/dev/null"), "--cacert '/dev/null': no certificates in PEM form"),
        (Trust(cafile="\x00"), "--cacert '\\x00': "),
        (Trust(known_hosts="/"), "--known-hosts '/': Is a directory"),
        (Trust(known_hosts="\x00"), "--known-hosts '\\x00': "),
    ],
)
def test_settings_that_are_none(trust: Trust, said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)) as caught:
        check(trust)
    assert str(caught.value).isprintable()


def test_settings_that_are_good(cafile: str, tmp_path: Path) -> None:
    for trust in (
        Trust(),
        Trust(cafile=cafile),
        Trust(insecure=True),
        Trust(known_hosts=str(tmp_path / "not" / "there" / "yet")),
    ):
        check(trust)


def test_a_file_of_certificates_is_read_when_it_is_there(
    authority: Authority, tmp_path: Path
) -> None:
    trust = Trust(cafile=str(tmp_path / "ca.pem"))
    with pytest.raises(UsageError):
        check(trust)
    authority.write(tmp_path)
    check(trust)
    judged(trust, told(authority.certify(HOST)))
