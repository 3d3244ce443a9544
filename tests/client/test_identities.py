"""What a process remembers of servers' keys, for how long, and for whom."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.authority import DAY, Authority, Certified
from trickles_web.client import identities
from trickles_web.client.identities import LIFETIME_S, Identities, Server
from trickles_web.client.tokens import TokenStore
from trickles_web.config import ClientConfig, Trust
from trickles_web.credentials import Identity
from trickles_web.errors import IdentityError
from trickles_web.transport.keys import Keyring
from trickles_web.transport.private.exchange import Exchange
from trickles_web.transport.private.introduction import MOST_BYTES

HOST, PORT = "host.test", 8000
DAY_S = 86_400.0
DAY_MS = 86_400_000


class Clock:
    """Of the client, Unix seconds; in the middle of a period of keys."""

    def __init__(self, now: float = 20_000.5 * DAY_S) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(tmp_path: Path, clock: Clock) -> TokenStore:
    return on_disk(tmp_path, clock)


def on_disk(directory: Path, clock: Clock) -> TokenStore:
    return TokenStore(
        directory / "identities", clock=clock, most_bytes=MOST_BYTES, lifetime_s=LIFETIME_S
    )


KEY = Identity(Ed25519PrivateKey.from_private_bytes(bytes(32)))
OTHER = Identity(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))


def said(
    clock: Clock, identity: Identity = KEY, exchanges: tuple[Exchange, ...] = (Exchange.X25519,)
) -> bytes:
    """What a server says at the client's time."""
    keyring = Keyring((bytes(32),), "x", DAY_MS, os.urandom)
    return identity.credentials(keyring, exchanges, int(clock.now * 1000))


def server(
    cache: TokenStore,
    clock: Clock,
    trust: Trust | None = None,
    exchange: Exchange = Exchange.X25519,
) -> Server:
    """As a process that has just begun knows it."""
    return Identities(cache, clock=clock).of(HOST, PORT, trust or Trust(pin=KEY.pin), exchange)


def reason(one: Server, blob: bytes) -> str:
    with pytest.raises(IdentityError) as caught:
        one.learn(blob)
    assert one.judgement is None
    return caught.value.reason


def test_it_is_asked_once(cache: TokenStore, clock: Clock) -> None:
    one = server(cache, clock)
    assert one.known() is None and one.judgement is None
    one.learn(said(clock))
    known = one.known()
    assert known is not None and one.judgement is not None
    later = server(cache, clock)
    again = later.known()
    assert again is not None and again[0] == known[0]
    assert later.judgement == one.judgement


def test_others_on_this_disk_know_it_too(tmp_path: Path, clock: Clock) -> None:
    server(on_disk(tmp_path, clock), clock).learn(said(clock))
    assert server(on_disk(tmp_path, clock), clock).known() is not None
    for file in (tmp_path / "identities").iterdir():
        file.write_bytes(file.read_bytes()[:-20])
    assert server(on_disk(tmp_path, clock), clock).known() is None


@pytest.mark.parametrize("blob", [b"x", b"\x01", bytes(2000)])
def test_garbage_on_disk_is_nothing(cache: TokenStore, clock: Clock, blob: bytes) -> None:
    cache.save(HOST, PORT, blob)
    assert server(cache, clock).known() is None


def test_what_was_kept_is_judged_by_whoever_takes_it(
    cache: TokenStore, clock: Clock, tmp_path: Path
) -> None:
    server(cache, clock, Trust(insecure=True)).learn(said(clock))
    assert server(cache, clock, Trust(pin=OTHER.pin)).known() is None
    assert server(cache, clock, Trust()).known() is None
    assert server(cache, clock, Trust(pin=KEY.pin)).known() is not None
    assert server(cache, clock, exchange=Exchange.MLKEM768_X25519).known() is None


def test_what_was_kept_makes_nobody_known(cache: TokenStore, clock: Clock, tmp_path: Path) -> None:
    """Kept by who believed anybody, it would be the first key of a server that has another."""
    file = tmp_path / "known_hosts"
    server(cache, clock, Trust(insecure=True)).learn(said(clock, OTHER))
    trusting = server(cache, clock, Trust(known_hosts=str(file)))
    assert trusting.known() is None
    assert not file.exists()
    trusting.learn(said(clock))
    assert file.read_text() == f"{HOST}:{PORT} {KEY.pin}\n"
    assert server(cache, clock, Trust(known_hosts=str(file))).known() is not None
    assert reason(server(cache, clock, Trust(known_hosts=str(file))), said(clock, OTHER)) == (
        "changed"
    )


