"""Continuations where they do not belong, in every kind of datagram that can carry one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.transport.driver import (
    ADDRESS,
    CONFIG,
    FLOW,
    NOW,
    Bytes,
    Peer,
    datagrams,
    hello,
    keyring,
    redeemed,
    refused_code,
    server,
)
from trickles_web.transport import wire
from trickles_web.transport.wire import Code

Carrier = Callable[[Peer, bytes], bytes]


def claim(peer: Peer, blob: bytes) -> bytes:
    return peer.claim(peer.held()[0], blob=blob)


def opening(peer: Peer, blob: bytes) -> bytes:
    burst = peer.held()[0]
    return peer.claim(burst, start=burst.continuation.stop, opens=True, blob=blob)


def upload(peer: Peer, blob: bytes) -> bytes:
    return wire.encode_upload(wire.Upload(FLOW, 1, 0, None, blob, b"body"))


def cancel(peer: Peer, blob: bytes) -> bytes:
    return wire.encode_cancel(wire.Cancel(FLOW, blob))


CARRIERS = [claim, opening, upload, cancel]


def running() -> Peer:
    peer = Peer(server())
    peer.begin()
    return peer


@pytest.mark.parametrize("carrier", CARRIERS)
def test_every_flipped_bit_is_refused_in_every_kind(carrier: Carrier) -> None:
    peer = running()
    blob = peer.held()[0].blob
    redeemed(peer.redeem(carrier(peer, blob)))
    for bit in range(8 * len(blob)):
        damaged = bytearray(blob)
        damaged[bit // 8] ^= 1 << bit % 8
        code = refused_code(peer.redeem(carrier(peer, bytes(damaged))))
        assert code in (Code.FORGED, Code.EXPIRED, Code.FUTURE)


def test_a_token_with_any_bit_flipped_proves_nothing() -> None:
    peer = running()
    blob = peer.held()[0].blob
    assert redeemed(server().redeem(hello(token=blob), ADDRESS, NOW)).may_run
    for bit in range(8 * len(blob)):
        damaged = bytearray(blob)
        damaged[bit // 8] ^= 1 << bit % 8
        shown = hello(token=bytes(damaged))
        assert not redeemed(server().redeem(shown, ADDRESS, NOW)).may_run


@pytest.mark.parametrize("carrier", CARRIERS)
def test_services_secrets_and_key_generations_are_apart(carrier: Carrier) -> None:
    peer = running()
    blob = peer.held()[0].blob
    datagram = carrier(peer, blob)
    for keys in (keyring("other"), keyring(secret=b"k" * 32)):
        assert refused_code(peer.redeem(datagram, server(keys=keys))) is Code.FORGED
    # The keys of another generation, said to be of this one, and the other way round.
    for shift in (-2, -1, 1, 2):
        renamed = bytearray(blob)
        generation = int.from_bytes(blob[2:6], "big") + shift
        renamed[2:6] = generation.to_bytes(4, "big")
        code = refused_code(peer.redeem(carrier(peer, bytes(renamed))))
        assert code is (Code.EXPIRED if abs(shift) > 1 else Code.FORGED)
    peer.now += 2 * CONFIG.rotation_ms
    assert refused_code(peer.redeem(datagram)) is Code.EXPIRED


@pytest.mark.parametrize("other", [("198.51.100.1", 4711), (ADDRESS[0], 4712)])
def test_two_clients_with_one_flow_id_have_nothing_in_common(other: tuple[str, int]) -> None:
    """The flow id routes: what a server keeps goes by the incarnation, which it draws itself."""
    target = server()
    peers = [Peer(target), Peer(target, other)]
    for peer in peers:
        peer.begin()
    mine, theirs = (peer.held() for peer in peers)
    for field in ("incarnation", "generation"):
        assert {getattr(b.continuation, field) for b in mine}.isdisjoint(
            getattr(b.continuation, field) for b in theirs
        )
    nonces = [{data.nonce for data in peer.packets.values()} for peer in peers]
    assert nonces[0].isdisjoint(nonces[1])
    # What one has spent, closed, or lied about costs the other nothing.
    peers[0].advance(60)
    peers[0].send(peers[0].opening(peers[0].held()[-1]))
    assert refused_code(peers[0].redeem(peers[0].claim(mine[0], proof=1))) in (
        None,
        Code.CLOSED,
    )
    peers[1].advance(60)
    copy = redeemed(peers[1].redeem(peers[1].opening(peers[1].held()[-1])))
    assert len(datagrams(target.burst(copy, Bytes(), NOW))) >= 10
