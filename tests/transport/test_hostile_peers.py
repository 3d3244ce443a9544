"""Hostile peers at both ends: each of these once gained something, or broke something."""

from __future__ import annotations

from tests.transport.driver import (
    ADDRESS,
    FLOW,
    NOW,
    Burst,
    Bytes,
    Peer,
    hello,
    readable,
    redeemed,
    server,
)
from trickles_web.config import ClientConfig
from trickles_web.transport import continuation as sealing
from trickles_web.transport import wire
from trickles_web.transport.epochs import Epoch, after_loss, window
from trickles_web.transport.flow import Flow
from trickles_web.transport.reassembly import Reassembly
from trickles_web.transport.redeemed import Refusal


def running(until: int = 0) -> Peer:
    peer = Peer(server())
    peer.begin()
    if until:
        peer.advance(until)
    return peer


def test_a_refreshed_continuation_must_not_launder_a_loss() -> None:
    """Any UPLOAD is worth a refreshed continuation, and that opens without proof or report.

    A client that lost a packet asks for one instead of reporting: ten packets, and slow start
    without end, in every round trip; an honest report would have halved. What was sent last may
    still be in flight, so it begins as after silence.
    """
    peer = Peer(server())
    peer.lose = lambda data: data.burst + data.place == 50
    peer.begin()
    peer.advance(60)
    burst = peer.unclaimed()[-1]
    honest = peer.redeem(peer.opening(burst, lost=50))
    halved = redeemed(honest).answers[0].epoch.ssthresh
    upload = wire.encode_upload(wire.Upload(FLOW, 0, 0, None, burst.blob, b"x" * 400))
    ack = peer.server.acknowledge(redeemed(peer.redeem(upload)), 5, b"p", NOW)
    assert ack is not None
    blob = wire.decode_ack(ack).continuation
    fresh = Burst(sealing.parse(blob), blob)
    laundered = redeemed(peer.redeem(peer.opening(fresh, proof=0))).answers[0].epoch
    assert laundered.cwnd0 == 2
    # Where exactly the loss was is not known: half of the window at the burst is as honest.
    stop = burst.continuation.stop
    assert halved <= laundered.ssthresh == window(burst.continuation.epoch, stop) // 2


# ---- the client, against whoever knows its flow id


def flow(data: bytes = b"request") -> Flow:
    client = Flow(FLOW, ClientConfig(), 0.0)
    client.write(data)
    client.transmit(0.0)
    return client


def drive(client: Flow, steps: int = 50) -> None:
    now = 0.0
    for _ in range(steps):
        at = client.timeout()
        if at is None:
            return
        now = max(now, at)
        client.transmit(now)


def test_a_continuation_whose_numbers_end_past_32_bits_must_not_raise() -> None:
    """The client packs `stop` = burst + length into 32 bits when it comes back with it."""
    client = flow()
    blob = readable(burst=(1 << 32) - 1, stop=(1 << 32) + 9)
    client.receive(wire.encode_ack(wire.Ack(FLOW, False, 0, -1, (), blob)), 0.1)
    drive(client)


def test_a_continuation_too_long_for_a_datagram_must_not_raise() -> None:
    """No room for request bytes is a negative room: offsets go down, below zero."""
    client = flow(b"x" * 5000)
    blob = readable() + bytes(1500)
    client.receive(wire.encode_ack(wire.Ack(FLOW, False, 100, -1, (), blob)), 0.1)
    client.transmit(0.1)
    drive(client)


def test_data_without_a_continuation_must_not_make_the_client_spin() -> None:
    """`retry` with nothing to retry from leaves its deadline in the past, for a minute of CPU."""
    client = flow()
    prefix = wire.data_prefix(FLOW, 0, 1, 0, 0, 10, 10, 0, 0, 0, 5, 0, 1, 0)
    client.receive(prefix + wire.DATA_PACKET.pack(0, 7, 0, 0) + b"bytes", 0.1)
    now = 0.1
    for _ in range(1000):
        at = client.timeout()
        if at is None:
            break
        now = max(now, at)
        client.transmit(now)
    assert client.timeout() is None or now > 1.0


def test_a_hello_that_lost_a_race_can_still_be_acknowledged() -> None:
    """`burst` empties `answers` when a copy was faster; `_first` takes its numbers from there."""
    target = server()
    copies = [redeemed(target.redeem(hello(), ADDRESS, NOW)) for _ in range(2)]
    for result in copies:
        target.burst(result, Bytes(), NOW)
    target.acknowledge(copies[1], 0, b"", NOW)


def test_a_packet_that_names_the_wrong_epoch_must_not_raise() -> None:
    """Numbers below the successor's base, said to be of the successor: no proof was kept there."""
    client = flow()
    epoch = Epoch(0, 0, 0, 10, 10)
    successor = after_loss(epoch, 0)
    for k in range(1, 10):
        e = epoch if k < 5 else successor
        blob = readable(epoch=e, burst=k, stop=k + 1, edition=5)
        prefix = wire.data_prefix(FLOW, 0, 1, *e.numbers, 0, 0, 1, 5, k, 1, 0)
        own = wire.DATA_PACKET.pack(0, 7, 100 * k, len(blob))
        client.receive(prefix + own + blob + bytes(100), 0.1)
        client.transmit(0.1)
    drive(client)


def test_overlapping_pieces_must_not_be_kept_over_and_over() -> None:
    """2,000 packets a byte apart are 3 kB of stream, and 2 MB of memory."""
    stream = Reassembly()
    for offset in range(1, 2000):
        stream.insert(offset, bytes(1100))
    assert sum(map(len, stream._pieces.values())) <= 2 * stream.highest


def test_an_old_continuation_does_not_open_a_line_whose_nonces_are_known() -> None:
    """The filter has forgotten that it was opened from. Were the line the one of then, a client
    that kept its nonces could prove the receipt of packets that it never got, and hide any loss.
    """
    peer = Peer(server())
    reply = peer.server.acknowledge(redeemed(peer.redeem(hello())), 0, b"", NOW)
    assert reply is not None
    blob = wire.decode_ack(reply).continuation
    first = Burst(sealing.parse(blob), blob)
    peer.send(peer.opening(first))
    peer.advance(60)
    young = dict(peer.packets)
    for _ in range(2):
        peer.now += 75_000
        peer.redeem(hello())  # the filters take turns
    again = peer.send(peer.opening(first, pad_to=1200))
    assert [data.burst + data.place for data in again] == [0, 1, 2]
    assert all(data.nonce != young[1, data.burst + data.place].nonce for data in again)


def test_a_lower_attempt_opens_nothing_after_a_higher_one() -> None:
    """Its generation is closed, but that was marked before it began: the filter would forget it
    while continuations of that generation are young, and the flow would have two live ones.
    """
    peer = running(until=60)
    burst = peer.unclaimed()[-1]
    peer.now += 11_000
    peer.send(peer.opening(burst, attempt=10, proof=1))
    peer.now += 45_000
    assert isinstance(peer.redeem(peer.opening(burst, attempt=9, proof=1)), Refusal)
