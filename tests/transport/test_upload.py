"""Request bytes at the client: kept, read again, hashed as they go out; or not to be kept."""

from __future__ import annotations

import hashlib
import random

from hypothesis import given
from hypothesis import strategies as st

from tests.sim.world import Client, Config, World
from tests.transport.driver import ADDRESS, FLOW, NOW, redeemed, server
from trickles_web.config import BASE_DATAGRAM, ClientConfig
from trickles_web.errors import FlowError
from trickles_web.testing.network import Path
from trickles_web.transport import wire
from trickles_web.transport.flow import Flow
from trickles_web.transport.kept import KeptInMemory
from trickles_web.transport.rtt import RoundTrip
from trickles_web.transport.upload import SILENT_FLIGHTS, STEADY, RequestStream, Uploader
from trickles_web.transport.wire import Kind

WHOLE = random.Random(7).randbytes(4096)

steps = st.lists(
    st.tuples(
        st.sampled_from(["write", "read", "discard", "digest"]),
        st.integers(0, 200),
        st.integers(0, 200),
    ),
    max_size=20,
)


@given(steps)
def test_like_a_plain_byte_string(taken: list[tuple[str, int, int]]) -> None:
    stream = RequestStream()
    start = end = 0
    for step, a, b in taken:
        if step == "write":
            stream.write(WHOLE[end : end + a])
            end += a
        elif step == "read":
            low = min(start + a, end)
            high = min(low + b, end)
            assert stream.read(low, high) == WHOLE[low:high]
        elif step == "discard":
            stream.discard(start + a - 50)
            start = min(max(start, start + a - 50), end)
        else:
            expected = hashlib.blake2b(WHOLE[start:end], digest_size=8).digest()
            assert stream.digest() == expected
            assert stream.unsent == 0
        assert (stream.start, stream.end) == (start, end)
        assert 0 <= stream.unsent <= end - start


class Counted(KeptInMemory):
    """Knows how many bytes were read, and takes no more than it has room for."""

    def __init__(self, room: int = 1 << 40) -> None:
        super().__init__()
        self.read_bytes = 0
        self.longest_read = 0
        self.room = room
        self.broken = False

    def append(self, data: bytes) -> None:
        self.room -= len(data)
        if self.room < 0:
            raise FlowError("no room")
        super().append(data)

    def read(self, start: int, stop: int) -> bytes:
        if self.broken:
            raise FlowError("broken")
        self.read_bytes += stop - start
        self.longest_read = max(self.longest_read, stop - start)
        return super().read(start, stop)


def test_a_digest_costs_no_second_reading() -> None:
    """Writers that are slower than the network have each datagram be the last one for a while."""
    kept = Counted()
    stream = RequestStream(kept)
    whole = hashlib.blake2b(digest_size=8)
    for at in range(0, len(WHOLE), 64):
        stream.write(WHOLE[at : at + 64])
        whole.update(stream.read(at, at + 64))
        assert stream.digest() == whole.digest()
    assert kept.read_bytes == len(WHOLE)
    # A repeat, and what was skipped, are no trouble.
    stream.read(0, 100)
    stream.write(b"skipped" * 30_000)
    stream.read(stream.end - 10, stream.end)
    whole.update(b"skipped" * 30_000)
    assert stream.digest() == whole.digest()
    assert kept.longest_read <= 65_536


class Watched(World):
    """Keeps the kinds of what clients send."""

    def __init__(self, seed: int, config: Config) -> None:
        super().__init__(seed, config)
        self.kinds: list[int] = []

    def up(self, datagram: bytes, client: Client) -> None:
        self.kinds.append(wire.kind_of(datagram))
        super().up(datagram, client)


def uploading(kept: Counted, body: int) -> tuple[Watched, Client]:
    """A world with one flow that uploads so many bytes, begun; run it on."""
    world = Watched(3, Config(path=Path(delay=0.01)))
    client = world.add([(1000, body, 0)])
    client.flow = Flow(b"flow-id!", world.config.client, 0.0, kept=kept)
    return world, client


def test_an_upload_reads_each_byte_once() -> None:
    body = 300_000
    kept = Counted()
    world, client = uploading(kept, body)
    assert world.run(60)
    assert (client.flow.error, client.wrong) == (None, 0)
    opener = 2 * 1200  # goes with the HELLO and again with the first request
    assert body < kept.read_bytes <= body + 16 + opener
    assert kept.longest_read <= 1200


def test_bytes_that_cannot_be_kept_end_the_flow() -> None:
    flow = Flow(b"flow-id!", ClientConfig(), 0.0, kept=Counted(room=1000))
    flow.write(bytes(1000))
    assert flow.error is None
    assert len(flow.transmit(0.0)) == 1
    flow.write(b"x")
    assert str(flow.error) == "no room"
    assert flow.transmit(0.0) == []
    assert flow.timeout() is None


def test_bytes_that_cannot_be_read_end_the_flow_and_the_server_hears_of_it() -> None:
    kept = Counted()
    world, client = uploading(kept, 300_000)
    assert not world.run(0.1)
    assert world.kinds.count(Kind.UPLOAD) > 10
    kept.broken = True
    assert not world.run(0.2)
    assert str(client.flow.error) == "broken"
    assert world.kinds[-1] == Kind.CANCEL
    assert world.kinds.count(Kind.CANCEL) == 1
    assert client.flow.timeout() is None


