"""A continuation as it is presented: is it ours, how old is it, and does it come from its address?

Nothing here depends on what was spent; only keys and clocks are asked. (NSDI'05 §3.3)
"""

from __future__ import annotations

from typing import Final, NamedTuple

from trickles_web.config import TransportConfig
from trickles_web.errors import ContinuationError
from trickles_web.transport import continuation as sealing
from trickles_web.transport.continuation import UNMEASURED, Continuation
from trickles_web.transport.epochs import INITIAL_WINDOW
from trickles_web.transport.keys import Keyring
from trickles_web.transport.redeemed import UNLIMITED, Address, Channel, Redeemed
from trickles_web.transport.refused import RefusedError
from trickles_web.transport.wire import Code, Kind

AMPLIFICATION: Final = 3
"""Bytes sent to an address that has not proved itself, per byte received (RFC 9000 §8.1)."""


class Arrived(NamedTuple):
    """A datagram, what it says (the same, unless it is private), from where, and when."""

    datagram: bytes
    message: bytes
    channel: Channel | None
    address: Address
    now: int
    """Wall-clock ms."""


def knows(
    token: bytes, address: Address, now: int, config: TransportConfig, keyring: Keyring
) -> bool:
    """Is `token` a continuation of any earlier flow from this address?"""
    try:
        c = sealing.parse(token)
        if not -config.clock_skew_ms <= now - c.minted <= config.token_horizon_ms:
            return False
        keys = keyring.at(c.key_generation, now)
        sealing.unseal(keys, token)
        tag = keys.address_tag(address[0])
    except ContinuationError:
        return False
    return tag == c.host_tag


def present(
    kind: Kind,
    flow: bytes,
    blob: bytes,
    arrived: Arrived,
    config: TransportConfig,
    keyring: Keyring,
) -> tuple[Redeemed, Continuation]:
    """Open the continuation that a datagram presents, and judge its age and its address."""
    c = sealing.parse(blob)
    datagram, message, channel, address, now = arrived
    private = channel is not None
    if c.private != private or (channel is not None and c.incarnation != channel.incarnation):
        raise RefusedError(Code.FORGED)  # neither in clear, nor with the ticket of another flow
    age = now - c.minted
    if age < -config.clock_skew_ms:
        raise RefusedError(Code.FUTURE)
    if age > config.opening_horizon_ms:
        raise RefusedError(Code.EXPIRED)
    sealed_under = keyring.at(c.key_generation, now)
    progress = sealing.unseal(sealed_under, blob)
    keys = keyring.current(now)
    tag = keys.address_tag(address[0])
    known = c.host_tag == (tag if sealed_under is keys else sealed_under.address_tag(address[0]))
    fresh = age <= config.replay_horizon_ms
    if not (known and fresh):
        allowance = AMPLIFICATION * len(datagram)
    elif c.port != address[1]:
        allowance = INITIAL_WINDOW * c.size  # another port of the host: a NAT, most likely
    else:
        allowance = UNLIMITED
    return Redeemed(
        kind=kind,
        flow=flow,
        incarnation=c.incarnation,
        address=address,
        progress=progress,
        validated=known and fresh,
        may_run=known,
        fresh=fresh,
        store=c.store,
        authorised_at=c.authorised_at,
        datagram=datagram,
        message=message,
        channel=channel,
        at=now,
        continuation=c,
        allowance=allowance,
        padding=c.padding,
        host_tag=tag,
    ), c


def first(redeemed: Redeemed) -> Continuation:
    """What a stranger is told to come back with: an incarnation, and nothing received yet."""
    a = redeemed.answers[0]
    who = (redeemed.incarnation, a.ordinal, a.generation)
    where = (redeemed.host_tag, 0, redeemed.store)
    numbers = (a.nonce_generation, 0, 0, 0)
    unknown = (0, -1, 0, UNMEASURED)
    return Continuation(0, 0, 0, *who, a.epoch, a.size, 0, *numbers, 0, 0, *where, *unknown)