def test_keys_end_with_the_period_that_the_server_names(cache: TokenStore, clock: Clock) -> None:
    one = server(cache, clock)
    one.learn(said(clock))
    clock.now += 1.4 * DAY_S
    assert one.known() is not None
    clock.now += 0.2 * DAY_S
    assert one.known() is None
    assert server(cache, clock).known() is None
    one.learn(said(clock))
    assert one.known() is not None


def test_keys_end_with_the_certificate(tmp_path: Path) -> None:
    authority = Authority()
    cafile = authority.write(tmp_path)
    certified = authority.certify(HOST)
    until = certified.chain[0].not_valid_after_utc.timestamp()
    clock = Clock(until - 60)
    cache, trust = on_disk(tmp_path, clock), Trust(cafile=cafile)
    one = server(cache, clock, trust)
    one.learn(said(clock, certified.identity))
    assert one.known() is not None
    clock.now = until + 1
    assert one.known() is None
    assert server(cache, clock, trust).known() is None
    assert reason(server(cache, clock, trust), said(clock, certified.identity)) == "expired"


def test_a_key_that_the_server_does_not_know_any_more(cache: TokenStore, clock: Clock) -> None:
    one = server(cache, clock)
    one.learn(said(clock))
    known = one.known()
    assert known is not None
    one.forget(known[0] + 1)
    assert one.known() is not None
    one.forget(known[0])
    assert one.known() is None


@pytest.mark.parametrize("days", [-300.0, -2.0, 2.0, 300.0])
def test_clocks_that_do_not_agree(cache: TokenStore, clock: Clock, days: float) -> None:
    """Keys of one or two days: who holds an old one could else be believed for ever."""
    theirs = Clock(clock.now + days * DAY_S)
    with pytest.raises(IdentityError, match="are the clocks right") as caught:
        server(cache, clock).learn(said(theirs))
    assert caught.value.reason == "no key"


@pytest.mark.parametrize("days", [-0.9, 0.9])
def test_clocks_that_nearly_agree(cache: TokenStore, clock: Clock, days: float) -> None:
    server(cache, clock).learn(said(Clock(clock.now + days * DAY_S)))


def test_a_clock_that_is_set_back_forgets_what_was_kept(tmp_path: Path, clock: Clock) -> None:
    server(on_disk(tmp_path, clock), clock).learn(said(clock))
    clock.now -= 10
    assert server(on_disk(tmp_path, clock), clock).known() is None


def test_reasons(cache: TokenStore, clock: Clock, tmp_path: Path) -> None:
    blob = said(clock)
    assert reason(server(cache, clock), b"x" + blob[1:]) == "signature"
    assert reason(server(cache, clock), blob[:-1] + bytes((blob[-1] ^ 1,))) == "signature"
    assert reason(server(cache, clock), said(clock, OTHER)) == "pin"
    assert reason(server(cache, clock, Trust()), blob) == "no certificate"
    other = Exchange.MLKEM768_X25519
    assert reason(server(cache, clock, exchange=other), blob) == "no key"
    server(cache, clock, exchange=other).learn(said(clock, exchanges=tuple(Exchange)))
    nowhere = Trust(cafile=str(tmp_path / "none"))
    certified = Certified(Ed25519PrivateKey.generate(), ())
    certified = Authority().certify(HOST, key=certified.key, since=-30 * DAY)
    assert reason(server(cache, clock, nowhere), said(clock, certified.identity)) == "settings"
    assert cache.get(HOST, PORT) == said(clock, exchanges=tuple(Exchange))


def test_the_process_keeps_them_where_it_keeps_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clear, private = ClientConfig(), ClientConfig().privately()
    assert private.private == Trust()
    assert identities.server(HOST, PORT, clear) is None
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    clock, config = Clock(), ClientConfig(private=Trust(insecure=True))
    for tokens, files in (("off", 0), ("on", 1)):
        monkeypatch.setenv("TRICKLES_TOKENS", tokens)
        identities.default_identities.cache_clear()
        one = identities.server(HOST, PORT, config)
        assert one is not None
        one._clock = clock
        one.learn(said(clock))
        assert len(list(tmp_path.glob("trickles-web/identities/*"))) == files
    identities.default_identities.cache_clear()