def test_what_waits_behind_a_response_is_not_taken() -> None:
    """Or a writer that never rests would fill the disk while one response is read slowly."""
    world = World(5, Config())
    client = world.add([(5_000_000, 0, 0)])
    assert world.clock.run(lambda: client.got > 0, 5)
    assert client.flow.untaken() == 0
    client.flow.write(bytes(1_000_000))
    assert client.flow.untaken() == 1_000_000


# What the uploader sends, and in what order

CONTINUATION = bytes(100)


def uploader(size: int) -> Uploader:
    stream = RequestStream()
    stream.write(bytes(size))
    one = Uploader(stream, RoundTrip())
    one.begin(0)
    return one


def sent(one: Uploader, now: float, size: int = BASE_DATAGRAM) -> list[wire.Upload]:
    datagrams = one.transmit(bytes(8), CONTINUATION, now, size)
    assert all(len(datagram) <= size for datagram in datagrams)
    return [wire.decode_upload(datagram) for datagram in datagrams]


def test_a_lost_piece_goes_out_before_the_rest_of_what_was_asked_for_again() -> None:
    one = uploader(10_000_000)
    one.needed(((0, 10_000_000),))
    first = sent(one, 0.0)
    for upload in first[1:]:  # all but the first arrive
        one.acknowledged((upload.number,), 0, 0.1)
    assert sent(one, 0.2)[0].offset == first[0].offset


def test_after_silence_the_lowest_offsets_go_first() -> None:
    one = uploader(1_000_000)
    offsets = [upload.offset for upload in sent(one, 0.0)]
    for _ in range(3):
        now = one.deadline()
        assert now is not None
        again = [upload.offset for upload in sent(one, now)]
        assert again == offsets[: len(again)]


def test_a_window_that_is_not_used_does_not_grow() -> None:
    """RFC 9002 §7.8."""
    one = uploader(100)
    stream = one._stream
    for _ in range(1000):
        stream.write(bytes(100))
        for upload in sent(one, 0.0):
            one.acknowledged((upload.number,), stream.end, 0.1)
    stream.write(bytes(1_000_000))
    assert len(sent(one, 0.2)) <= 11


def test_datagrams_are_as_large_as_the_path_carries_until_they_vanish() -> None:
    one = uploader(10_000_000)
    large, small = (wire.upload_room(CONTINUATION, size) for size in (9000, BASE_DATAGRAM))
    assert {len(upload.request) for upload in sent(one, 0.0, 9000)} == {large}
    for silence in range(1, SILENT_FLIGHTS + 2):
        now = one.deadline()
        assert now is not None
        expected = large if silence < SILENT_FLIGHTS else small
        assert {len(upload.request) for upload in sent(one, now, 9000)} == {expected}


def acknowledge(
    one: Uploader, flying: list[wire.Upload], replica: int, held: int, count: int
) -> None:
    """Let so many datagrams arrive there, of which it holds `held` in one piece."""
    for _ in range(count):
        flying += sent(one, 0.0)
        one.acknowledged((flying.pop(0).number,), held, 0.1, replica)


def test_a_replica_that_lacks_the_beginning_gets_it_at_once() -> None:
    one, flying = uploader(1_000_000), list[wire.Upload]()
    acknowledge(one, flying, replica=1, held=8000, count=STEADY)
    acknowledge(one, flying, replica=2, held=0, count=STEADY - 1)
    assert min(upload.offset for upload in sent(one, 0.2)) > 8000
    one.acknowledged((flying[0].number,), 0, 0.2, 2)
    assert sent(one, 0.3)[0].offset == 0


def test_replicas_that_take_turns_get_what_is_new() -> None:
    one, flying = uploader(10_000_000), list[wire.Upload]()
    acknowledge(one, flying, replica=1, held=8000, count=STEADY)
    for turn in range(100):
        acknowledge(one, flying, replica=1 + turn % 2, held=0, count=1)
    assert min(upload.offset for upload in flying) > 80_000


def test_who_has_the_whole_request_is_asked_and_nobody_else_is_given_it_again() -> None:
    """Two replicas gather it; what one says of its part comes late."""
    flow, one = Flow(FLOW, ClientConfig(), 0.0), server()
    flow.write(bytes(6000))

    def heard(datagram: bytes, held: int, progress: bytes, now: float) -> list[bytes]:
        whole, at = progress == b"whole", NOW + int(now * 1000)
        presented = redeemed(one.redeem(datagram, ADDRESS, at))
        ack = one.acknowledge(presented, held, progress, at, complete=whole)
        assert ack is not None
        flow.receive(ack, now)
        return flow.transmit(now)

    (hello,) = flow.transmit(0.0)
    (opener,) = heard(hello, 0, b"", 0.01)
    uploads = heard(opener, 900, b"part", 0.02)
    assert len(uploads) > 3
    heard(uploads[0], 6000, b"whole", 0.03)
    for late in uploads[1:3]:
        assert heard(late, 2000, b"part", 0.04) == []
    (again,) = flow.transmit(flow.timeout() or 0.0)
    assert redeemed(one.redeem(again, ADDRESS, NOW + 500)).progress == b"whole"
